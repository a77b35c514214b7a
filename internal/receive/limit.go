package receive

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Errors of registry.add: which limit a connection is over.
var (
	errDraining    = errors.New("receive: shutting down")
	errAddressBusy = errors.New("receive: too many connections from this address")
	errNetworkBusy = errors.New("receive: too many connections from this network")
	errBusy        = errors.New("receive: too many connections")
)

// samples is how many connections are compared when one must go. Redis evicts
// keys this way: the choice is nearly as good as the best, and costs the same
// with 20 connections as with 20,000.
const samples = 64

// A registry counts connections. It holds everybody who got a banner.
type registry struct {
	mu        sync.Mutex
	clients   []*conn
	addresses map[netip.Addr]int
	networks  map[netip.Prefix]int
	draining  bool
	empty     chan struct{} // closed when the last client has gone; nil until somebody waits
}

func newRegistry() *registry {
	return &registry{addresses: map[netip.Addr]int{}, networks: map[netip.Prefix]int{}}
}

// add lets in a client, whose connection create makes, or says why not. Where
// only the total is exceeded, another connection goes to make room: a newcomer
// may be the sender that matters, an idle connection is not.
func (r *registry) add(ip netip.Addr, l limits, create func() *conn) (*conn, error) {
	network := networkOf(ip)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.draining:
		return nil, errDraining
	case r.addresses[ip] >= l.address:
		return nil, errAddressBusy
	case r.networks[network] >= l.network:
		return nil, errNetworkBusy
	case len(r.clients) >= l.total && !r.shed(0):
		return nil, errBusy
	}
	c := create()
	c.ip, c.network, c.place = ip, network, len(r.clients)
	r.clients = append(r.clients, c)
	r.addresses[ip]++
	r.networks[network]++
	return c, nil
}

// remove forgets c; a second time does nothing.
func (r *registry) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(c)
}

func (r *registry) forget(c *conn) {
	if c.place < 0 {
		return
	}
	last := r.clients[len(r.clients)-1]
	r.clients[c.place], last.place = last, c.place
	r.clients[len(r.clients)-1] = nil
	r.clients = r.clients[:len(r.clients)-1]
	c.place = -1
	if r.addresses[c.ip]--; r.addresses[c.ip] == 0 {
		delete(r.addresses, c.ip)
	}
	if r.networks[c.network]--; r.networks[c.network] == 0 {
		delete(r.networks, c.network)
	}
	if r.empty != nil && len(r.clients) == 0 {
		close(r.empty)
		r.empty = nil
	}
}

// shed ends the least useful of some connections that have been idle for at
// least d, and says whether there was one.
func (r *registry) shed(d time.Duration) bool {
	if len(r.clients) == 0 {
		return false
	}
	now := time.Now()
	var worst *conn
	for range samples {
		c := r.clients[rand.IntN(len(r.clients))]
		if c.getPhase() < delivering && c.idle(now) >= d && (worst == nil || r.goesBefore(c, worst, now)) {
			worst = c
		}
	}
	if worst == nil {
		return false
	}
	r.forget(worst)
	worst.evict()
	return true
}

// goesBefore says whether a is less useful than b: it has come less far; or it
// is idle and b is not; or its network has more connections; or it has been
// idle longer.
func (r *registry) goesBefore(a, b *conn, now time.Time) bool {
	if pa, pb := a.getPhase(), b.getPhase(); pa != pb {
		return pa < pb
	}
	ia, ib := a.idle(now), b.idle(now)
	if sa, sb := ia > time.Second, ib > time.Second; sa != sb {
		return sa
	}
	if na, nb := r.networks[a.network], r.networks[b.network]; na != nb {
		return na > nb
	}
	return ia > ib
}

// shedIdle makes room for n more file descriptors, from connections that have
// been idle for a second.
func (r *registry) shedIdle(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range n {
		if !r.shed(time.Second) {
			return
		}
	}
}

// drain asks everybody to go and returns a channel that is closed when the last
// has gone.
func (r *registry) drain() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	for _, c := range r.clients {
		c.End(replyShutdown) // who is in a message may finish it
	}
	done := make(chan struct{})
	if len(r.clients) == 0 {
		close(done)
		return done
	}
	if r.empty == nil {
		r.empty = done
	}
	return r.empty
}

// closeIdle cuts the connections that are not in a message.
func (r *registry) closeIdle() {
	r.cut(sending)
}

// closeAll cuts every connection.
func (r *registry) closeAll() {
	r.cut(delivering + 1)
}

func (r *registry) cut(unless phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.clients {
		c.cut(unless)
	}
}

// maxDescriptors is how many files this process may have open.
func maxDescriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(l.Cur)
}
