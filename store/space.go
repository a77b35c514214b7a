package store

import (
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Badger writes through maps of sparse files: on a full disk the process dies
// of SIGBUS, and cannot start again. So mail is refused while reserve is still
// free, and below hardReserve, which is what badger may be about to write,
// nothing is written at all and Open refuses.
const hardReserve = 3 * memTableSize

// space watches the free space of a file system.
type space struct {
	dir     string
	reserve int64

	mu   sync.Mutex
	last time.Time
	full error
}

// Free says whether there is room for new mail: nil, or an error that wraps
// ErrFull. It looks once a second at most.
func (s *Badger) Free() error {
	p := &s.space
	if p.reserve < 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.last.IsZero() || now.Sub(p.last) > time.Second {
		p.full = p.leaves(max(p.reserve, hardReserve))
		p.last = now
	}
	return p.full
}

// enoughToWrite is asked before every commit.
func (p *space) enoughToWrite() error {
	if p.reserve < 0 {
		return nil
	}
	return p.leaves(hardReserve)
}

func (p *space) enoughToOpen() error {
	if err := p.leaves(hardReserve); err != nil {
		return fmt.Errorf("%w to open the store", err)
	}
	return nil
}

func (p *space) leaves(want int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(p.dir, &fs); err != nil {
		return fmt.Errorf("store: free space of %s: %w", p.dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < want {
		return fmt.Errorf("%w: %d MB free in %s, %d MB are needed", ErrFull, free>>20, p.dir, want>>20)
	}
	return nil
}
