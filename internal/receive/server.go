package receive

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"srsd/envelope"
)

// ErrClosed is returned by Serve after Shutdown.
var ErrClosed = errors.New("receive: server closed")

// A Server takes mail on any number of listeners.
type Server struct {
	deliverer Deliverer
	resolver  Resolver
	log       *slog.Logger
	calm      *slog.Logger // for what strangers can cause at will
	now       func() time.Time
	tempDir   string
	room      func() error

	policy   atomic.Pointer[Policy]
	engine   atomic.Pointer[engine]
	tls      func() *tls.Config
	registry *registry
	ids      *ids
	budget   budget
	chunks   chunks

	forgeries forgeries

	context context.Context // of everything that is asked for a client
	cancel  context.CancelFunc

	mu        sync.Mutex
	listeners map[net.Listener]bool
	closed    bool
}

// New makes a server; it does nothing before Serve.
func New(c Config) *Server {
	s := &Server{
		deliverer: c.Deliverer, resolver: c.Resolver, log: c.Logger, now: c.Now, tempDir: c.TempDir,
		room: c.Room, tls: c.TLS, registry: newRegistry(), ids: newIDs(), listeners: map[net.Listener]bool{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.calm = slog.New(calm{s.log.Handler(), &flow{}})
	if s.now == nil {
		s.now = time.Now
	}
	if s.room == nil {
		s.room = func() error { return nil }
	}
	s.budget.limit = c.Memory
	if c.Memory <= 0 {
		s.budget.limit = 256 << 20
	}
	s.context, s.cancel = context.WithCancel(context.Background())
	s.SetPolicy(c.Policy)
	return s
}

// SetPolicy replaces the policy. Transactions under way keep theirs, sessions
// take the new one with their next MAIL. The limits that a session announced
// when it began (SIZE, time, errors) stay as they were for it.
func (s *Server) SetPolicy(p Policy) {
	policy := p.withDefaults(s.now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if most := maxDescriptors() / 2; policy.MaxConnections > most {
		s.log.Warn("fewer connections than configured: half of the file descriptors are for the way out",
			"max_connections", policy.MaxConnections, "possible", most)
		policy.MaxConnections = most
	}
	s.policy.Store(policy)
	if old := s.engine.Swap(newEngine(s, policy)); old != nil {
		old.close()
	}
}

// Serve takes connections from l until Shutdown, then returns ErrClosed. It may
// be called for several listeners at once.
func (s *Server) Serve(l net.Listener) error { return s.serve(l, false) }

// ServeTLS is Serve for clients that begin with TLS (RFC 8314, section 3.3).
func (s *Server) ServeTLS(l net.Listener) error { return s.serve(l, true) }

func (s *Server) serve(l net.Listener, implicit bool) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		l.Close()
		return ErrClosed
	}
	s.listeners[l] = true
	s.mu.Unlock()
	var delay time.Duration
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			s.accept(c, implicit)
		case s.isClosed():
			return ErrClosed
		case isTemporary(err):
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.wait(delay, err)
		default:
			return err
		}
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// isTemporary says whether the next Accept may succeed.
func isTemporary(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// wait waits until there may be places again, and frees descriptors that idle
// clients hold.
func (s *Server) wait(delay time.Duration, err error) {
	s.calm.Warn("cannot accept", "error", err, "delay", delay)
	s.registry.shedIdle(4)
	select {
	case <-time.After(delay):
	case <-s.context.Done():
	}
}

// accept sorts a new connection: who may speak for others does, the rest speak
// for themselves.
func (s *Server) accept(c net.Conn, implicit bool) {
	ip := addressOf(c.RemoteAddr())
	if contains(s.policy.Load().ProxyNetworks, ip) {
		go s.acceptProxied(c, implicit)
		return
	}
	s.admit(c, ip, implicit)
}

func addressOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	if p, err := netip.ParseAddrPort(a.String()); err == nil {
		return p.Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// admit gives the connection to go-smtp, or refuses it where that is cheapest:
// before the banner.
func (s *Server) admit(raw net.Conn, ip netip.Addr, implicit bool) {
	e := s.engine.Load()
	c, err := s.registry.add(ip, e.limits, func() *conn { return s.newConn(raw, e.guard(raw, implicit)) })
	if err != nil {
		s.turnAway(raw, ip, err, implicit)
		return
	}
	for !e.serve(c) {
		if s.context.Err() != nil {
			c.Close()
			return
		}
		e = s.engine.Load() // the policy has changed meanwhile
	}
}

// turnAway says 421 and closes. The socket's buffer is empty, so that this does
// not wait; under TLS there is nobody yet who could read it.
func (s *Server) turnAway(c net.Conn, ip netip.Addr, err error, implicit bool) {
	r := replyBusy
	if errors.Is(err, errDraining) {
		r = replyShutdown
	}
	if !implicit {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		io.WriteString(c, lineOf(r, s.policy.Load().Hostname))
	}
	c.Close()
	s.calm.Info("turned away", "client", ip, "error", err)
}

func lineOf(r envelope.Reply, hostname string) string {
	r.Text = hostname + " " + r.Text
	return r.String() + "\r\n"
}

// Shutdown ends the server: it takes no new connections, says 421 to idle
// clients at once, and waits for those that send a message or wait for its
// answer. When ctx ends first it cuts them off and returns ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	gone := s.registry.drain()
	// Who has not gone by then hangs in a handshake or a lookup.
	late := time.AfterFunc(2*time.Second, s.registry.closeIdle)
	defer late.Stop()
	defer s.engine.Load().close()
	defer s.cancel()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		s.cancel()
		s.registry.closeAll()
		// What is being delivered hears of it too, and ends before we do.
		select {
		case <-gone:
		case <-time.After(time.Second):
		}
		return ctx.Err()
	}
}
