package deliver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"srsd/envelope"
)

// A hops knows how each next hop fares: how many attempts are under way, who
// waits for a turn, and whether it is worth trying at all.
type hops struct {
	mu   sync.Mutex
	hops map[string]*hop
}

type hop struct {
	active   int
	waiting  []chan error   // first come, first served
	failures int            // in a row; one that began before the last was counted does not count
	counted  time.Time      // when that was
	until    time.Time      // not before then
	served   time.Time      // when it last did its work
	last     envelope.Reply // why it failed
}

// health is what an attempt says about its next hop.
type health int

const (
	unknown health = iota // nobody was asked
	alive
	dead // no host could be spoken to
)

// errBackOff means that the next hop has failed lately and is left alone.
var errBackOff = errors.New("deliver: the next hop is left alone for a while")

// Back-off begins with the second failure in a row, so that a short hiccup
// delays nothing, and doubles up to a limit. While it lasts nobody tries; after
// it one attempt at a time does, until one is served. What is due meanwhile
// fares as the last attempt did, so that a long queue for a dead host grows old
// without a connection for each message.
const (
	minBackOff = 30 * time.Second
	maxBackOff = 10 * time.Minute
)

// get returns a hop that mu guards, and forgets those that nobody needs.
func (h *hops) get(name string, now time.Time) *hop {
	x := h.hops[name]
	if x != nil {
		return x
	}
	if len(h.hops) >= 10_000 {
		for n, x := range h.hops {
			if x.active == 0 && len(x.waiting) == 0 && now.Sub(x.until) > 2*maxBackOff {
				delete(h.hops, n)
			}
		}
	}
	if h.hops == nil {
		h.hops = map[string]*hop{}
	}
	x = &hop{}
	h.hops[name] = x
	return x
}

// limit is how many attempts a hop may see at once.
func (x *hop) limit(perHop int, now time.Time) int {
	switch {
	case x.failures < 2:
		return perHop
	case now.Before(x.until):
		return 0
	}
	return 1
}

// acquire waits for a turn. Release must follow where it returns nil.
func (h *hops) acquire(ctx context.Context, name string, perHop int, now time.Time) error {
	h.mu.Lock()
	x := h.get(name, now)
	limit := x.limit(perHop, now)
	if x.active < limit {
		x.active++
		h.mu.Unlock()
		return nil
	}
	if limit < perHop {
		h.mu.Unlock()
		return errBackOff
	}
	turn := make(chan error, 1)
	x.waiting = append(x.waiting, turn)
	h.mu.Unlock()
	select {
	case err := <-turn:
		return err
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(x.waiting, turn); i >= 0 {
		x.waiting = slices.Delete(x.waiting, i, i+1)
		return ctx.Err()
	}
	return <-turn // it came at the same moment
}

// release ends an attempt that began at a time and says how the hop was, and
// why. It returns true where the hop is back after a back-off.
func (h *hops) release(name string, p *Policy, s health, why envelope.Reply, began, now time.Time) (back bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.get(name, now)
	x.active--
	switch s {
	case alive:
		back = x.failures > 2
		x.failures, x.served = 0, now
	case dead:
		if !began.Before(x.counted) {
			x.failures++
			x.counted, x.until = now, now.Add(backOff(x.failures, p))
		}
		x.last = why
	}
	limit := x.limit(p.ConnectionsPerHop, now)
	for len(x.waiting) > 0 {
		turn := x.waiting[0]
		switch {
		case x.active < limit:
			x.active++
			turn <- nil
		case limit < p.ConnectionsPerHop:
			turn <- errBackOff
		default:
			return back
		}
		x.waiting = x.waiting[1:]
	}
	if x.failures == 0 && x.active == 0 && now.Sub(x.served) > time.Minute {
		delete(h.hops, name)
	}
	return back
}

// why is what the last attempt at a hop in back-off came to.
func (h *hops) why(name string) envelope.Reply {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.hops[name]; x != nil && x.last.Temporary() {
		return x.last
	}
	return envelope.NewReply(451, envelope.EnhancedCode{4, 4, 1}, "the next server did not answer")
}

func backOff(failures int, p *Policy) time.Duration {
	d := min(minBackOff, p.wait(1))
	for range min(failures-2, 10) {
		d *= 2
	}
	return min(d, maxBackOff)
}

// regular says whether a hop gets mail often enough for a connection to be
// kept: it was served within a minute before, or somebody else is at it. A host
// that gets a message a day need not hold a session open for us.
func (h *hops) regular(name string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.hops[name]
	return x != nil && (x.active > 1 || len(x.waiting) > 0 || now.Sub(x.served) < time.Minute)
}

// open says whether an attempt at a hop may begin now or soon; where not, until
// is the time to ask again.
func (h *hops) open(name string, perHop int, now time.Time) (ok bool, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.hops[name]
	if x == nil || x.active < x.limit(perHop, now) || x.failures < 2 {
		return true, now
	}
	return false, x.until
}

// appetite is how many leases of a hop are worth having at once. One that is
// known to serve may have some ready for each connection, so that none waits
// for the store.
func (h *hops) appetite(name string, perHop int, now time.Time) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.hops[name]
	if x == nil {
		return perHop
	}
	if x.failures < 2 && now.Sub(x.served) < time.Minute {
		return 8 * perHop
	}
	return perHop
}

// forgive ends the back-off of a hop, of all where name is "".
func (h *hops) forgive(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n, x := range h.hops {
		if name == "" || n == name {
			x.failures, x.counted, x.until = 0, time.Time{}, time.Time{}
		}
	}
}
