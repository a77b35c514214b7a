package resolve

import (
	"container/list"
	"sync"
	"time"
)

// A cache holds answers until they expire, or until there is no room; then the
// one that was not used for longest goes.
type cache struct {
	now func() time.Time
	max int // octets; 0: nothing is kept

	mu   sync.Mutex
	size int
	m    map[question]*list.Element
	used *list.List // of *cached; most recently used first
}

type cached struct {
	q      question
	answer answer
	until  time.Time
	size   int
}

func newCache(size int, now func() time.Time) cache {
	if size == 0 {
		size = defaultCacheSize
	}
	if now == nil {
		now = time.Now
	}
	return cache{now: now, max: max(size, 0), m: map[question]*list.Element{}, used: list.New()}
}

// get returns the answer to q with what is left of its TTL.
func (c *cache) get(q question) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.m[q]
	if !ok {
		return answer{}, false
	}
	x := e.Value.(*cached)
	left := x.until.Sub(c.now())
	if left <= 0 {
		c.remove(e)
		return answer{}, false
	}
	c.used.MoveToFront(e)
	a := x.answer
	// A clock that was set back must not make an answer younger than it is.
	a.meta.TTL = min(left, a.meta.TTL)
	return a, true
}

// put keeps an answer for its TTL. One that would fill more than a sixteenth of
// the cache is not kept: it would cost the others more than it saves.
func (c *cache) put(q question, a answer) {
	n := a.size() + len(q.name)
	if a.meta.TTL <= 0 || n > c.max/16 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.m[q]; ok {
		c.remove(e)
	}
	c.m[q] = c.used.PushFront(&cached{q: q, answer: a, until: c.now().Add(a.meta.TTL), size: n})
	c.size += n
	for c.size > c.max {
		c.remove(c.used.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	x := c.used.Remove(e).(*cached)
	delete(c.m, x.q)
	c.size -= x.size
}
