package guard

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"

	"srsd/envelope"
)

// errNoText is returned by a reader that outlived its message.
var errNoText = errors.New("guard: no message text is under way")

// A text is the state of a message text that is being read.
type text struct {
	start     time.Time
	n         int64          // octets so far
	run       []byte         // checked and not yet read: part of the connection's buffer
	inLine    bool           // the next octet does not begin a line
	line      int            // octets of the line so far
	fault     envelope.Reply // why the message may not pass
	told      bool           // the session knows the fault
	cut       bool           // the rest will not come, or is not wanted: the session ends
	placeheld bool           // go-smtp has its placeholder
}

// A textReader is Data: a reader, and nothing else of the connection.
type textReader struct{ c *Conn }

// Read reads message text for the session.
func (t textReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	run, err := t.next()
	n := copy(p, run)
	t.c.text.run = run[n:]
	return n, err
}

// next is checked text that the session has not read yet, or why there is none.
func (t textReader) next() ([]byte, error) {
	c := t.c
	if c.phase != phaseText && c.phase != phaseAnswer {
		return nil, errNoText
	}
	var err error
	if len(c.text.run) == 0 {
		c.text.run, err = c.nextRun()
	}
	if !c.text.fault.IsZero() {
		c.text.told, c.text.run = true, nil
		return nil, c.text.fault
	}
	return c.text.run, err
}

// WriteTo spares io.Copy its buffer: a slow client has none of its own then.
func (t textReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		run, err := t.next()
		if err == io.EOF {
			return total, nil
		}
		if err == nil {
			var n int
			n, err = w.Write(run)
			total += int64(n)
			t.c.text.run = run[n:]
		}
		if err != nil {
			return total, err
		}
	}
}

// nextRun is the next piece of text, valid until the next call; io.EOF behind
// the last. It goes on to the end of a text that has a fault, so that the
// connection stays in step.
func (c *Conn) nextRun() ([]byte, error) {
	for c.phase == phaseText {
		run, end := c.scan()
		switch {
		case end:
			c.phase = phaseAnswer
			c.flush() // the answer may take long, and the replies before it are due
		case len(run) > 0:
			c.text.n += int64(len(run))
			return run, nil
		default:
			if err := c.fill(c.textDeadline(), false); err != nil {
				c.cutOff(err)
			}
		}
	}
	return nil, io.EOF
}

// textDeadline is when the next octet must have come: within Idle, and soon
// enough for MinRate on average, from the first Idle on. A message that is
// fast enough has no other limit than the session's. One that is refused
// already is not waited for: its client may have ended it in a way that is no
// end, and waits for us.
func (c *Conn) textDeadline() time.Time {
	idle := c.cfg.idle()
	if !c.text.fault.IsZero() {
		idle = min(idle, refusedIdle)
	}
	need := time.Duration(float64(c.text.n) / float64(c.cfg.minRate()) * float64(time.Second))
	slow := c.text.start.Add(idle + need)
	if d := time.Now().Add(idle); d.Before(slow) {
		return d
	}
	return slow
}

// cutOff ends a text whose end did not come. RFC 5321, section 4.1.1.4: nothing
// is accepted then; and whoever sent too slowly may try again, so it is 421.
func (c *Conn) cutOff(err error) {
	c.phase = phaseAnswer
	c.text.cut = true
	if c.text.fault.IsZero() {
		c.text.fault = replyLost
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.text.fault = replySlow
		}
	}
}

// drain reads what the session left.
func (c *Conn) drain() {
	c.text.placeheld = true
	c.text.run = nil
	for n := 0; c.phase == phaseText; {
		run, _ := c.nextRun()
		if n += len(run); n > maxDrain {
			c.phase = phaseAnswer
			c.text.cut = true
			c.refuseText(replyEndless)
		}
	}
}

// scan checks what has come, up to the next dot that must go or to the end of
// what can be decided, and takes it out of the buffer. end says that the end
// of the text was there: CRLF "." CRLF, and nothing else ends it (RFC 5321,
// section 4.1.1.4).
func (c *Conn) scan() (run []byte, end bool) {
	t := &c.text
	b := c.in[c.r:c.w]
	i := 0
	for i < len(b) {
		if !t.inLine && b[i] == '.' {
			if i > 0 {
				break // a run ends before a dot
			}
			switch {
			case len(b) < 3 && bytes.HasPrefix([]byte(".\r"), b):
				return nil, false
			case bytes.HasPrefix(b, []byte(".\r\n")):
				c.r += 3
				return nil, true
			}
			c.r++ // RFC 5321, section 4.5.2
			b = b[1:]
		}
		n := c.scanLine(b[i:])
		i += n
		if n == 0 || t.inLine {
			break // the rest is one CR, or part of a line
		}
	}
	c.r += i
	if bytes.IndexByte(b[:i], 0) >= 0 {
		c.refuseText(replyNULInText)
	}
	return b[:i], false
}

// scanLine checks a line, or as much of one as is there, and says how long it
// is. A CR at the very end is left for the next time.
func (c *Conn) scanLine(b []byte) int {
	t := &c.text
	t.inLine = true
	n := 0
	for {
		j := bytes.IndexByte(b[n:], '\r')
		part := b[n:]
		if j >= 0 {
			part = b[n : n+j]
		}
		if bytes.IndexByte(part, '\n') >= 0 {
			c.refuseText(replyBareInText)
		}
		n += len(part)
		switch {
		case j < 0 || n+1 == len(b):
			c.countLine(n)
			return n
		case b[n+1] == '\n':
			c.countLine(n + 2)
			t.inLine, t.line = false, 0
			return n + 2
		}
		c.refuseText(replyBareInText)
		n++
	}
}

func (c *Conn) countLine(n int) {
	if c.text.line += n; c.text.line > maxDataLine {
		c.refuseText(replyLongText)
	}
}

// refuseText keeps the first fault.
func (c *Conn) refuseText(r envelope.Reply) {
	if c.text.fault.IsZero() {
		c.text.fault = r
	}
}
