package guard

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A script is a client that says everything at once and hears nothing.
type script struct {
	net.Conn // of no use
	in       io.Reader
	out      bytes.Buffer
	served   chan struct{}
	accepted bool
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Close() error {
	select {
	case <-s.served:
	default:
		close(s.served)
	}
	return nil
}

// A once is a listener for one connection.
type once struct{ *script }

func (o once) Accept() (net.Conn, error) {
	if !o.accepted {
		o.accepted = true
		return New(o.script, &Config{Hostname: "mx.test"}), nil
	}
	<-o.served
	return nil, net.ErrClosed
}
func (o once) Addr() net.Addr { return o.LocalAddr() }

// play runs a whole dialogue and returns what the server said and logged.
func play(t *testing.T, b *backend, in []byte) (said, logged string) {
	var errors bytes.Buffer
	s := newServer(b)
	s.ErrorLog = log.New(&errors, "", 0)
	c := &script{in: bytes.NewReader(in), served: make(chan struct{})}
	done := make(chan struct{})
	go func() { s.Serve(once{c}); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		panic(fmt.Sprintf("the session hangs: %q", in))
	}
	s.Shutdown(t.Context()) // waits for the session's goroutine
	return c.out.String(), errors.String()
}

var (
	oneReply = regexp.MustCompile(`^(\d\d\d-[ -~\x80-\xff]*\r\n)*\d\d\d( [ -~\x80-\xff]*)?\r\n`)
	mailLine = regexp.MustCompile(`(?i)^mail from:.*$`)
)

// checkDialogue says what no dialogue may lead to, whatever the client says.
func checkDialogue(t *testing.T, in []byte) {
	b := &backend{}
	said, logged := play(t, b, in)
	if strings.Contains(logged, "panic") {
		t.Errorf("panic: %s", logged)
	}
	for rest := said; rest != ""; {
		r := oneReply.FindString(rest)
		if r == "" {
			t.Fatalf("no reply: %.100q", rest)
		}
		rest = rest[len(r):]
	}
	// RFC 5321, section 4.1.1.4: one message for one CRLF.CRLF, no more.
	if ends := strings.Count(string(in), "\r\n.\r\n"); len(b.messages) > ends {
		t.Errorf("%d messages, CRLF.CRLF stands there %d times", len(b.messages), ends)
	}
	lines := 0
	for _, l := range strings.Split(string(in), "\r\n") {
		if mailLine.MatchString(l) && !strings.ContainsAny(l, "\r\n\x00") {
			lines++
		}
	}
	if len(b.mails) > lines {
		t.Errorf("MAIL ran %d times, and was said %d times", len(b.mails), lines)
	}
	for _, m := range b.messages {
		stuffed := strings.ReplaceAll("\r\n"+m, "\r\n.", "\r\n..")
		loose := strings.ReplaceAll(strings.ReplaceAll(string(in), "\r\n..", "\r\n."), "\r\n.", "\r\n")
		if plain := strings.ReplaceAll(m, "\r\n", ""); strings.ContainsAny(plain, "\r\n\x00") {
			t.Errorf("a bare line end or NUL in %q", m)
		}
		if !strings.Contains(string(in), stuffed+".\r\n") && !strings.Contains(loose, strings.ReplaceAll(m, "\r\n.", "\r\n")) {
			t.Errorf("the message %q was not said", m)
		}
	}
}

var dialogues = []string{
	aMessage + "QUIT\r\n",
	"EHLO a\r\nMAIL FROM:<a@a.test> SIZE=5 BODY=8BITMIME\r\nRCPT TO:<postmaster>\r\nDATA\r\n..x\r\n.\r\nRSET\r\nNOOP\r\nVRFY a\r\nHELP\r\nQUIT\r\nNOOP\r\n",
	"HELO [127.0.0.1]\r\nMAIL FROM:<>\r\nRCPT TO:<\"a>b\"@b.test> NOTIFY=NEVER ORCPT=rfc822;a@b\r\nDATA\r\nb\nare\r\n.\r\nBDAT 5 LAST\r\nabcde",
	"GET / HTTP/1.1\r\n" + aMessage,
	"\x16\x03\x01" + aMessage,
	"NOOP\n" + aMessage,
	"EHLO " + strings.Repeat("x", 3000) + "\r\n" + aMessage + aMessage[len("EHLO h.test\r\n"):],
	"STARTTLS\r\nSTARTTLS x\r\nAUTH PLAIN\r\nEXPN x\r\n\r\nFOO\r\nEHLO j\u00f6.test\r\nMAIL FROM:<j\u00f6@a.test> SMTPUTF8\r\n",
	aMessage[:len(aMessage)-3],
}

func TestDialogues(t *testing.T) {
	for _, d := range dialogues {
		checkDialogue(t, []byte(d))
	}
}

func FuzzSession(f *testing.F) {
	for _, d := range dialogues {
		f.Add([]byte(d))
	}
	f.Fuzz(checkDialogue)
}
