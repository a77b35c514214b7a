package receive_test

import (
	"bufio"
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"srsd/internal/receive"
)

// inBubble runs a server whose clients are pipes, in a bubble where time passes
// by itself. Limits are those of a policy that names none.
func inBubble(t *testing.T, run func(t *testing.T, b *bed, connect func() *peer)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bed{backend: &backend{}, log: &lockedBuffer{}}
		l := pipes{make(chan net.Conn), make(chan struct{})}
		b.server = receive.New(receive.Config{
			Deliverer: b.backend, Policy: receive.Policy{Hostname: "mx.alumni.example", Router: b.backend},
		})
		served := make(chan error, 1)
		go func() { served <- b.server.Serve(l) }()
		run(t, b, func() *peer {
			ours, theirs := net.Pipe()
			l.conns <- theirs
			p := &peer{Conn: ours, t: t, r: bufio.NewReader(ours)}
			p.want("220")
			p.do("EHLO client.example", "250")
			return p
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-served
	})
}

// 10 MB at 20 KB/s take 500 seconds and are accepted.
func TestASlowHonestSenderIsHeard(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed, connect func() *peer) {
		p := connect()
		defer p.Close()
		p.envelope("ann@sender.example", "jo@alumni.example")
		p.do("DATA", "354")
		p.raw("Subject: slow\r\n\r\n")
		second := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz--\r\n", 512)
		for range 500 {
			p.raw(second)
			time.Sleep(time.Second)
		}
		p.raw(".\r\n")
		p.want("250")
		if m := b.last(t); m.Size < 10_000_000 {
			t.Errorf("%d octets", m.Size)
		}
	})
}

// Who sends an octet a second, or NOOP after NOOP, is sent away, with 4yz.
func TestADripEnds(t *testing.T) {
	for name, c := range map[string]struct {
		drip   string
		inData bool
		most   time.Duration
	}{
		"a text": {"x", true, 20 * time.Minute}, "a command": {"x", false, 10 * time.Minute}, "harmless commands": {"NOOP\r\n", false, 2 * time.Minute},
	} {
		inBubble(t, func(t *testing.T, b *bed, connect func() *peer) {
			p := connect()
			defer p.Close()
			if c.inData {
				p.envelope("ann@sender.example", "jo@alumni.example")
				p.do("DATA", "354")
			}
			began := time.Now()
			heard := make(chan string)
			go func() {
				last := ""
				for {
					p.SetReadDeadline(time.Time{})
					line, err := p.r.ReadString('\n')
					if err != nil {
						heard <- last
						return
					}
					last = line
				}
			}()
			ended := false
			for !ended && time.Since(began) < 2*time.Hour {
				p.SetWriteDeadline(time.Now().Add(time.Second))
				p.raw(c.drip)
				time.Sleep(time.Second)
				select {
				case last := <-heard:
					ended = true
					if !strings.HasPrefix(last, "421") {
						t.Errorf("%s: %q", name, last)
					}
				default:
				}
			}
			if took := time.Since(began); !ended || took > c.most {
				t.Errorf("%s: %v", name, took)
			}
			if len(b.all()) != 0 {
				t.Errorf("%s: delivered", name)
			}
		})
	}
}

// Nobody stays longer than a session lasts, however busy.
func TestASessionHasAnEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed, connect func() *peer) {
		p := connect()
		defer p.Close()
		began := time.Now()
		for ended := false; !ended && time.Since(began) < 2*time.Hour; time.Sleep(10 * time.Second) {
			// The other end of the pipe may be writing, so we write beside.
			go p.raw("MAIL FROM:<ann@sender.example>\r\nRCPT TO:<jo@alumni.example>\r\nDATA\r\n" + hello + ".\r\n")
			for range 4 {
				got := p.reply()
				ended = ended || got == "" || strings.HasPrefix(got, "421")
			}
		}
		if took := time.Since(began); took > 61*time.Minute || took < 59*time.Minute {
			t.Errorf("after %v", took)
		}
		if n := len(b.all()); n < 300 {
			t.Errorf("%d messages until then", n)
		}
	})
}
