package deliver

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"srsd/envelope"
)

func TestReadReply(t *testing.T) {
	for _, c := range []struct {
		in   string
		want envelope.Reply
	}{
		{"250 ok\r\n", envelope.Reply{Code: 250, Text: "ok"}},
		{"250\r\n", envelope.Reply{Code: 250}},
		{"250 ok\n", envelope.Reply{Code: 250, Text: "ok"}},
		{"550 5.1.1 no such user\r\n", envelope.Reply{Code: 550, Enhanced: envelope.EnhancedCode{5, 1, 1}, Text: "no such user"}},
		{"250-2.1.0 one\r\n250-2.1.0 two\r\n250 2.1.0 three\r\n", envelope.Reply{Code: 250, Enhanced: envelope.EnhancedCode{2, 1, 0}, Text: "one\ntwo\nthree"}},
		{"250-a\r\n250-\r\n250 \r\n", envelope.Reply{Code: 250, Text: "a\n\n"}},
		{"550 4.1.1 of another class\r\n", envelope.Reply{Code: 550, Text: "4.1.1 of another class"}},
		{"550 5.1.1.1 no code\r\n", envelope.Reply{Code: 550, Text: "5.1.1.1 no code"}},
		{"550 5.1234.1 too long\r\n", envelope.Reply{Code: 550, Text: "5.1234.1 too long"}},
		{"550 5.7.1\r\n", envelope.Reply{Code: 550, Enhanced: envelope.EnhancedCode{5, 7, 1}}},
		{"354 3.0.0 go\r\n", envelope.Reply{Code: 354, Text: "3.0.0 go"}},
		{"250 " + strings.Repeat("x", 9000) + "\r\n", envelope.Reply{Code: 250, Text: strings.Repeat("x", 9000)}},
	} {
		got, err := readReply(bufio.NewReader(strings.NewReader(c.in)))
		if d := cmp.Diff(c.want, got); err != nil || d != "" {
			t.Errorf("%.40q: %v %s", c.in, err, d)
		}
	}
}

func TestReadReplyRefuses(t *testing.T) {
	for _, in := range []string{"hello\r\n", "25\r\n", "650 x\r\n", "150 x\r\n", "2x0 x\r\n", "250x\r\n", "250-a\r\n251 b\r\n", "\r\n"} {
		if got, err := readReply(bufio.NewReader(strings.NewReader(in))); !errors.Is(err, errReply) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "250", "250-a\r\n"} {
		if _, err := readReply(bufio.NewReader(strings.NewReader(in))); !errors.Is(err, io.EOF) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// endless is a server that does not come to an end.
type endless struct {
	line string
	read int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n+len(e.line) <= len(p) {
		n += copy(p[n:], e.line)
	}
	e.read += n
	return n, nil
}

func TestReplyBudget(t *testing.T) {
	for _, line := range []string{"250-and so on\r\n", "x", "250-" + strings.Repeat("y", 1000) + "\r\n"} {
		e := &endless{line: line}
		if _, err := readReply(bufio.NewReader(e)); !errors.Is(err, errReply) {
			t.Errorf("%.20q: %v", line, err)
		}
		if e.read > 2*replyBudget {
			t.Errorf("%.20q: read %d octets", line, e.read)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add("250-2.1.0 a\r\n250 b\r\n")
	f.Add("550 5.1.1 no\n")
	f.Add("250-\r\n250")
	f.Fuzz(func(t *testing.T, in string) {
		r, err := readReply(bufio.NewReader(strings.NewReader(in)))
		if err != nil {
			return
		}
		if r.Code < 200 || r.Code > 599 || len(r.Text) > len(in) {
			t.Errorf("%q: %v", in, r)
		}
		if r.Enhanced != (envelope.EnhancedCode{}) && r.Enhanced[0] != r.Code/100 {
			t.Errorf("%q: %v", in, r.Enhanced)
		}
	})
}
