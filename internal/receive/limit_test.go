package receive_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/internal/receive"
)

// flood opens n connections, from address(i), and reads no banner.
func flood(t *testing.T, addr string, n int, address func(i int) string) []*peer {
	t.Helper()
	var out []*peer
	t.Cleanup(func() {
		for _, p := range out {
			p.Close()
		}
	})
	for i := range n {
		p, err := tryDial(t, addr, address(i))
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		out = append(out, p)
	}
	return out
}

func tally(peers []*peer) map[string]int {
	out := map[string]int{}
	for _, p := range peers {
		code := p.replyWithin(time.Second)
		out[code[:min(3, len(code))]]++
	}
	return out
}

func distinct(i int) string { return fmt.Sprintf("127.%d.%d.7", 80+i/250, 1+i%250) }

// One address has its limit; another is served at once.
func TestOneAddressHasItsLimit(t *testing.T) {
	b := start(t, func(c *receive.Config) { c.Policy.MaxConnectionsPerIP = 30 })
	peers := flood(t, b.addr, 300, func(int) string { return "127.77.9.1" })
	if got := tally(peers); got["220"] != 30 || got["421"] != 270 {
		t.Errorf("%v", got)
	}
	began := time.Now()
	p := b.openFrom(t, "127.77.10.1")
	if got := p.send(hello); !strings.HasPrefix(got, "250") || time.Since(began) > time.Second {
		t.Errorf("%s after %v", got, time.Since(began))
	}
	for _, p := range peers {
		p.Close()
	}
	eventually(t, "the address is shut out for good", func() bool {
		p, err := tryDial(t, b.addr, "127.77.9.1")
		if err != nil {
			return false
		}
		defer p.Close()
		return strings.HasPrefix(p.reply(), "220")
	})
}

func TestANetworkHasItsLimit(t *testing.T) {
	b := start(t, func(c *receive.Config) { c.Policy.MaxConnectionsPerNetwork = 10 })
	peers := flood(t, b.addr, 20, func(i int) string { return fmt.Sprintf("127.77.11.%d", 1+i) })
	if got := tally(peers); got["220"] != 10 || got["421"] != 10 {
		t.Errorf("%v", got)
	}
	b.openFrom(t, "127.77.12.1")
}

// Slow clients fill every place; a newcomer gets its banner and its 250.
func TestANewcomerFindsAPlace(t *testing.T) {
	for name, slow := range map[string]string{"idle": "", "slow": "EHLO slow"} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *receive.Config) { c.Policy.MaxConnections = 300 })
			busy := b.openFrom(t, "127.77.13.1")
			busy.envelope("ann@sender.example", "jo@alumni.example")
			busy.do("DATA", "354")
			peers := flood(t, b.addr, 400, distinct)
			for _, p := range peers {
				p.raw(slow)
			}
			began := time.Now()
			p := dial(t, b.addr, "127.200.251.7")
			p.want("220")
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("banner after %v", d)
			}
			p.do("EHLO new.example", "250")
			if got := p.send(hello); !strings.HasPrefix(got, "250") || time.Since(began) > 10*time.Second {
				t.Errorf("%s after %v", got, time.Since(began))
			}
			busy.raw(hello + ".\r\n")
			busy.want("250") // who was in a message has not been sent away
		})
	}
}

// 5,000 idle clients cost little each.
func TestManyIdleClientsCostLittle(t *testing.T) {
	if !*long {
		t.Skip("slow: run with -long")
	}
	const n = 5000
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < 2*n+500 {
		t.Skipf("needs %d file descriptors: ulimit -n", 2*n+500)
	}
	b := start(t)
	before := heapAndStacks()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range n {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(distinct(i))}}
		c, err := d.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	began := time.Now()
	p := dial(t, b.addr, "127.200.251.7")
	p.want("220")
	banner := time.Since(began)
	p.do("EHLO new.example", "250")
	if got := p.send(hello); !strings.HasPrefix(got, "250") || banner > 2*time.Second {
		t.Errorf("banner after %v, %s", banner, got)
	}
	each := (heapAndStacks() - before) / n
	t.Logf("%d idle clients: %d octets each, banner after %v", n, each, banner)
	if each > 20<<10 {
		t.Errorf("%d octets each", each)
	}
}

func heapAndStacks() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// Idle sessions hear 421 at once, a message under way is finished, new
// clients are refused, and Shutdown returns.
func TestDraining(t *testing.T) {
	b := start(t)
	idle, busy, waiting, addressing := b.open(t), b.open(t), b.open(t), b.open(t)
	silent := dial(t, b.addr, "")
	silent.want("220")
	addressing.envelope("ann@sender.example", "jo@alumni.example")
	busy.envelope("ann@sender.example", "jo@alumni.example")
	busy.do("DATA", "354")
	busy.raw(hello)
	release := make(chan struct{})
	var delivering atomic.Bool
	b.deliver = func(_ context.Context, m envelope.Message, _ envelope.Body) envelope.Reply {
		if m.ReversePath.Local() == "slow" {
			delivering.Store(true)
			<-release
		}
		return envelope.NewReply(250, envelope.EnhancedCode{2, 0, 0}, "accepted")
	}
	waiting.envelope("slow@sender.example", "jo@alumni.example")
	waiting.do("DATA", "354")
	waiting.raw(hello + ".\r\n")
	eventually(t, "it is not delivered", delivering.Load)

	done := make(chan error, 1)
	began := time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- b.server.Shutdown(ctx)
	}()
	for name, p := range map[string]*peer{"idle": idle, "addressing": addressing, "silent": silent} {
		if got := p.reply(); !strings.HasPrefix(got, "421") || time.Since(began) > time.Second {
			t.Errorf("%s: %q after %v", name, got, time.Since(began))
		}
		if got := p.reply(); got != "" {
			t.Errorf("%s: still open: %q", name, got)
		}
	}
	if p, err := tryDial(t, b.addr, ""); err == nil {
		if got := p.reply(); strings.HasPrefix(got, "2") {
			t.Errorf("a new client: %q", got)
		}
		p.Close()
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown did not wait: %v", err)
	default:
	}
	close(release)
	busy.raw(".\r\n")
	busy.want("250")
	busy.want("421")
	waiting.want("250")
	waiting.want("421")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(b.all()); n != 2 {
		t.Errorf("%d delivered", n)
	}
}

// A client that hangs in its handshake does not hold up the end.
func TestDrainingDoesNotWaitForHandshakes(t *testing.T) {
	t.Parallel()
	config := certificate(t)
	b := start(t, func(c *receive.Config) { c.TLS = tlsFunc(config) })
	addr := b.listen(t, b.server.ServeTLS)
	dial(t, addr, "")
	b.openFrom(t, "127.77.0.9") // by now the silent one has been accepted too
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	if err := b.server.Shutdown(ctx); err != nil || time.Since(began) > patience {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestShutdownCutsWhatTakesTooLong(t *testing.T) {
	b := start(t)
	p := b.open(t)
	p.envelope("ann@sender.example", "jo@alumni.example")
	p.do("DATA", "354")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := b.server.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Error(err)
	}
	for got := p.reply(); got != ""; got = p.reply() {
		if got[0] == '2' || got == "silence" {
			t.Error(got)
		}
	}
	if err := b.server.Serve(nopListener{}); err != receive.ErrClosed {
		t.Error(err)
	}
}

type nopListener struct{ net.Listener }

func (nopListener) Close() error { return nil }

// The policy changes under load; no session is dropped, no message
// refused.
func TestReloadUnderLoad(t *testing.T) {
	b := start(t)
	policy := receive.Policy{Hostname: "mx.alumni.example", Router: b.backend, SPF: b.backend}
	stop := make(chan struct{})
	var sent atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p, err := tryDial(t, b.addr, "")
				if err != nil {
					t.Error(err)
					return
				}
				p.want("220")
				p.do("EHLO client.example", "250")
				for range 3 {
					if got := p.send(hello); !strings.HasPrefix(got, "250") {
						t.Errorf("refused: %q", got)
					}
					sent.Add(1)
				}
				p.Close()
			}
		})
	}
	for range 100 {
		b.server.SetPolicy(policy)
		time.Sleep(2 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if n := int32(len(b.all())); n != sent.Load() {
		t.Errorf("%d sent, %d delivered", sent.Load(), n)
	}
	policy.MaxMessage = 12345
	b.server.SetPolicy(policy)
	if got := dialAndGreet(t, b.addr); !strings.Contains(got, "SIZE 12345") {
		t.Errorf("the new limit is not announced: %s", got)
	}
}

func dialAndGreet(t *testing.T, addr string) string {
	p := dial(t, addr, "")
	p.want("220")
	return p.do("EHLO client.example", "250")
}

// Without file descriptors the loop goes on, and the log stays short.
func TestAcceptGoesOnWithoutDescriptors(t *testing.T) {
	b := start(t)
	inner, err := net.Listen("tcp", "127.77.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &starved{Listener: inner}
	l.failures.Store(8)
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(l) }()
	b.addr = inner.Addr().String()
	if got := b.open(t).send(hello); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	if n := strings.Count(b.log.String(), "cannot accept"); n < 1 || n > 20 {
		t.Errorf("%d log lines for 8 failures", n)
	}
	inner.Close()
	if err := <-done; err == nil {
		t.Error("Serve returned without an error")
	}
}

type starved struct {
	net.Listener
	failures atomic.Int32
}

func (s *starved) Accept() (net.Conn, error) {
	if s.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

func TestPROXYHeaders(t *testing.T) {
	b := start(t, func(c *receive.Config) {
		c.Policy.ProxyNetworks = []netip.Prefix{netip.MustParsePrefix("127.77.20.0/24")}
		c.Policy.MaxConnectionsPerIP = 2
	})
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + "\xcb\x00\x71\x09" + "\x7f\x4d\x00\x01" + "\x04\x00\x00\x19"
	for head, ip := range map[string]string{
		"PROXY TCP4 203.0.113.7 127.77.0.1 5000 25\r\n": "203.0.113.7", "PROXY TCP6 2001:db8::7 2001:db8::1 5000 25\r\n": "2001:db8::7", v2: "203.0.113.9",
	} {
		p := dial(t, b.addr, "127.77.20.1")
		p.raw(head)
		p.want("220")
		p.do("EHLO client.example", "250")
		p.send(hello)
		if got := b.last(t).Client.IP; got != netip.MustParseAddr(ip) {
			t.Errorf("%q: client %s", head, got)
		}
	}
	for _, head := range []string{"EHLO client.example\r\n", "PROXY TCP4 nonsense\r\n", "PROXY UNKNOWN\r\n"} {
		p := dial(t, b.addr, "127.77.20.1")
		p.raw(head)
		if got := p.reply(); strings.HasPrefix(got, "220") && head != "PROXY UNKNOWN\r\n" {
			t.Errorf("%q: %s", head, got)
		}
	}
	// Whoever is no proxy speaks for itself: the header is a foreign protocol.
	p := dial(t, b.addr, "127.77.21.1")
	p.raw("PROXY TCP4 203.0.113.7 127.77.0.1 5000 25\r\n")
	p.want("220")
	p.want("5")
	// The limits are those of the client named, not of the proxy.
	for range 2 {
		p := dial(t, b.addr, "127.77.20.1")
		p.raw("PROXY TCP4 203.0.113.8 127.77.0.1 5000 25\r\n")
		p.want("220")
	}
	p = dial(t, b.addr, "127.77.20.1")
	p.raw("PROXY TCP4 203.0.113.8 127.77.0.1 5000 25\r\n")
	p.want("421")
}
