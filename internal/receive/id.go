package receive

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// An ids makes queue ids: nine digits of time and six that count, in base 32
// with digits before letters, so that ids sort by time. Two processes agree on
// an id only where they begin to count at the same of 2^30 numbers within the
// same millisecond.
type ids struct {
	next atomic.Uint32
}

func newIDs() *ids {
	i := &ids{}
	i.next.Store(rand.Uint32())
	return i
}

func (i *ids) new(now time.Time) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
	var b [15]byte
	n := i.next.Add(1)
	for k := 14; k >= 9; k-- {
		b[k] = digits[n%32]
		n /= 32
	}
	t := uint64(now.UnixMilli())
	for k := 8; k >= 0; k-- {
		b[k] = digits[t%32]
		t /= 32
	}
	return string(b[:])
}
