package receive_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"srsd/internal/receive"
)

// TestNoRoomOnDisk is R10 at the door: while the disk is too full to promise
// anything, MAIL is answered 452 4.3.1; 250 as soon as there is room again.
func TestNoRoomOnDisk(t *testing.T) {
	var full atomic.Bool
	b := start(t, func(c *receive.Config) {
		c.Room = func() error {
			if full.Load() {
				return errors.New("the disk is full")
			}
			return nil
		}
	})
	p := b.open(t)
	p.do("MAIL FROM:<ann@sender.example>", "250")
	p.do("RSET", "250")
	full.Store(true)
	p.do("MAIL FROM:<ann@sender.example>", "452 4.3.1")
	full.Store(false)
	p.do("MAIL FROM:<ann@sender.example>", "250")
}
