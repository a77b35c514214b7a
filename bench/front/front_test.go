// Package front measures what the guard costs: go-smtp with a backend that
// throws everything away, by itself and behind the guard, in the same run.
//
//	go test -bench . ./front/
//	go test -run Idle -v ./front/ -idle 10000
package front

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"srsd/internal/guard"
)

var idle = flag.Int("idle", 0, "how many idle connections to open")

type backend struct{}

func (backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	g, _ := c.Conn().(*guard.Conn)
	return session{g}, nil
}

type session struct{ guard *guard.Conn }

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s session) Data(r io.Reader) error {
	if s.guard != nil {
		r = s.guard.Data()
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

type listener struct {
	net.Listener
	cfg *guard.Config
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.cfg == nil {
		return c, err
	}
	return guard.New(c, l.cfg), nil
}

// serve starts a server and returns its address.
func serve(tb testing.TB, guarded bool) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := smtp.NewServer(backend{})
	s.Domain, s.ErrorLog = "mx.test", log.New(io.Discard, "", 0)
	var cfg *guard.Config
	if guarded {
		s.MaxLineLength = 0
		cfg = &guard.Config{Hostname: "mx.test"}
	}
	go s.Serve(listener{l, cfg})
	tb.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(addr string) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn, bufio.NewReader(conn)}
	if err := c.expect("220"); err != nil {
		return nil, err
	}
	return c, c.say("EHLO client.test\r\n", "250")
}

// expect reads one reply.
func (c *client) expect(code string) error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) > 3 && line[3] != '-' {
			if string(line[:3]) != code {
				return fmt.Errorf("%q, want %s", line, code)
			}
			return nil
		}
	}
}

func (c *client) say(s string, codes ...string) error {
	if _, err := io.WriteString(c, s); err != nil {
		return err
	}
	for _, code := range codes {
		if err := c.expect(code); err != nil {
			return err
		}
	}
	return nil
}

// message sends one as a pipelining client does, or a command at a time.
func (c *client) message(body string, pipeline bool) error {
	const mail, rcpt, data = "MAIL FROM:<ann@sender.example> SIZE=4096\r\n", "RCPT TO:<jo@alumni.example>\r\n", "DATA\r\n"
	if pipeline {
		if err := c.say(mail+rcpt+data, "250", "250", "354"); err != nil {
			return err
		}
	} else if err := c.say(mail, "250"); err != nil {
		return err
	} else if err := c.say(rcpt, "250"); err != nil {
		return err
	} else if err := c.say(data, "354"); err != nil {
		return err
	}
	return c.say(body, "250")
}

func body(size int) string {
	const line = "0123456789abcdefghijklmnopqrstuvwxyz and the rest of an ordinary line of text\r\n"
	return "Subject: x\r\n\r\n" + strings.Repeat(line, size/len(line)) + ".\r\n"
}

func BenchmarkMessages(b *testing.B) {
	for _, x := range []struct {
		name     string
		size     int
		pipeline bool
		again    bool // a new session for each
	}{
		{"4KB", 4 << 10, false, false},
		{"4KB-pipelined", 4 << 10, true, false},
		{"4KB-session", 4 << 10, true, true},
		{"100KB", 100 << 10, true, false},
		{"10MB", 10 << 20, true, false},
	} {
		for _, guarded := range []bool{false, true} {
			name := x.name + "/raw"
			if guarded {
				name = x.name + "/guarded"
			}
			b.Run(name, func(b *testing.B) { run(b, serve(b, guarded), body(x.size), x.pipeline, x.again) })
		}
	}
}

// run sends messages over ten connections.
func run(b *testing.B, addr, body string, pipeline, again bool) {
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.SetParallelism(max(1, 10/runtime.GOMAXPROCS(0)))
	var failed atomic.Value
	b.RunParallel(func(pb *testing.PB) {
		var c *client
		var err error
		for pb.Next() {
			if c == nil {
				if c, err = dial(addr); err != nil {
					failed.Store(err)
					return
				}
			}
			if err = c.message(body, pipeline); err != nil {
				failed.Store(err)
				return
			}
			if again {
				c.say("QUIT\r\n", "221")
				c.Close()
				c = nil
			}
		}
		if c != nil {
			c.Close()
		}
	})
	if err := failed.Load(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// TestIdleMemory opens -idle connections that have said EHLO and wait, and
// tells what each costs the server: raw, guarded, and guarded in the middle
// of a message.
func TestIdleMemory(t *testing.T) {
	if *idle == 0 {
		t.Skip("say how many connections with -idle N; their number is limited by ulimit -n")
	}
	for _, x := range []struct {
		name    string
		guarded bool
		then    string
	}{
		{"raw", false, ""},
		{"guarded", true, ""},
		{"guarded, in a message", true, "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nSubject: x\r\n\r\nhalf a line"},
	} {
		t.Run(x.name, func(t *testing.T) {
			addr := serve(t, x.guarded)
			before := memory()
			conns := make([]net.Conn, 0, *idle)
			defer func() {
				for _, c := range conns {
					c.Close()
				}
			}()
			for i := range *idle {
				// Many addresses of the loopback network: more ports.
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 99, byte(i>>14), 1)}}
				c, err := d.Dial("tcp", addr)
				if err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
				conns = append(conns, c)
				if _, err := io.WriteString(c, "EHLO client.test\r\n"+x.then); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(500 * time.Millisecond)
			used := memory() - before
			t.Logf("%s: %d connections, %d octets each", x.name, *idle, used/int64(*idle))
		})
	}
}

// memory is what the process has from the system for heap and stacks, in
// octets. The client's part of a connection (a socket) is in it too; its
// buffers are the kernel's.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}
