// Package deliver brings mail out: it finds the next hop, speaks SMTP to it over
// connections that it keeps, answers the client with the target's answer
// (cut-through), and works through the queue of what could not be delivered at
// once.
//
// A message goes Deliver → group → attempt → (walk, pool, conn), and where
// something is left to do, on to the queue; a leased delivery goes Run → group →
// attempt, and back to the queue until it is done.
package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// A Config is what a Deliverer is made of; it does not change. Hostname, Queue
// and Resolver are required.
type Config struct {
	Hostname string // for EHLO; an MX of this name is a loop
	Queue    store.Queue
	Resolver Resolver
	Reporter Reporter // nil: nobody is told, what fails is listed

	// Home returns what goes home in place of a body on a route with Return set:
	// the same message, with the target hidden. Nil sends the body as it is.
	Home func(ctx context.Context, m envelope.Message, r envelope.Route, body envelope.Body) (envelope.Body, error)

	// Observe hears what came of each route in each attempt that has spoken to
	// a next hop or found none. It must be quick: the sender waits. Nil: nobody.
	Observe func(r envelope.Route, reply envelope.Reply)

	// Dial connects; nil is the system's, from the addresses of Policy.Source.
	// The address is always numeric and has been found allowed.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	TLS    *tls.Config  // roots and the like for connections to next hops
	Logger *slog.Logger // nil logs nothing
	Now    func() time.Time
	Policy Policy
}

// A Deliverer brings mail out. Make it with New.
type Deliverer struct {
	config Config
	policy atomic.Pointer[Policy]
	log    *slog.Logger

	pool   pool
	hops   hops
	leases leases
	ledger ledger

	cutting atomic.Int64 // cut-through attempts under way
	work    work         // everything that Run must wait for
	life    context.Context
	end     context.CancelFunc // of life: attempts stop
	reports reports
}

// maxCutThrough is how many messages may wait for their targets at one time.
// What comes above that goes to the queue.
const maxCutThrough = 1000

// New makes a Deliverer. What is in the queue waits for Run.
func New(c Config) *Deliverer {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{}
	}
	d := &Deliverer{config: c, log: c.Logger}
	d.life, d.end = context.WithCancel(context.Background())
	d.ledger.store = d.storeOutcomes
	d.SetPolicy(c.Policy)
	return d
}

// SetPolicy makes a policy hold for all attempts from now on.
func (d *Deliverer) SetPolicy(p Policy) {
	p.ListenAddrs = spread(p.ListenAddrs)
	d.policy.Store(p.withDefaults())
	d.pool.flush(false)
}

// spread replaces "any address" by the addresses of this host.
func spread(listen []netip.AddrPort) (out []netip.AddrPort) {
	for _, l := range listen {
		out = append(out, l)
		if !l.Addr().IsUnspecified() {
			continue
		}
		own, _ := net.InterfaceAddrs()
		for _, a := range own {
			if n, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, netip.AddrPortFrom(n.Addr(), l.Port()))
			}
		}
	}
	return out
}

// ownName says whether a mail host is this one.
func (d *Deliverer) ownName(name string) bool {
	if strings.EqualFold(name, d.config.Hostname) {
		return true
	}
	for _, n := range d.policy.Load().OwnNames {
		if strings.EqualFold(name, n) {
			return true
		}
	}
	return false
}

// dial connects to an address that the policy allows: this is the last gate.
func (d *Deliverer) dial(ctx context.Context, p *Policy, to netip.AddrPort) (net.Conn, error) {
	if p.forbidden(to.Addr()) {
		return nil, errors.New("deliver: the address is forbidden")
	}
	ctx, cancel := context.WithTimeout(ctx, p.phases().dial)
	defer cancel()
	if d.config.Dial != nil {
		return d.config.Dial(ctx, "tcp", to.String())
	}
	var dialer net.Dialer
	if src, _ := p.source(to.Addr()); src.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
	}
	return dialer.DialContext(ctx, "tcp", to.String())
}

// work counts what is under way. Unlike a sync.WaitGroup it may grow while
// somebody waits.
type work struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n comes down to 0; nil while nobody waits
}

func (w *work) add() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
}

func (w *work) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n--; w.n == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

func (w *work) wait() {
	w.mu.Lock()
	if w.n == 0 {
		w.mu.Unlock()
		return
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	<-idle
}
