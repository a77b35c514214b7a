package guard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"srsd/envelope"
)

// errEnding is why a wait for a command ends when End was called.
var errEnding = errors.New("guard: session ends")

// Read gives go-smtp the next command, or the placeholder of a message text.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.handed) == 0 {
		c.handed = c.next()
	}
	if len(c.handed) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.handed)
	c.handed = c.handed[n:]
	return n, nil
}

// next is the next line for go-smtp, nil when the session is over. go-smtp asks
// for it only when it has answered the line before, so the phase is known.
func (c *Conn) next() []byte {
	switch c.phase {
	case phaseText:
		c.drain()
		return []byte(".\r\n")
	case phaseAnswer:
		if !c.text.placeheld {
			c.text.placeheld = true
			return []byte(".\r\n")
		}
		return nil
	}
	for c.err == nil && !c.closed() {
		if r := c.endReply(); !r.IsZero() {
			c.hangUp(r, r == replyTooMany)
			break
		}
		line, err := c.readLine()
		if err != nil {
			c.readFailed(err)
			break
		}
		if handed := c.command(line); handed != nil {
			return handed
		}
	}
	return nil
}

// closed says whether the last words were said, or Close was called: go-smtp
// asks for one more command then.
func (c *Conn) closed() bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.dead
}

func (c *Conn) endReply() envelope.Reply {
	if c.errors >= c.cfg.maxErrors() || c.junk >= c.cfg.maxCommands() || c.deferred >= maxDeferred {
		return replyTooMany
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// readFailed ends a session that waited for a command.
func (c *Conn) readFailed(err error) {
	var refused envelope.Reply
	switch {
	case errors.As(err, &refused):
		c.hangUp(refused, true)
	case errors.Is(err, errEnding), errors.Is(err, os.ErrDeadlineExceeded):
		if r := c.endReply(); !r.IsZero() {
			c.hangUp(r, false)
		} else {
			c.hangUp(replyIdle, false)
		}
	default: // the client has gone; a command without its line end never runs
		c.stop()
	}
}

// A line is a command line as it came.
type line struct {
	text string // without its CRLF
	bad  envelope.Reply
}

// readLine reads one command line, all of which must come within Idle. What
// ends in a bare LF is a line too, a bad one, and so is what follows it up to
// CRLF: a client and a server that disagree about the end of a line must not
// disagree about what is a command.
func (c *Conn) readLine() (line, error) {
	deadline := time.Now().Add(c.cfg.idle())
	seen := 0
	for {
		b := c.in[c.r:c.w]
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			b = b[:seen+i+1]
			c.r += len(b)
			return c.checkLine(b), nil
		}
		if !c.known && len(b) > 0 && !isAlpha(b[0]) && b[0] != '\r' {
			return line{}, replyNotSMTP // as a TLS ClientHello, which need not have a line end
		}
		if len(b) > maxLine+1 {
			c.overlong += len(b) - 1
			c.r = c.w - 1 // the last octet may be the CR of its CRLF
			if c.overlong > maxJunk {
				return line{}, replyLongLine
			}
		}
		seen = c.w - c.r
		if err := c.fill(deadline, true); err != nil {
			return line{}, err
		}
	}
}

func (c *Conn) checkLine(b []byte) line {
	text, crlf := bytes.CutSuffix(b, []byte("\r\n"))
	tainted, overlong := c.tainted || !crlf, c.overlong > 0
	c.tainted, c.overlong = !crlf, 0
	switch {
	case overlong || len(text) > maxLine:
		return line{bad: replyLongLine}
	case tainted || bytes.IndexByte(text, '\r') >= 0:
		return line{bad: replyBareInLine}
	case bytes.IndexByte(text, 0) >= 0:
		return line{bad: replyControl}
	}
	return line{text: string(text)}
}

// fill waits for more from the client, after it was told everything that was
// said: only here are replies sent, so that a pipeline of commands gets its
// replies in one piece (RFC 2920, section 3.2).
func (c *Conn) fill(deadline time.Time, command bool) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.makeRoom()
	if end := c.start.Add(c.cfg.session()); deadline.After(end) {
		deadline = end
	}
	if err := c.wait(deadline, command); err != nil {
		return err
	}
	n, err := c.conn.Read(c.in[c.w:])
	c.full = n == len(c.in)-c.w
	c.w += n
	if command {
		c.mu.Lock()
		c.waiting = false
		c.mu.Unlock()
	}
	if n > 0 {
		return nil
	}
	return err
}

// wait sets the deadline of a read, unless End was there first.
func (c *Conn) wait(deadline time.Time, command bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if command && !c.ending.IsZero() {
		return errEnding
	}
	c.waiting = command
	return c.conn.SetReadDeadline(deadline)
}

// makeRoom moves what is unused to the front of the buffer: the large one where
// a message text begins, most of which come whole then, or comes in faster than
// the small one takes it.
func (c *Conn) makeRoom() {
	left := c.in[c.r:c.w]
	switch wantBig := c.phase == phaseText && (c.full || c.text.n == 0); {
	case wantBig && c.big == nil:
		c.big, _ = c.cfg.buffers.Get().(*[bigBuffer]byte)
		if c.big == nil {
			c.big = new([bigBuffer]byte)
		}
		c.in = c.big[:]
		copy(c.in, left)
	case !wantBig && c.big != nil && len(left) < smallBuffer/2:
		c.in = c.small[:]
		copy(c.in, left)
		c.cfg.buffers.Put(c.big)
		c.big = nil
	default:
		copy(c.in, left)
	}
	c.r, c.w = 0, len(left)
}

// hangUp says the last words of a session; linger, to a client that may still
// be talking.
func (c *Conn) hangUp(r envelope.Reply, linger bool) {
	c.log("session ended by the guard", r)
	c.say(r)
	if c.stop() == nil && linger {
		c.linger()
	}
}

// linger lets the last words arrive: a connection closed over unread octets is
// reset, and they would be lost. It takes a moment at most.
func (c *Conn) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok {
		return
	}
	half.CloseWrite()
	c.conn.SetReadDeadline(time.Now().Add(time.Second / 4))
	io.Copy(io.Discard, io.LimitReader(c.conn, maxJunk))
}

// stop sends what was said and makes sure that nothing more is said or read.
func (c *Conn) stop() error {
	err := c.flush()
	c.wmu.Lock()
	c.dead = true
	c.wmu.Unlock()
	c.err = io.EOF
	return err
}

// flush sends what was said.
func (c *Conn) flush() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if len(c.out) == 0 {
		return nil
	}
	if c.dead {
		return net.ErrClosed
	}
	c.conn.SetWriteDeadline(time.Now().Add(c.cfg.idle()))
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	c.dead = err != nil
	return err
}
