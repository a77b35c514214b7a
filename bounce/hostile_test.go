package bounce

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// monsters are texts made to cost time or memory.
func monsters() map[string]string {
	head := "From: MAILER-DAEMON@mx.target.example\nMIME-Version: 1.0\n"
	kind := "Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\n\n"
	fill := func(s string) string { return strings.Repeat(s, maxReport/len(s)-40) }
	nested, closing := "", ""
	for i := range 1000 {
		nested += fmt.Sprintf("Content-Type: multipart/mixed; boundary=\"n%d\"\n\n--n%d\n", i, i)
		closing = fmt.Sprintf("--n%d--\n", i) + closing
	}
	return map[string]string{
		"ten thousand parts":  head + kind + strings.Repeat("--b\nContent-Type: text/plain\n\n<jo.private@target.example>\n", 10_000) + "--b--\n",
		"a thousand nested":   head + nested + closing,
		"delimiters or not":   head + kind + fill("--b-\n"),
		"a delimiter a line":  head + kind + fill("--b\n"),
		"header fields":       head + fill("a:\n"),
		"one long field":      head + "X: " + fill("jo.private@target.example, "),
		"one long fold":       head + "X:\n" + fill(" x\n"),
		"signs":               head + kind + "--b\n\n<jo@alumni.example>\n" + fill("@"),
		"signs and domains":   head + kind + "--b\n\n<jo@alumni.example>\n" + fill("@target.example"),
		"half of it":          head + kind + "--b\n\n<jo@alumni.example>\n" + fill("jo.privat@target.example "),
		"all of it":           head + kind + "--b\n\n<jo@alumni.example>\n" + fill("jo.private@target.example "),
		"addresses":           head + kind + "--b\n\n<jo@alumni.example>\n" + numbered("user%d@x%d.example\n"),
		"addresses that fail": head + kind + "--b\nContent-Type: message/delivery-status\n\n" + numbered("Final-Recipient: rfc822; u%d@x%d.example\n\n"),
		"addresses of ours":   head + kind + "--b\n\n" + numbered("u%d@x%d.alumni.example\n"),
		"words":               head + kind + "--b\n\n<jo@alumni.example>\n" + fill("jo.private "),
		"letters":             head + kind + "--b\n\n<jo@alumni.example>\n" + fill("j"),
		"equal signs":         head + kind + "--b\n\n<jo@alumni.example>\n" + fill("="),
		"encoded words":       head + "X-Failed-Recipients: jo.private@target.example\nSubject: " + fill("=?utf-8?q?a?=\n "),
		"pieces":              head + "X-Failed-Recipients: jo.private@target.example\nContent-Type: text/plain" + fill("; n*1=a") + "\n\n",
		"entities":            head + kind + "--b\n\n<jo@alumni.example>\n" + fill("&#64;"),
		"tags":                head + kind + "--b\n\n<jo@alumni.example>\n" + fill("<"),
		"base64":              head + kind + "--b\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte(fill("jo.private@target.example ")[:350_000])),
		"base64 as text":      head + kind + "--b\n\n<jo@alumni.example>\n" + fill("QUJD"),
		"broken base64":       head + kind + "--b\nContent-Transfer-Encoding: base64\n\n" + fill("QUJ!"),
		"quoted-printable":    head + kind + "--b\nContent-Transfer-Encoding: quoted-printable\n\n<jo@alumni.example>\n" + fill("=40"),
		"copies":              head + "\n" + fill("--- Below this line is a copy\n"),
		"blank lines":         head + kind + "--b\nContent-Type: message/delivery-status\n\n" + fill("\n"),
	}
}

func numbered(format string) string {
	var b strings.Builder
	for i := 0; b.Len() < maxReport-1000; i++ {
		fmt.Fprintf(&b, format, i, i)
	}
	return b.String()
}

// TestHideIsQuick hides nothing for longer than 100 ms on an idle machine; the
// bound here leaves room for a busy one and for the race detector.
func TestHideIsQuick(t *testing.T) {
	for name, text := range monsters() {
		text = crlf(text)
		start := time.Now()
		got := hide(t, text[:min(len(text), maxReport)])
		took := time.Since(start)
		t.Logf("%-20s %7d octets %8s", name, len(text), took.Round(10*time.Microsecond))
		if took > 3*time.Second {
			t.Errorf("%s: %s", name, took)
		}
		if strings.Contains(got, "jo.private@target.example") || len(got) < 100_000 && seek([]byte(got), "jo.private@target.example") != nil {
			t.Errorf("%s leaks", name)
		}
	}
}

// A zeroes is a large body that takes no memory.
type zeroes int64

func (z zeroes) Size() int64 { return int64(z) }
func (z zeroes) ReadAt(p []byte, off int64) (int, error) {
	head := "X-Failed-Recipients: jo.private@target.example\r\n\r\n"
	for i := range p {
		p[i] = 'x'
	}
	if off < int64(len(head)) {
		copy(p, head[off:])
	}
	if off+int64(len(p)) > int64(z) {
		return int(int64(z) - off), io.EOF
	}
	return len(p), nil
}

// TestHideLargeBody reads the beginning of 50 MB only.
func TestHideLargeBody(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body, err := testHider().Hide(zeroes(50<<20), ann, "abc123")
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	got, _ := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if !isOwnReport(string(got)) || !bytes.Contains(got, []byte("jo@alumni.example")) {
		t.Errorf("%.2000s", got)
	}
	if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 20 {
		t.Errorf("%d MB allocated", n)
	}
}

// TestMIMERoundTrip takes apart and puts together what rapid makes up.
func TestMIMERoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOf(rapid.SampledFrom([]string{
			"--b", "--b--", "--c", "--c--", "", "", "Content-Type: multipart/mixed; boundary=b", "Content-Type: multipart/report;\r\n boundary=\"c\"",
			"Content-Type: message/rfc822", "Content-Type: text/plain", "Content-Transfer-Encoding: base64", "X: y", " folded", "text", "--b ", "\t",
		})).Draw(t, "lines")
		text := strings.Join(lines, "\r\n")
		root, err := parseMessage([]byte(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		root.write(&b)
		if b.String() != text {
			t.Fatalf("%q became %q", text, b.String())
		}
	})
}

// ways are how a line may name a target.
var ways = map[string]func(string) string{
	"plain":   func(s string) string { return "for <" + s + ">" },
	"upper":   strings.ToUpper,
	"percent": func(s string) string { return "mailto:" + strings.ReplaceAll(s, "@", "%40") },
	"xtext":   func(s string) string { return "rfc822;" + strings.NewReplacer("@", "+40", ".", "+2E").Replace(s) },
	"html":    func(s string) string { return "<b>" + strings.ReplaceAll(s, "@", "&#64;") + "</b>" },
	"hexhtml": func(s string) string { return "<b>" + strings.ReplaceAll(s, ".", "&#x2E;") + "</b>" },
	"verp":    func(s string) string { return "list+" + strings.ReplaceAll(s, "@", "=") + "@list.example" },
	"folded":  func(s string) string { return "to\n " + s + "\n failed" },
	"torn":    func(s string) string { return s[:14] + "\n " + s[14:] },
	"q word":  func(s string) string { return mime.QEncoding.Encode("iso-8859-1", "é "+s) },
	"b word":  func(s string) string { return mime.BEncoding.Encode("utf-8", "é "+s) },
	"base64":  func(s string) string { return base64.StdEncoding.EncodeToString([]byte("x" + s)) },
	"words":   func(s string) string { return "unknown user " + s[:strings.Index(s, "@")] },
	"nothing": func(string) string { return "nothing" },
}

// TestHideProperty makes reports that name the target in random ways in random
// places, and searches what comes out.
func TestHideProperty(t *testing.T) {
	names := sortedKeys(ways)
	rapid.Check(t, func(t *rapid.T) {
		way := func(label string) string {
			return ways[rapid.SampledFrom(names).Draw(t, label)]("jo.private@target.example")
		}
		content := func(label string) (encoding, text string) {
			text = crlf(way(label) + "\n" + way(label) + "\n")
			switch encoding = rapid.SampledFrom([]string{"7bit", "base64", "quoted-printable"}).Draw(t, label+" encoding"); encoding {
			case "base64":
				text = base64.StdEncoding.EncodeToString([]byte(text))
			case "quoted-printable":
				var b bytes.Buffer
				w := quotedprintable.NewWriter(&b)
				io.WriteString(w, text)
				w.Close()
				text = b.String()
			}
			return encoding, text
		}
		part := func(kind string) string {
			encoding, text := content(kind)
			return "Content-Type: " + kind + "\nContent-Transfer-Encoding: " + encoding + "\nX-Field: " + way(kind+" field") + "\n\n" + text
		}
		status := joStatus
		if rapid.Bool().Draw(t, "no status") {
			status = ""
		}
		returned := "Content-Type: message/rfc822\n\nReceived: " + way("received") + "\nDelivered-To: jo@alumni.example\n" + part("text/plain")
		if rapid.Bool().Draw(t, "headers only") {
			returned = "Content-Type: text/rfc822-headers\n\nReceived: " + way("received") + "\nDelivered-To: jo@alumni.example\n"
		}
		text := report(part(rapid.SampledFrom([]string{"text/plain", "text/html", "application/octet-stream"}).Draw(t, "kind")),
			"X-Note: "+way("status")+"\n"+status, strings.ReplaceAll(returned, "\r\n", "\n"))
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
		out, err := testHider().Hide(bytes.NewReader([]byte(text)), ann, "abc123")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(io.NewSectionReader(out, 0, out.Size()))
		if forms := seek(got, "jo.private@target.example"); forms != nil {
			t.Fatalf("leaks as %v:\n%s\nfrom\n%s", forms, got, text)
		}
		if !bytes.Contains(got, []byte("jo@alumni.example")) {
			t.Fatalf("the alias is gone:\n%s", got)
		}
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// FuzzHide gives Hide what it likes: it does not panic, it does not leak, and
// what it takes apart goes together again.
func FuzzHide(f *testing.F) {
	files, _ := filepath.Glob("testdata/reports/*.eml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(crlf(string(data))))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if root, err := parseMessage(text); err == nil {
			var b bytes.Buffer
			if root.write(&b); !bytes.Equal(b.Bytes(), text) {
				t.Fatalf("%q became %q", text, b.Bytes())
			}
		}
		got := hide(t, string(text))
		if got == string(text) {
			return
		}
		// A secret that is written as it is, or in a form that is common, is gone
		// from whatever was changed.
		for _, form := range seek([]byte(got), "jo.private@target.example") {
			switch form {
			case "raw", "folded", "quoted-printable", "percent", "base64":
				t.Errorf("leaks as %s: %q", form, got)
			}
		}
	})
}

func BenchmarkHide(b *testing.B) {
	data, err := os.ReadFile("testdata/reports/postfix.eml")
	if err != nil {
		b.Fatal(err)
	}
	small := crlf(string(data))
	large := strings.Replace(small, "Hello Jo.\r\n", strings.Repeat("A line of the message that comes back with the report.\r\n", 8_000), 1)
	for name, text := range map[string]string{"small": small, "large": large} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				hide(b, text)
			}
		})
	}
}
