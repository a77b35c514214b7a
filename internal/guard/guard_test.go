package guard

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMessage(t *testing.T) {
	b := &backend{}
	c := serve(t, b, &Config{})().inData()
	c.send("Subject: x\r\n\r\n..dot\r\n.x\r\n\r\nend\r\n.\r\n")
	if got := c.reply(); got[:3] != "250" {
		t.Fatal(got)
	}
	c.want("QUIT", "221")
	if diff := cmp.Diff([]string{"Subject: x\r\n\r\n.dot\r\nx\r\n\r\nend\r\n"}, b.got()); diff != "" {
		t.Error(diff)
	}
}

// TestFirstLine shows that a session which begins badly is over.
func TestFirstLine(t *testing.T) {
	b := &backend{}
	dial := serve(t, b, &Config{})
	for _, first := range []string{"GET / HTTP/1.1\n", "EHLO x.test\n", "EHLO x\x00\r\n", "\x16\x03\x01", "x\r\n", " EHLO x\r\n", strings.Repeat("x", 5000) + "\r\n"} {
		c := dial()
		c.reply()
		c.send(first)
		if got := c.reply(); got == "" || got[0] != '5' || c.reply() != "" {
			t.Errorf("%.20q: %q", first, got)
		}
	}
	if len(b.sessions) > 0 {
		t.Errorf("%d sessions began", len(b.sessions))
	}
}

// TestCheap shows that a client in the middle of a message costs hardly more
// behind the guard than with go-smtp alone, which takes about 15 KB for it: its
// buffers, and the next size of stack. How many there may be is not the guard's
// to say. What other tests have left comes and goes meanwhile, so one quiet
// moment in five is enough.
func TestCheap(t *testing.T) {
	const most = 8 << 10
	extra := 0
	for range 5 {
		raw, guarded := each300(t, nil), each300(t, &Config{})
		t.Logf("octets each, with the client's end: %d raw, %d guarded", raw, guarded)
		if extra = guarded - raw; extra <= most {
			return
		}
	}
	t.Errorf("%d octets more each", extra)
}

// each300 is what each of 300 clients in a message costs.
func each300(t *testing.T, cfg *Config) int {
	const n = 300
	dial := serve(t, &backend{}, cfg)
	before := memory()
	for range n {
		c := &client{Conn: dial().Conn}
		c.send("EHLO client.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nhalf a message")
	}
	time.Sleep(brief)
	return (memory() - before) / n
}

func memory() int {
	runtime.GC()
	runtime.GC() // what lies in a sync.Pool lives through one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

// A text that did not wait for 354 is text, whatever became of DATA.
func TestTextInThePipeline(t *testing.T) {
	b := &backend{}
	dial := serve(t, b, &Config{})
	c := dial().open()
	c.send("MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nMAIL FROM:<inner@a.test>\r\n.\r\n")
	if codes := strings.Join(c.codes(brief), " "); codes != "250 250 354 250" {
		t.Errorf("behind an accepted DATA: %s", codes)
	}
	c = dial().open()
	c.send("MAIL FROM:<a@a.test>\r\nRCPT TO:<nobody@b.test>\r\nDATA\r\nRSET\r\nMAIL FROM:<inner@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nx\r\n.\r\n")
	if codes := strings.Join(c.codes(brief), " "); codes != "250 550 554 closed" {
		t.Errorf("behind a refused DATA: %s", codes)
	}
	c = dial().open()
	c.send("MAIL FROM:<a@a.test>\r\nRCPT TO:<nobody@b.test>\r\nDATA\r\n") // as RFC 2920 has it
	if codes := strings.Join(c.codes(brief), " "); codes != "250 550 503" {
		t.Errorf("a refused DATA with nothing behind it: %s", codes)
	}
	if got := b.got(); len(got) != 1 || got[0] != "MAIL FROM:<inner@a.test>\r\n" {
		t.Errorf("%q", got)
	}
}

// TestMessageClearsScore shows that who delivers may go on making mistakes.
func TestMessageClearsScore(t *testing.T) {
	c := serve(t, &backend{}, &Config{MaxErrors: 3, MaxCommands: 5})().open()
	for range 3 {
		c.want("FOO", "500", "FOO", "500", "NOOP", "250", "RSET", "250",
			"MAIL FROM:<a@a.test>", "250", "RCPT TO:<b@b.test>", "250", "DATA", "354", "x\r\n.", "250")
	}
	c.want("FOO", "500", "FOO", "500", "FOO", "500")
	if got := c.reply(); got[:3] != "421" || c.reply() != "" {
		t.Errorf("too many errors: %q", got)
	}
}
