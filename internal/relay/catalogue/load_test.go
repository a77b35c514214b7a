package catalogue_test

import (
	"sync"
	"sync/atomic"
	"time"
)

// A load is many clients that send to a relay which may be gone for a while.
type load struct {
	*world
	text  func(i int) string
	to    func(i int) string // nil: jo@alumni.example
	pause func()             // nil: none; before each message

	done atomic.Bool // set it to end the run early

	mu       sync.Mutex
	accepted map[int]time.Time // when 250 was heard
	refused  []string
}

// run sends messages 0 to n-1. What is refused or cut off is not tried again;
// without a server, a client waits for one.
func (l *load) run(clients, n int) {
	l.accepted = map[int]time.Time{}
	numbers := make(chan int)
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			var s *sender
			for i := range numbers {
				s = l.one(s, i)
			}
			if s != nil {
				s.Close()
			}
		})
	}
	for i := 0; i < n && !l.done.Load(); i++ {
		if l.pause != nil {
			l.pause()
		}
		numbers <- i
	}
	close(numbers)
	running.Wait()
}

// one sends a message over a connection, and returns the connection where it is
// still good.
func (l *load) one(s *sender, i int) *sender {
	for end := time.Now().Add(soon); s == nil && time.Now().Before(end); {
		var err error
		if s, err = dial(l.addr, l.net+"9"); err != nil {
			s = nil
			time.Sleep(5 * time.Millisecond)
		}
	}
	if s == nil {
		return nil
	}
	to := "jo@alumni.example"
	if l.to != nil {
		to = l.to(i)
	}
	reply, err := s.send("ann@origin.example", to, l.text(i))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && reply != "" && reply[0] == '2':
		l.accepted[i] = time.Now()
		return s
	case err == nil:
		l.refused = append(l.refused, reply)
	}
	s.Close()
	return nil
}
