package receive

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

const own = "mx.alumni.example"

// What claims to be our judgement goes, whatever it looks like.
func TestResultsInOurNameAreFound(t *testing.T) {
	forged := []string{
		own + "; spf=pass", "MX.ALUMNI.EXAMPLE; spf=pass", own + " 1; spf=pass", own + ";spf=pass", "  " + own + "  ; spf=pass",
		"\r\n\t" + own + ";\r\n spf=pass", "(comment) " + own + "; x=y", own + " (comment); x=y", "(a (nested) \\) one)\r\n " + own + "; x=y",
		`"` + own + `"; spf=pass`, `"mx.al\umni.example"; spf=pass`, own, own + ";", own + "\t1\t;\tnone", own + ".; spf=pass", own + "(;)1; none",
		"mx.\r\n alumni.example; none", own + "\r\n", "ｍｘ.alumni.example; none", "mx.alumni。example; none", "(" + own + "\r\n) " + own + " 1 (v);",
	}
	for _, v := range forged {
		if !inNameOf([]byte(v), own) {
			t.Errorf("not found: %q", v)
		}
	}
	others := []string{
		"mx.other.example; spf=fail", own + ".evil.example; spf=pass", "x" + own + "; spf=pass", "alumni.example; spf=pass",
		"", ";", "(" + own + ") mx.other.example; spf=pass", "mx.other.example; x=(" + own + ")", "mx.other.example (" + own + ";) 1; none", `"a;` + own + `"; x`,
	}
	for _, v := range others {
		if inNameOf([]byte(v), own) {
			t.Errorf("a foreign one is taken for ours: %q", v)
		}
	}
	if !inNameOf([]byte("mx.bücher.example; none"), "mx.xn--bcher-kva.example") {
		t.Error("the other spelling of an international name hides it")
	}
}

func TestScanHeader(t *testing.T) {
	block := "Received: from a by b.example; Sat\r\n" +
		"received : from c\r\n\tby MX.alumni.example (by x) with ESMTP; Sat\r\n" +
		"Received: from mx.alumni.example by other.example\r\n" +
		"Delivered-To: <JO@Alumni.example>\r\n" +
		"delivered-to: two@alumni.example\r\n" +
		"Delivered-To: nonsense\r\n" +
		"no field at all\r\n" +
		"Authentication-Results: mx.alumni.example;\r\n spf=pass\r\n" +
		"Authentication-Results: other.example; spf=pass\r\n\r\n"
	s := scanHeader([]byte(block), own)
	if s.received != 3 || s.ours != 1 || len(s.deliveredTo) != 2 || len(s.forged) != 1 || s.folded {
		t.Errorf("%+v", s)
	}
	f := s.forged[0]
	if got := block[f[0]:f[1]]; got != "Authentication-Results: mx.alumni.example;\r\n spf=pass\r\n" {
		t.Errorf("%q", got)
	}
	if !scanHeader([]byte(" folded\r\n\r\n"), own).folded {
		t.Error("a first line that continues ours is not seen")
	}
}

// The largest header costs milliseconds, whatever it is made of.
func TestHostileHeadersCostLittle(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, maxHeader/len(s)) + "\r\n\r\n" }
	for what, block := range map[string]string{
		"fields": fill("a:\r\n"), "received": fill("Received: by x\r\n"), "delivered-to": fill("Delivered-To: a@b\r\n"),
		"results": fill("Authentication-Results: mx.bücher.example\r\n"), "nested comments": "Authentication-Results: " + fill("("),
		"backslashes": "Authentication-Results: " + fill("\\"), "quotes": "Authentication-Results: " + fill("\"()"), "folds": "Received: " + fill("\r\n "),
		"words": "Received: " + fill("by "), "one name": "Authentication-Results: " + fill("x"), "dots": "Authentication-Results: " + fill("."),
		"foreign letters": "Authentication-Results: " + fill("ü"), "all letters": "Authentication-Results: " + fill(allLetters()),
		"some letters": fill("Authentication-Results: " + allLetters()[:999] + "\r\n"), "lines": fill("\r\n "), "no line end": fill("x"),
	} {
		began := time.Now()
		scanHeader([]byte(block), own)
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: %v", what, took)
		}
	}
}

// allLetters is many letters, none of them twice: the work of Punycode grows
// with their number and with the number of different ones.
func allLetters() string {
	var b strings.Builder
	for r := '\u4e00'; r < '\u9fa5'; r++ {
		b.WriteRune(r)
	}
	return b.String()
}

// FuzzScanHeader: scanning never panics; what it finds are whole lines; when
// they are cut out, nothing is found any more and nothing else has changed.
func FuzzScanHeader(f *testing.F) {
	for _, s := range []string{
		"", "\r\n", "a", "Authentication-Results: mx.alumni.example; none\r\n\r\n", "Authentication-Results: (\r\n x) \"mx.alumni.example\"\r\n",
		"Received: by mx.alumni.example\r\nAuthentication-Results:mx.alumni.example\r\n folded\r\nX: y\r\n\r\n", ":\r\n", "Delivered-To: <\"\\\"@x\r\n", "\n\n\r\n \r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		found := scanHeader(block, own)
		m := message{mem: bytes.Clone(block)}
		m.cut(found.forged)
		removed := 0
		rest := string(block)
		for i := len(found.forged) - 1; i >= 0; i-- {
			r := found.forged[i]
			if r[0] > 0 && block[r[0]-1] != '\n' {
				t.Fatalf("%v of %q is no whole field", r, block)
			}
			removed += r[1] - r[0]
			rest = rest[:r[0]] + rest[r[1]:]
		}
		if string(m.mem) != rest || len(block)-len(m.mem) != removed {
			t.Fatalf("%q became %q", block, m.mem)
		}
		if again := scanHeader(m.mem, own); len(again.forged) > 0 {
			t.Fatalf("%q still has %v", m.mem, again.forged)
		}
	})
}

func TestCommentsCannotBreakOut(t *testing.T) {
	got := string(appendComment(nil, "a) by mx.alumni.example; (\r\nX-Injected: yes\\"+strings.Repeat("x", 1000)))
	if strings.ContainsAny(got, "\r\n") || len(got) > 320 {
		t.Errorf("%q", got)
	}
	if withoutComments("("+got+")") != " " {
		t.Errorf("the comment ends early: %q", got)
	}
}

func TestRepliesStayPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a\r\nb": "a?\nb", "x\x00\x1b\xff": "x???", "two\nlines": "two\nlines", "end\n": "end",
		strings.Repeat("y", 1000): strings.Repeat("y", 480),
	} {
		if got := printable(in); got != want {
			t.Errorf("%.20q: %.40q", in, got)
		}
	}
	if got := printable(strings.Repeat("l\n", 100)); strings.Count(got, "\n") > 10 {
		t.Errorf("%d lines", strings.Count(got, "\n"))
	}
}
