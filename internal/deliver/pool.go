package deliver

import (
	"net/netip"
	"sync"
	"time"
)

// How long a connection is kept without work, and for how many transactions.
const (
	idleTime = 30 * time.Second
	maxUses  = 500
)

// A connKey says which connections are alike.
type connKey struct {
	host     string
	addr     netip.AddrPort
	security Security
	policy   *Policy // a reload makes new connections
}

// A pool keeps connections that wait for work. How many there may be is the
// business of hops: a connection in the pool was in use before.
type pool struct {
	mu    sync.Mutex
	idle  map[connKey][]*conn // the last one was used last
	timer *time.Timer         // runs while there is anything idle
	shut  bool
}

// get takes a connection out of the pool, nil where there is none. It may have
// died meanwhile.
func (p *pool) get(key connKey) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[key]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	p.idle[key] = list[:len(list)-1]
	return c
}

// put gives a connection back.
func (p *pool) put(c *conn, current *Policy) {
	if c.used >= maxUses || c.key.policy != current || !p.keep(c) {
		c.quit()
	}
}

func (p *pool) keep(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return false
	}
	c.since = time.Now()
	if p.idle == nil {
		p.idle = map[connKey][]*conn{}
	}
	p.idle[c.key] = append(p.idle[c.key], c)
	if p.timer == nil {
		p.timer = time.AfterFunc(idleTime/2, p.sweep)
	}
	return true
}

// sweep ends the connections that have been idle for too long.
func (p *pool) sweep() {
	for _, c := range p.take(time.Now().Add(-idleTime)) {
		c.quit()
	}
}

// take removes what has been idle since a time or longer.
func (p *pool) take(since time.Time) (out []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, list := range p.idle {
		n := 0
		for n < len(list) && !list[n].since.After(since) {
			n++
		}
		out = append(out, list[:n]...)
		if n == len(list) {
			delete(p.idle, key)
		} else {
			p.idle[key] = append([]*conn(nil), list[n:]...)
		}
	}
	switch {
	case p.timer == nil:
	case len(p.idle) == 0 || p.shut:
		p.timer.Stop()
		p.timer = nil
	default:
		p.timer.Reset(idleTime / 2)
	}
	return out
}

// flush ends all idle connections; with shut, put keeps none from now on.
func (p *pool) flush(shut bool) {
	p.mu.Lock()
	p.shut = p.shut || shut
	p.mu.Unlock()
	for _, c := range p.take(time.Now()) {
		c.quit()
	}
}
