package spf_test

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"srsd/spf"
)

func TestReceivedSPF(t *testing.T) {
	o := spf.Outcome{Result: spf.PermError, Identity: spf.MailFrom, Mechanism: "a:x.example",
		Reason: "void lookup limit exceeded (2), at a:x.example of example.com"}
	got := o.ReceivedSPF("mx.alumni.example", netip.MustParseAddr("192.0.2.1"), `evil"; x=`, "ann@example.com")
	want := "permerror (mx.alumni.example: void lookup limit exceeded \\(2\\),\r\n" +
		"\tat a:x.example of example.com) receiver=mx.alumni.example;\r\n" +
		"\tclient-ip=192.0.2.1; envelope-from=\"ann@example.com\"; helo=\"evil\\\"; x=\";\r\n" +
		"\tmechanism=\"a:x.example\"; identity=mailfrom"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Whatever a stranger says, the field stays one field.
func TestReceivedSPFIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\r\nSubject: x", "a\nb", `\`, `"`, "(((", ")", ";", strings.Repeat("é", 900), "\x00\x7f"}))
		o := spf.Outcome{Result: spf.Fail, Identity: spf.HELO, Mechanism: text.Draw(t, "mechanism"), Reason: text.Draw(t, "reason")}
		field := o.ReceivedSPF(text.Draw(t, "receiver"), netip.Addr{}, text.Draw(t, "helo"), text.Draw(t, "from"))
		for i, line := range strings.Split("Received-SPF: "+field, "\r\n") {
			if len(line) > 998 {
				t.Fatalf("a line of %d octets", len(line))
			}
			if i > 0 && (len(line) < 2 || line[0] != '\t' || line[1] == ' ') {
				t.Fatalf("line %q does not continue the field", line)
			}
			if strings.ContainsFunc(strings.TrimPrefix(line, "\t"), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("line %q is not printable ASCII", line)
			}
		}
		if n := balance(t, field); n != 0 {
			t.Fatalf("%d comments stay open in %q", n, field)
		}
	})
}

// balance reads comments and quoted strings and returns how deep the end is.
func balance(t *rapid.T, s string) (depth int) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && (quoted || depth > 0):
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		}
		if depth < 0 || depth > 1 {
			t.Fatalf("comments out of balance at %d in %q", i, s)
		}
	}
	if quoted {
		t.Fatalf("a quoted string stays open in %q", s)
	}
	return depth
}
