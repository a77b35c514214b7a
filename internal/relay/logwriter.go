package relay

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// maxPending is how much of the log may wait for its reader, in octets, and
// lastWait how long the end of srsd waits for it.
const (
	maxPending = 1 << 20
	lastWait   = 2 * time.Second
)

// errUnread means that the end of the log is lost.
var errUnread = errors.New("relay: nobody has read the log in time")

// A LogWriter writes a log without making its writers wait: what comes while a
// write is under way goes out with the next one, in one piece. Where nobody
// reads the log, mail goes on, and a line says how many lines were lost. Make
// one with NewLogWriter.
type LogWriter struct {
	to   io.Writer
	work chan struct{} // something is pending
	done chan struct{} // the last of it has been written

	mu      sync.Mutex
	pending []byte
	spare   []byte
	lost    int
	closed  bool
}

// NewLogWriter returns a LogWriter that writes to w.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{to: w, work: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

// Write takes one line.
func (l *LogWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return l.to.Write(line)
	case len(l.pending)+len(line) > maxPending:
		l.lost++
	default:
		l.pending = append(l.pending, line...)
	}
	l.wake()
	return len(line), nil
}

// Close writes what is pending. What comes later is written at once. Where
// nobody reads the log, Close returns an error after two seconds.
func (l *LogWriter) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.work)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
		return nil
	case <-time.After(lastWait):
		return errUnread
	}
}

// wake tells run that there is something; the caller holds the lock.
func (l *LogWriter) wake() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

func (l *LogWriter) run() {
	defer close(l.done)
	for range l.work {
		l.flush()
	}
	l.flush()
}

func (l *LogWriter) flush() {
	l.mu.Lock()
	text := l.pending
	if l.lost > 0 {
		text = fmt.Appendf(text, "%d lines of the log were lost: nobody has read them in time\n", l.lost)
		l.lost = 0
	}
	l.pending, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	if len(text) > 0 {
		_, _ = l.to.Write(text) // there is nobody to tell
	}
	l.mu.Lock()
	l.spare = text[:0]
	l.mu.Unlock()
}
