package receive

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

const (
	memoryText = 256 << 10 // a text that outgrows the buffer for this goes to a file, its header apart
	maxHeader  = 1 << 20   // octets of a header block; Postfix allows less, no real message needs more
	firstChunk = 16 << 10
)

// Errors of readMessage. They become replies in replyFor.
var (
	errTooBig       = errors.New("receive: the message is too big")
	errHeaderTooBig = errors.New("receive: the header block is too big")
	errNoMemory     = errors.New("receive: too many messages in memory")
	errTempFile     = errors.New("receive: temporary file")
)

// A budget bounds what all sessions together keep in memory.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// exhausted says whether not even a small message has room.
func (b *budget) exhausted() bool { return b.used.Load()+firstChunk > b.limit }

// chunks keeps buffers of three sizes: most messages fit the first, all that
// stay in memory fit the last.
type chunks struct {
	pools [3]sync.Pool
}

var chunkSizes = [3]int{firstChunk, 64 << 10, memoryText + firstChunk}

// get returns an empty buffer with room for n octets.
func (c *chunks) get(n int) []byte {
	for i, size := range chunkSizes {
		if n <= size {
			if b, ok := c.pools[i].Get().(*[]byte); ok {
				return (*b)[:0]
			}
			return make([]byte, 0, size)
		}
	}
	return make([]byte, 0, n)
}

func (c *chunks) put(b []byte) {
	for i, size := range chunkSizes {
		if cap(b) == size {
			c.pools[i].Put(&b)
		}
	}
}

// A message is the text of one message with our trace headers on top: an
// envelope.Body. What is in the file follows what is in mem. It counts its
// users; the last Release returns its memory and closes its file.
type message struct {
	mem    []byte
	trace  int // octets of mem that are ours
	file   *os.File
	inFile int64

	text    int64 // octets received
	max     int64
	dir     string
	budget  *budget
	charged int64
	chunks  *chunks
	users   atomic.Int32
}

// newMessage begins a message that may have max octets of text. trace appends
// our headers to its argument.
func newMessage(b *budget, c *chunks, dir string, max int64, trace func([]byte) []byte) (*message, error) {
	m := &message{budget: b, chunks: c, dir: dir, max: max}
	m.users.Store(1)
	if !b.take(firstChunk) {
		return nil, errNoMemory
	}
	m.charged = firstChunk
	m.mem = trace(c.get(firstChunk))
	m.trace = len(m.mem)
	return m, nil
}

// Size is the length of trace and text in octets.
func (m *message) Size() int64 { return int64(len(m.mem)) + m.inFile }

// ReadAt reads trace and text.
func (m *message) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("receive: negative offset")
	}
	if off < int64(len(m.mem)) {
		n = copy(p, m.mem[off:])
		off += int64(n)
	}
	if n == len(p) {
		return n, nil
	}
	if m.file == nil {
		return n, io.EOF
	}
	k, err := m.file.ReadAt(p[n:], off-int64(len(m.mem)))
	return n + k, err
}

// Retain adds a user: the body stays readable until it calls Release.
func (m *message) Retain() { m.users.Add(1) }

// Release is called once by every user when it has done.
func (m *message) Release() {
	if m.users.Add(-1) != 0 {
		return
	}
	if m.file != nil {
		m.file.Close()
	}
	m.chunks.put(m.mem)
	m.budget.give(m.charged)
	m.mem = nil
}

// header is the header block of the text, with the empty line that ends it.
func (m *message) header() []byte {
	text := m.mem[m.trace:]
	if bytes.HasPrefix(text, []byte("\r\n")) {
		return text[:2]
	}
	if i := bytes.Index(text, []byte("\r\n\r\n")); i >= 0 {
		return text[:i+4]
	}
	return text
}

// readFrom takes the text from r, to its end. After errors other than r's own
// the caller must read r on, so that the session stays in step.
func (m *message) readFrom(r io.Reader) error {
	for {
		if err := m.makeRoom(); err != nil {
			return err
		}
		room := m.mem[len(m.mem):cap(m.mem)]
		n, err := r.Read(room)
		m.text += int64(n)
		m.mem = m.mem[:len(m.mem)+n]
		if m.text > m.max {
			return errTooBig
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		// Only when the buffer is full: a header that comes octet by octet
		// would be searched for its end at each.
		if len(m.mem) == cap(m.mem) && len(m.mem)-m.trace > memoryText {
			if err := m.spill(); err != nil {
				return err
			}
		}
		if m.file != nil {
			return m.copyToFile(r)
		}
	}
	if len(m.header()) > maxHeader {
		return errHeaderTooBig
	}
	return nil
}

// makeRoom makes sure that mem has room for more.
func (m *message) makeRoom() error {
	if len(m.mem) < cap(m.mem) {
		return nil
	}
	return m.grow(2*cap(m.mem) + 1)
}

func (m *message) grow(n int) error {
	bigger := m.chunks.get(n)
	more := int64(cap(bigger) - cap(m.mem))
	if !m.budget.take(more) {
		m.chunks.put(bigger)
		return errNoMemory
	}
	m.charged += more
	bigger = append(bigger, m.mem...)
	m.chunks.put(m.mem)
	m.mem = bigger
	return nil
}

// spill moves everything behind the header block to a file. Where the header
// has not ended yet it does nothing, until the header is too big.
func (m *message) spill() error {
	head := m.header()
	if len(head) == len(m.mem)-m.trace && !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if len(head) > maxHeader {
			return errHeaderTooBig
		}
		return nil
	}
	if len(head) > maxHeader {
		return errHeaderTooBig
	}
	f, err := os.CreateTemp(m.dir, "message-")
	if err != nil {
		return errors.Join(errTempFile, err)
	}
	m.file = f
	// Nobody but us needs the name, and a crash leaves nothing behind.
	os.Remove(f.Name())
	rest := m.mem[m.trace+len(head):]
	if _, err := f.Write(rest); err != nil {
		return errors.Join(errTempFile, err)
	}
	m.inFile = int64(len(rest))
	m.mem = m.mem[:m.trace+len(head)]
	m.shrink()
	return nil
}

// shrink exchanges a buffer that is far too large.
func (m *message) shrink() {
	if len(m.mem) > cap(m.mem)/2 {
		return
	}
	smaller := append(m.chunks.get(len(m.mem)), m.mem...)
	less := int64(cap(m.mem) - cap(smaller))
	m.budget.give(less)
	m.charged -= less
	m.chunks.put(m.mem)
	m.mem = smaller
}

func (m *message) copyToFile(r io.Reader) error {
	size := int64(chunkSizes[1])
	if !m.budget.take(size) {
		return errNoMemory
	}
	defer m.budget.give(size)
	buf := m.chunks.get(chunkSizes[1])
	defer m.chunks.put(buf)
	buf = buf[:cap(buf)]
	for {
		n, err := r.Read(buf)
		m.text += int64(n)
		if m.text > m.max {
			return errTooBig
		}
		if _, werr := m.file.Write(buf[:n]); werr != nil {
			return errors.Join(errTempFile, werr)
		}
		m.inFile += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// cut removes parts of the text that is in memory; ranges are offsets into
// mem, in order.
func (m *message) cut(ranges [][2]int) {
	if len(ranges) == 0 {
		return
	}
	kept := m.mem[:ranges[0][0]]
	for i, r := range ranges {
		end := len(m.mem)
		if i+1 < len(ranges) {
			end = ranges[i+1][0]
		}
		kept = append(kept, m.mem[r[1]:end]...)
	}
	m.mem = kept
}
