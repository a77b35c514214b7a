package postfix

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is returned by Serve after Shutdown.
var ErrClosed = errors.New("postfix: server closed")

const (
	defaultConnections = 10_000
	defaultIdle        = 30 * time.Minute

	// maxRequest is the longest line or netstring, in octets: what
	// tcp_table(5) allows, and far more than an address needs.
	maxRequest = 4096
)

// A Server serves Postfix on any number of listeners.
type Server struct {
	config Config
	log    *slog.Logger
	rules  atomic.Pointer[rules]
	ctx    context.Context // of the lookups; ends when Shutdown ends
	cancel context.CancelFunc

	mu        sync.Mutex
	closed    bool
	full      bool // said once, until there is room again
	listeners map[net.Listener]bool
	conns     map[*conn]bool
	running   sync.WaitGroup
}

// New makes a server; it does nothing before Serve.
func New(c Config) *Server {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = defaultConnections
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = defaultIdle
	}
	s := &Server{config: c, log: c.Logger, listeners: map[net.Listener]bool{}, conns: map[*conn]bool{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.SetSettings(c.Settings)
	return s
}

// SetSettings replaces the settings. What is asked from now on is answered by
// them; a message that a milter has begun keeps those it began with.
func (s *Server) SetSettings(settings Settings) { s.rules.Store(newRules(settings)) }

// Serve answers at a door until Shutdown, then returns ErrClosed. It may be
// called for several listeners at once.
func (s *Server) Serve(l net.Listener, d Door) error {
	serve, ok := map[Door]func(*conn) error{
		Sender: s.serveSender, Recipient: s.serveRecipient, Socketmap: s.serveSocketmap, Policy: s.servePolicy, Milter: s.serveMilter,
	}[d]
	if !ok {
		return fmt.Errorf("postfix: there is no door %q", d)
	}
	if !s.enlist(l) {
		return ErrClosed
	}
	for pause := time.Duration(0); ; {
		c, err := l.Accept()
		if err == nil {
			pause = 0
			s.admit(c, d, serve)
			continue
		}
		if s.isClosed() {
			return ErrClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of file descriptors, or a connection that ended too early: the
		// listener lives on.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.log.Warn("accept failed", "door", string(d), "error", err)
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
		}
	}
}

func (s *Server) enlist(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return false
	}
	s.listeners[l] = true
	return true
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// admit starts the goroutine of a connection, or closes it where there are too
// many.
func (s *Server) admit(raw net.Conn, d Door, serve func(*conn) error) {
	c := newConn(raw, s.config.IdleTimeout)
	s.mu.Lock()
	if s.closed || len(s.conns) >= s.config.MaxConnections {
		said := s.full || s.closed
		s.full = true
		s.mu.Unlock()
		raw.Close()
		if !said {
			s.log.Warn("too many connections", "door", string(d), "limit", s.config.MaxConnections)
		}
		return
	}
	s.full = false
	s.conns[c] = true
	s.running.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		defer s.dismiss(c)
		defer func() {
			if v := recover(); v != nil {
				s.log.Error("panic, the connection ends", "door", string(d), "client", raw.RemoteAddr().String(), "error", fmt.Sprint(v))
			}
		}()
		err := serve(c)
		if errors.Is(err, errMalformed) {
			c.linger()
		}
		if err != nil && !isEnd(err) {
			s.log.Warn("connection ended", "door", string(d), "client", raw.RemoteAddr().String(), "error", err)
		}
	}()
}

func (s *Server) dismiss(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.Close()
}

// isEnd says whether an error is the ordinary end of a connection.
func isEnd(err error) bool {
	var timeout net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &timeout) // a time limit, a reset
}

// Shutdown ends the server: it takes no new connections, answers what has been
// asked, lets a milter end its message, and closes. When ctx ends first it cuts
// the rest off and returns ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		s.cancel()
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		<-done
	}
	s.cancel()
	return err
}

// A conn is a connection that writes its answers when it waits for requests.
type conn struct {
	net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	idle time.Duration

	mu       sync.Mutex
	armed    time.Time // when the deadline was last set
	busy     bool      // in the middle of something that must not be torn
	draining bool
}

func newConn(raw net.Conn, idle time.Duration) *conn {
	c := &conn{Conn: raw, idle: idle}
	c.r = bufio.NewReaderSize(c, maxRequest)
	c.w = bufio.NewWriterSize(raw, maxRequest)
	return c
}

// Read sends the answers that are ready, then waits for more to read.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.w.Flush(); err != nil {
		return 0, err
	}
	if err := c.arm(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// arm sets the deadline of the next wait; an old one is good for a while.
func (c *conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining && !c.busy {
		return io.EOF
	}
	now := time.Now()
	if now.Sub(c.armed) < c.idle/16 {
		return nil
	}
	c.armed = now
	return c.SetDeadline(now.Add(c.idle))
}

// setBusy says whether the connection is in the middle of something.
func (c *conn) setBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = busy
}

// drain ends the connection as soon as it waits and is not busy.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if !c.busy {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	}
}

// linger sends what is left and waits a moment for the client to close. A client
// that has sent more than was read would lose the last answer to a reset.
func (c *conn) linger() {
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if c.w.Flush() != nil {
		return
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, 1<<20)
	}
}
