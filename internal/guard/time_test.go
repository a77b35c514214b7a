package guard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"srsd/envelope"
)

// bubble runs f in a bubble where time passes by itself, with a guarded server.
func bubble(t *testing.T, cfg *Config, f func(t *testing.T, b *backend, dial func() *client)) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		p := newPipe()
		s := newServer(b)
		done := make(chan struct{})
		go func() { s.Serve(listener{p, cfg}); close(done) }()
		f(t, b, func() *client {
			conn := p.dial()
			t.Cleanup(func() { conn.Close() })
			return newClient(t, conn)
		})
		s.Close()
		<-done
	})
}

func TestIdle(t *testing.T) {
	bubble(t, &Config{Idle: time.Minute}, func(t *testing.T, b *backend, dial func() *client) {
		for what, f := range map[string]func(c *client){
			"nothing": func(c *client) {},
			"a command an octet at a time": func(c *client) {
				for i := range 59 {
					c.send("NOOP xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"[i : i+1])
					time.Sleep(time.Second)
				}
			},
		} {
			start := time.Now()
			c := dial().open()
			f(c)
			if got := c.within(time.Hour); !strings.HasPrefix(got, "421 4.4.2") {
				t.Errorf("%s: %q", what, got)
			}
			if d := time.Since(start); d != time.Minute {
				t.Errorf("%s: ended after %v", what, d)
			}
			c.send("MAIL FROM:<a@a.test>\r\n")
			if got := c.reply(); got != "" {
				t.Errorf("%s: then %q", what, got)
			}
		}
	})
}

// TestTextTimeout shows that a pause in a message is 421, and that what comes
// after it never runs (facts of go-smtp: it ran as commands).
func TestTextTimeout(t *testing.T) {
	bubble(t, &Config{Idle: time.Minute}, func(t *testing.T, b *backend, dial func() *client) {
		c := dial().inData()
		c.send("Subject: x\r\n\r\nhalf\r\n")
		time.Sleep(61 * time.Second)
		go c.send("MAIL FROM:<c@c.test>\r\nRCPT TO:<d@d.test>\r\nDATA\r\nx\r\n.\r\n")
		if got := c.reply(); !strings.HasPrefix(got, "421 4.4.2") {
			t.Errorf("%q", got)
		}
		if got := c.reply(); got != "" {
			t.Errorf("then %q", got)
		}
		if len(b.got()) != 0 || len(b.mails) != 1 {
			t.Errorf("%d messages, %d times MAIL", len(b.got()), len(b.mails))
		}
	})
}

// TestDeafClient shows that a client which does not take its replies is left
// after Idle.
func TestDeafClient(t *testing.T) {
	bubble(t, &Config{Idle: time.Minute}, func(t *testing.T, b *backend, dial func() *client) {
		c := dial().open()
		c.send("NOOP\r\n")
		start := time.Now()
		for err := error(nil); err == nil; time.Sleep(time.Second) {
			c.SetWriteDeadline(time.Now().Add(time.Millisecond))
			if _, err = c.Write([]byte("x")); errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			}
		}
		if d := time.Since(start); d < time.Minute || d > time.Minute+5*time.Second {
			t.Errorf("left after %v", d)
		}
	})
}

// TestFalseEnd shows that a client which takes something else for the end of
// its message learns within seconds that the message is refused.
func TestFalseEnd(t *testing.T) {
	bubble(t, &Config{}, func(t *testing.T, b *backend, dial func() *client) {
		for _, end := range []string{"x\n.\n", "x\r.\r", "x\r\r\n.\r\r\n"} {
			c := dial().inData()
			c.send(end)
			start := time.Now()
			if got := c.within(time.Hour); !strings.HasPrefix(got, "550 5.6.11") || time.Since(start) > refusedIdle {
				t.Errorf("%q: %q after %v", end, got, time.Since(start))
			}
			if got := c.reply(); got != "" {
				t.Errorf("%q: then %q", end, got)
			}
		}
	})
}

// TestRate shows that an honest slow sender passes with the default limits and
// that a drip does not.
func TestRate(t *testing.T) {
	for _, x := range []struct {
		what        string
		first, rate int // octets at once, then a second
		total       int
		code        string
		least, most time.Duration
	}{
		{"10 MB at 20 KB/s", 0, 20_000, 10_000_000, "250", 499 * time.Second, 501 * time.Second},
		{"1 octet a second", 0, 1, 10_000, "421", 5 * time.Minute, 5*time.Minute + 3*time.Second},
		{"10 KB, then 1 octet a second", 10_000, 1, 20_000, "421", 5 * time.Minute, 5*time.Minute + 30*time.Second},
		{"for ever", 0, 20_000, 100_000_000, "421", time.Hour, time.Hour},
	} {
		t.Run(x.what, func(t *testing.T) {
			bubble(t, &Config{}, func(t *testing.T, b *backend, dial func() *client) {
				c := dial().inData()
				start := time.Now()
				stop := make(chan struct{})
				c.SetWriteDeadline(time.Time{})
				go func() {
					defer close(stop)
					drip(c, x.first, x.rate, x.total)
				}()
				got := c.within(3 * time.Hour)
				d := time.Since(start)
				if !strings.HasPrefix(got, x.code) || d < x.least || d > x.most {
					t.Errorf("%q after %v", got, d)
				}
				c.Close()
				<-stop
			})
		})
	}
}

// drip sends a message of total octets: first at once, then rate a second.
func drip(w io.Writer, first, rate, total int) {
	line := strings.Repeat("x", 98) + "\r\n"
	piece := strings.Repeat(line, rate/len(line))
	if piece == "" {
		piece = strings.Repeat("x", rate)
	}
	_, err := io.WriteString(w, strings.Repeat(line, first/len(line)))
	for sent := first; sent < total && err == nil; sent += rate {
		_, err = io.WriteString(w, piece)
		time.Sleep(time.Second)
	}
	io.WriteString(w, "\r\n.\r\n")
}

func TestSessionEnds(t *testing.T) {
	bubble(t, &Config{Session: 10 * time.Minute, MaxCommands: 1e6}, func(t *testing.T, b *backend, dial func() *client) {
		c := dial().open()
		start := time.Now()
		go func() {
			for range 15 {
				c.send("NOOP\r\n")
				time.Sleep(40 * time.Second)
			}
		}()
		for strings.HasPrefix(c.within(time.Hour), "250") {
		}
		if d := time.Since(start); d != 10*time.Minute {
			t.Errorf("it took %v", d)
		}
	})
}

func TestGreetDelay(t *testing.T) {
	bubble(t, &Config{GreetDelay: 5 * time.Second}, func(t *testing.T, b *backend, dial func() *client) {
		start := time.Now()
		dial().open()
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("a patient client was greeted after %v", d)
		}
		c := dial()
		time.Sleep(4 * time.Second)
		go c.send("EHLO x.test\r\n")
		if got := c.reply(); !strings.HasPrefix(got, "554") || c.reply() != "" {
			t.Errorf("a client that did not wait: %q", got)
		}
	})
}

// TestEnd shows that End reaches an idle session at once, one with half a
// command too, and one in a message after its answer.
func TestEnd(t *testing.T) {
	bye := envelope.NewReply(421, envelope.EnhancedCode{4, 3, 2}, "bye")
	bubble(t, &Config{Hostname: "mx.test"}, func(t *testing.T, b *backend, dial func() *client) {
		var conns []*Conn
		b.hook = func(s *session) error { s.guard.End(bye); return nil }
		for _, half := range []string{"", "NOO"} {
			c := dial().open()
			c.want("MAIL FROM:<a@a.test>", "250")
			c.send(half)
			synctest.Wait()
			conns = append(conns, last(b))
			start := time.Now()
			conns[len(conns)-1].End(bye)
			if got := c.reply(); got != "421 4.3.2 mx.test bye" || c.reply() != "" || time.Since(start) > 0 {
				t.Errorf("with %q: %q after %v", half, got, time.Since(start))
			}
		}
		c := dial().inData()
		last(b).End(bye)
		synctest.Wait()
		if got := c.cmd("x\r\n."); !strings.HasPrefix(got, "250") {
			t.Errorf("the message: %q", got)
		}
		if got := c.reply(); !strings.HasPrefix(got, "421") || c.reply() != "" {
			t.Errorf("then %q", got)
		}
	})
}

// last is the connection of the newest session.
func last(b *backend) *Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[len(b.sessions)-1].guard
}

// TestUnread shows that a session may leave a message unread: the connection
// stays in step, and nothing is accepted that was not checked.
func TestUnread(t *testing.T) {
	for _, x := range []struct {
		answer error
		body   string
		want   string
	}{
		{nil, "fine", "250"},
		{nil, "b\nare", "550"},
		{fmt.Errorf("no"), "b\nare", "554"},
		{envelopeError(452), "b\nare", "554"},
	} {
		b := &backend{early: true, hook: func(*session) error { return x.answer }}
		c := serve(t, b, &Config{})().inData()
		c.send(strings.Repeat("x\r\n", 50_000) + x.body + "\r\n.\r\nNOOP\r\n")
		if got := c.reply(); !strings.HasPrefix(got, x.want) {
			t.Errorf("%v, %q: %q", x.answer, x.body, got)
		}
		c.want("NOOP", "250")
	}
}

func envelopeError(code int) error {
	return envelope.NewReply(code, envelope.EnhancedCode{4, 0, 0}, "later")
}
