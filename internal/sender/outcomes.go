package sender

import (
	"net/netip"
	"sync"
	"time"

	"srsd/spf"
)

// An outcomes is a bounded cache of SPF outcomes. It has two generations: when
// the young one is full it becomes the old one, and what was old is forgotten
// unless it has been asked for since.
type outcomes struct {
	mu         sync.Mutex
	young, old map[outcomeKey]kept
}

const outcomesKept = 4096

type outcomeKey struct {
	ip     netip.Addr
	helo   bool // the HELO name, not the reverse-path
	domain string
}

type kept struct {
	outcome spf.Outcome
	until   time.Time
}

func (c *outcomes) get(k outcomeKey, now time.Time) (spf.Outcome, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.young[k]
	if !ok {
		if e, ok = c.old[k]; ok {
			c.keep(k, e)
		}
	}
	if !ok || !now.Before(e.until) {
		return spf.Outcome{}, false
	}
	return e.outcome, true
}

func (c *outcomes) put(k outcomeKey, o spf.Outcome, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(k, kept{o, until})
}

func (c *outcomes) keep(k outcomeKey, e kept) {
	if len(c.young) >= outcomesKept {
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = make(map[outcomeKey]kept)
	}
	c.young[k] = e
}
