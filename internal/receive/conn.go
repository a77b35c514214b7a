package receive

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"srsd/internal/guard"
)

// A phase is how much a connection is worth when there are too many: the lower
// ones go first.
type phase int32

const (
	gone       phase = iota - 1 // we have closed it
	greeting                    // nothing useful was said yet
	addressing                  // a recipient was accepted
	sending                     // the client sends a message text
	delivering                  // we owe it the answer to its final dot
)

// A conn is one connection as go-smtp sees it: a guard with a place in the
// registry. A panic in reading or writing ends this connection only.
type conn struct {
	*guard.Conn
	raw    net.Conn // below the guard
	server *Server

	// Set by the registry.
	ip      netip.Addr
	network netip.Prefix
	place   int // -1: none any more

	helo     bool         // the last greeting was HELO, not EHLO
	phase    atomic.Int32 // of type phase
	progress atomic.Int64 // Unix nanoseconds of the last reply, or of the last piece of a text
	once     sync.Once
}

func (s *Server) newConn(raw net.Conn, g *guard.Conn) *conn {
	c := &conn{Conn: g, raw: raw, server: s}
	c.progressed()
	return c
}

// networkOf is the network whose hosts count together.
func networkOf(ip netip.Addr) netip.Prefix {
	bits := 64
	if ip.Is4() {
		bits = 24
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Read gives go-smtp the next command.
func (c *conn) Read(b []byte) (n int, err error) {
	defer c.contain(&err)
	n, err = c.Conn.Read(b)
	if n > 4 {
		switch string(b[:4]) { // the guard gives verbs in capitals, a line at a time
		case "EHLO":
			c.helo = false
		case "HELO":
			c.helo = true
		}
	}
	return n, err
}

// Write takes go-smtp's replies.
func (c *conn) Write(b []byte) (n int, err error) {
	defer c.contain(&err)
	c.progressed()
	return c.Conn.Write(b)
}

// contain ends a connection whose layers have panicked.
func (c *conn) contain(err *error) {
	if r := recover(); r != nil {
		c.server.panicked(c.ip, r)
		c.raw.Close()
		*err = io.EOF
	}
}

func (s *Server) panicked(ip netip.Addr, value any) {
	s.log.Error("panic", "client", ip, "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
}

// Close ends the connection and frees its place. go-smtp calls it for every
// connection, however that ends.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.server.registry.remove(c) })
	return err
}

// evict makes the client go within a second, unless it has come to the end of a
// message by then.
func (c *conn) evict() {
	c.End(replyShed)
	time.AfterFunc(time.Second, func() { c.cut(delivering) })
}

// cut closes the connection, unless it has reached a phase. Then it does not
// reach it any more: whoever is cut off has not handed over a message.
func (c *conn) cut(unless phase) {
	for p := c.getPhase(); p < unless; p = c.getPhase() {
		if c.phase.CompareAndSwap(int32(p), int32(gone)) {
			c.raw.Close()
			return
		}
	}
}

// setPhase says how far the client has come; false where it has been cut off
// meanwhile.
func (c *conn) setPhase(p phase) bool {
	for {
		old := c.getPhase()
		if old == gone {
			return false
		}
		if c.phase.CompareAndSwap(int32(old), int32(p)) {
			return true
		}
	}
}

func (c *conn) getPhase() phase { return phase(c.phase.Load()) }
func (c *conn) progressed()     { c.progress.Store(time.Now().UnixNano()) }

// idle is how long the connection has done nothing useful.
func (c *conn) idle(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, c.progress.Load()))
}

// A textReader is the message text, and proof of progress.
type textReader struct {
	c    *conn
	text io.Reader
}

func (t textReader) Read(b []byte) (int, error) {
	n, err := t.text.Read(b)
	t.c.progressed()
	return n, err
}
