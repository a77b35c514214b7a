package guard

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"
)

func TestStartTLS(t *testing.T) {
	b := &backend{}
	var states []*tls.ConnectionState
	b.hook = func(s *session) error { states = append(states, s.guard.TLS()); return nil }
	dial := serve(t, b, &Config{Hostname: "mx.test", TLS: serverTLS})
	c := dial()
	c.reply()
	if got := c.cmd("EHLO one.test"); !strings.Contains(got, "250-STARTTLS\n") || !strings.HasPrefix(got, "250-mx.test\n") {
		t.Errorf("EHLO in clear: %q", got)
	}
	c.want("MAIL FROM:<a@a.test>", "250", "RCPT TO:<b@b.test>", "250", "STARTTLS", "220")
	if err := c.startTLS(); err != nil {
		t.Fatal(err)
	}
	// RFC 3207, section 4.2: nothing of what was said in clear holds.
	c.want("DATA", "503", "RCPT TO:<b@b.test>", "503", "MAIL FROM:<a@a.test>", "503", "NOOP", "250", "STARTTLS", "503")
	got := c.cmd("EHLO two.test")
	if strings.Contains(got, "STARTTLS") || strings.Contains(got, "CHUNKING") || strings.Contains(got, "REQUIRETLS") || !strings.Contains(got, "PIPELINING") {
		t.Errorf("EHLO inside TLS: %q", got)
	}
	c.want("DATA", "503", "MAIL FROM:<c@c.test>", "250", "RCPT TO:<d@d.test>", "250", "DATA", "354", "x\r\n.", "250")
	if s := b.sessions[0].smtp.Hostname(); s != "two.test" {
		t.Errorf("the name said inside TLS: %q", s)
	}
	if len(states) != 1 || states[0] == nil || states[0].Version != tls.VersionTLS13 {
		t.Errorf("TLS state %v", states)
	}
}

func TestStartTLSRefused(t *testing.T) {
	c := serve(t, &backend{}, &Config{})().open()
	if got := c.cmd("EHLO x.test"); strings.Contains(got, "STARTTLS") {
		t.Errorf("offered without a certificate: %q", got)
	}
	c.want("STARTTLS", "502", "NOOP", "250")
}

// TestHandshakeFails shows that a failed handshake never goes on in clear.
func TestHandshakeFails(t *testing.T) {
	b := &backend{}
	c := serve(t, b, &Config{TLS: serverTLS})().open()
	c.want("STARTTLS", "220")
	c.send(aMessage)
	for _, code := range c.codes(time.Second) {
		if strings.HasPrefix(code, "2") {
			t.Errorf("%s after a failed handshake", code)
		}
	}
	if len(b.got()) > 0 {
		t.Error("a message was accepted")
	}
}

func TestImplicitTLS(t *testing.T) {
	b := &backend{}
	dial := serve(t, b, &Config{TLS: serverTLS, Implicit: true, GreetDelay: 20 * time.Millisecond})
	c := dial()
	if err := c.startTLS(); err != nil {
		t.Fatal(err)
	}
	c.inData().want("x\r\n.", "250", "QUIT", "221")
	if b.sessions[0].guard.TLS() == nil || len(b.got()) != 1 {
		t.Error("the message did not come by TLS")
	}
	c = dial()
	c.send(aMessage)
	if codes := c.codes(time.Second); len(codes) > 1 || len(b.got()) != 1 {
		t.Errorf("in clear: %q, %d messages", codes, len(b.got()))
	}
}
