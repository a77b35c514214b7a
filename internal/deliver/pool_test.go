package deliver

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"srsd/envelope"
)

// openNow is how many connections a server has.
func (s *server) openNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for range 3 {
			w.deliver(message("jo.private@target.example"))
		}
		synctest.Wait()
		if n := w.target().openNow(); n != 1 {
			t.Fatalf("%d connections kept", n)
		}
		time.Sleep(2 * idleTime)
		synctest.Wait()
		if n := w.target().openNow(); n != 0 || w.pool.timer != nil {
			t.Errorf("%d connections kept for too long", n)
		}
	})
}

func TestConnectionsPerHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Policy.ConnectionsPerHop = 3 })
		w.target().wait = map[string]time.Duration{"dot": time.Second}
		var all sync.WaitGroup
		for i := range 30 {
			m := message("jo.private@target.example")
			m.ID = fmt.Sprint(i)
			all.Go(func() { w.deliver(m) })
		}
		all.Wait()
		if n := len(w.target().got()); n != 30 || w.target().peak != 3 || w.target().dialled() > 4 {
			t.Errorf("%d messages over %d connections, %d at a time", n, w.target().dialled(), w.target().peak)
		}
	})
}

// A connection is not used for ever, and not under an old policy.
func TestConnectionsAreRenewed(t *testing.T) {
	w := newWorld(t, nil)
	for i := range maxUses + 2 { // the first one is not kept
		m := message("jo.private@target.example")
		m.ID = fmt.Sprint(i)
		if r := w.deliver(m); r.Code != 250 {
			t.Fatal(r)
		}
	}
	if n := w.target().dialled(); n != 3 {
		t.Errorf("%d connections for %d messages", n, maxUses+2)
	}
	w.SetPolicy(Policy{})
	w.deliver(message("jo.private@target.example"))
	if n := w.target().dialled(); n != 4 {
		t.Errorf("%d connections after a reload", n)
	}
}

func TestAuth(t *testing.T) {
	word := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		name   string
		offer  []string
		talk   string // server's and client's lines in turn
		status string // of the error
	}{
		{"PLAIN", []string{"LOGIN", "PLAIN"}, "C: AUTH PLAIN " + word("\x00user\x00secret") + "\nS: 235 2.7.0 welcome", ""},
		{"LOGIN", []string{"LOGIN"}, "C: AUTH LOGIN\nS: 334 " + word("Username:") + "\nC: " + word("user") + "\nS: 334 " + word("Password:") + "\nC: " + word("secret") + "\nS: 235 2.7.0 welcome", ""},
		{"refused", []string{"PLAIN"}, "C: AUTH PLAIN " + word("\x00user\x00secret") + "\nS: 535 5.7.8 secret is wrong", "4.7.8"},
		{"LOGIN asks on", []string{"LOGIN"}, "C: AUTH LOGIN\nS: 334 a\nC: " + word("user") + "\nS: 334 b\nC: " + word("secret") + "\nS: 334 c", "?"},
		{"nothing we know", []string{"CRAM-MD5"}, "", "4.7.4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			go func() {
				r := bufio.NewReader(far)
				for line := range strings.SplitSeq(c.talk, "\n") {
					switch side, text, _ := strings.Cut(line, ": "); side {
					case "C":
						if got, _ := r.ReadString('\n'); got != text+"\r\n" {
							fmt.Fprintf(far, "500 not %q\r\n", got)
							return
						}
					case "S":
						io.WriteString(far, text+"\r\n")
					}
				}
			}()
			x := &conn{net: near, r: bufio.NewReader(near), times: Policy{}.withDefaults().phases(), tls: true, ext: extensions{auth: c.offer}}
			err := x.auth(Credentials{"user", "secret"})
			reply, isReply := err.(envelope.Reply)
			switch {
			case c.status == "" && err != nil, c.status != "" && err == nil, isReply && reply.Status().String() != c.status:
				t.Error(err)
			case err != nil && strings.Contains(err.Error(), "secret"):
				t.Errorf("the password is in %q", err)
			}
		})
	}
}

// BenchmarkDeliver relays messages of 4 KB over loopback, ten at a time, to a
// server that takes everything.
func BenchmarkDeliver(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go takeAll(l)
	w := newWorld(b, func(c *Config) {
		c.Dial = nil
		c.Policy.Smarthost = l.Addr().String()
		c.Policy.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	body := bytes.Repeat([]byte("a line of a message as they come, with some words in it\r\n"), 70)
	b.SetParallelism(5)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if r := w.Deliver(b.Context(), message("jo.private@target.example"), bytes.NewReader(body)); r.Code != 250 {
				b.Error(r)
			}
		}
	})
}

func takeAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r, w := bufio.NewReader(c), bufio.NewWriter(c)
			w.WriteString("220 ready\r\n")
			for data := false; ; {
				if r.Buffered() == 0 {
					w.Flush()
				}
				line, err := r.ReadSlice('\n')
				switch {
				case err != nil:
					return
				case data:
					if string(line) == ".\r\n" {
						data = false
						w.WriteString("250 2.0.0 taken\r\n")
					}
				case string(line) == "DATA\r\n":
					data = true
					w.WriteString("354 go on\r\n")
				case bytes.HasPrefix(line, []byte("EHLO")):
					w.WriteString("250-here\r\n250 PIPELINING\r\n")
				default:
					w.WriteString("250 ok\r\n")
				}
			}
		}()
	}
}
