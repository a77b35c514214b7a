package deliver

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"

	"srsd/envelope"
)

// blockSize is what is written at once: all of a message of common size.
const blockSize = 64 << 10

// A block is the memory in which message texts pass through.
type block struct {
	in  [blockSize / 2]byte
	out *bufio.Writer
}

var blocks = sync.Pool{New: func() any { return &block{out: bufio.NewWriterSize(nil, blockSize)} }}

// A bodyError is trouble with our own copy of the message.
type bodyError struct{ err error }

func (e bodyError) Error() string { return "deliver: body: " + e.err.Error() }
func (e bodyError) Unwrap() error { return e.err }

// patient sets a deadline before each write (RFC 5321, section 4.5.3.2.5).
type patient struct{ c *conn }

func (p patient) Write(b []byte) (int, error) {
	p.c.net.SetWriteDeadline(time.Now().Add(p.c.times.block))
	return p.c.net.Write(b)
}

// sendBody writes head, body and the final dot, RFC 5321, section 4.5.2. A body
// whose last line has no end gets one; nothing else is added to it.
func (c *conn) sendBody(head string, body envelope.Body) error {
	b := blocks.Get().(*block)
	defer blocks.Put(b)
	b.out.Reset(patient{c})
	defer b.out.Reset(nil)
	b.out.WriteString(head)
	last := byte('\n')
	for pos, size := int64(0), body.Size(); pos < size; {
		n, err := body.ReadAt(b.in[:min(blockSize/2, size-pos)], pos)
		if n == 0 {
			// Closing without the dot is the only way to take back what has
			// gone out (RFC 5321, section 4.1.1.4).
			return bodyError{fmt.Errorf("at octet %d of %d: %w", pos, size, orUnexpected(err))}
		}
		stuff(b.out, b.in[:n], last)
		pos, last = pos+int64(n), b.in[n-1]
	}
	if last != '\n' {
		b.out.WriteString("\r\n")
	}
	b.out.WriteString(".\r\n")
	return b.out.Flush() // a bufio.Writer keeps its first error
}

func orUnexpected(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

var lineDot = []byte("\n.")

// stuff writes p and doubles each dot at the beginning of a line; last is the
// octet before p.
func stuff(w *bufio.Writer, p []byte, last byte) {
	if last == '\n' && p[0] == '.' {
		w.WriteByte('.')
	}
	for {
		i := bytes.Index(p, lineDot)
		if i < 0 {
			w.Write(p)
			return
		}
		w.Write(p[:i+2])
		w.WriteByte('.')
		p = p[i+2:]
	}
}

// asciiHeader says whether the header section of a body is ASCII, so that a
// server without SMTPUTF8 may have it (RFC 6532).
func asciiHeader(body envelope.Body) bool {
	r := bufio.NewReader(io.NewSectionReader(body, 0, body.Size()))
	for begin := true; ; {
		line, err := r.ReadSlice('\n')
		for _, c := range line {
			if c >= 0x80 {
				return false
			}
		}
		if err != nil && err != bufio.ErrBufferFull || begin && len(bytes.TrimRight(line, "\r\n")) == 0 {
			return true
		}
		begin = err == nil
	}
}
