package deliver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// Bounds of the runner.
const (
	maxLeases  = 1000                  // held at one time
	batchSize  = 200                   // leased at one time
	breath     = 50 * time.Millisecond // between two looks into a queue that had nothing to give, at first
	maxBreath  = time.Second           // and later on
	gather     = 2 * time.Millisecond  // from the first lease that is free to the next look, so that it finds some more
	drainGrace = 25 * time.Second      // for attempts under way when srsd ends
	clockSlack = time.Minute           // what a clock may be set back unnoticed
)

// Run works through the queue until ctx ends; then it waits a while for the
// attempts under way, also for those of Deliver, and ends them. A Deliverer runs
// once.
func (d *Deliverer) Run(ctx context.Context) error {
	defer d.pool.flush(true)
	defer d.end()
	tend, stop := context.WithCancel(context.Background())
	tended := make(chan struct{})
	go func() { defer close(tended); d.tend(tend) }()
	defer func() { stop(); <-tended }()
	for idle := 0; ctx.Err() == nil; idle++ {
		n, err := d.round(ctx, idle)
		if n > 0 {
			idle = -1
		}
		if err != nil && ctx.Err() == nil {
			d.log.LogAttrs(ctx, slog.LevelError, "queue cannot be read", slog.Any("error", err))
			pause(ctx, time.Second)
		}
	}
	d.drain()
	return nil
}

// round leases what is due and begins with it, or waits for something to do. It
// returns the number of leases; idle is how many rounds before had none.
func (d *Deliverer) round(ctx context.Context, idle int) (int, error) {
	p, now := d.policy.Load(), d.config.Now()
	free := d.leases.wait()
	query := store.LeaseQuery{Now: now, Max: d.room(p, now), TTL: leaseTime}
	if p.Smarthost == "" {
		query.PerDomain = func(domain string) int {
			_, held := d.leases.count(domain)
			return max(0, d.hops.appetite(domain, p.ConnectionsPerHop, now)-held)
		}
	}
	var leased []store.Lease
	var err error
	if query.Max > 0 {
		if leased, err = d.config.Queue.Lease(ctx, query); err != nil {
			return 0, err
		}
	}
	for _, l := range leased {
		d.leases.hold(l, d.hopOf(p, l.Delivery))
		d.work.add()
		go d.workOn(p, l)
	}
	if len(leased) == 0 {
		d.rest(ctx, free, idle)
	}
	return len(leased), nil
}

// room is how many leases more there may be.
func (d *Deliverer) room(p *Policy, now time.Time) int {
	all, ofHop := d.leases.count(p.Smarthost)
	n := min(batchSize, maxLeases-all)
	if p.Smarthost != "" {
		n = min(n, d.hops.appetite(p.Smarthost, p.ConnectionsPerHop, now)-ofHop)
	}
	return max(0, n)
}

// rest waits until there may be work: a lease is free again, or something is
// due. It takes a breath first, a longer one each time in a row, because what is
// due may be what nobody wants now.
func (d *Deliverer) rest(ctx context.Context, free <-chan struct{}, idle int) {
	timer := time.NewTimer(min(breath<<min(idle, 10), maxBreath))
	defer timer.Stop()
	select {
	case <-free:
		pause(ctx, gather)
		return
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d.config.Queue.Wake(ctx)
}

func pause(ctx context.Context, t time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(t):
	}
}

// hopOf is the next hop of a delivery.
func (d *Deliverer) hopOf(p *Policy, x store.Delivery) string {
	if p.Smarthost != "" {
		return p.Smarthost
	}
	return x.Domain
}

// workOn makes one attempt at a leased delivery.
func (d *Deliverer) workOn(p *Policy, l store.Lease) {
	defer d.work.done()
	var todo []envelope.Route
	for _, r := range l.Delivery.Routes {
		if _, no := refused(l.Delivery, r); !no {
			todo = append(todo, r)
		}
	}
	var results []result
	var body store.StoredBody
	for _, g := range groups(p, todo) {
		began := d.config.Now()
		if err := d.hops.acquire(d.life, g.hop, p.ConnectionsPerHop, began); err != nil {
			if d.life.Err() != nil {
				d.leases.drop(l) // srsd ends; the next start finds it
				return
			}
			results = append(results, d.sitOut(g)...)
			continue
		}
		if body == nil {
			var err error
			if body, err = d.config.Queue.OpenBody(d.life, l.Delivery.Entry); err != nil {
				d.hops.release(g.hop, p, unknown, envelope.Reply{}, began, began)
				d.damaged(l, err)
				return
			}
			defer body.Close()
		}
		d.attempt(p, &l.Message, g, body)
		results = append(results, g.results()...)
	}
	d.settle(l, results)
}

// sitOut gives a group the answer that the next hop's last attempt got.
func (d *Deliverer) sitOut(g *group) []result {
	t := transaction{rcpts: g.rcpts}
	t.answer(d.hops.why(g.hop), "")
	return g.results()
}

// Forgive ends the time for which a next hop is left alone after failures: the
// operator who makes its queue due knows better. The name is a domain, in lower
// case; "" is all next hops.
func (d *Deliverer) Forgive(domain string) {
	if p := d.policy.Load(); p.Smarthost != "" {
		domain = p.Smarthost
	}
	d.hops.forgive(domain)
}

// damaged holds a delivery whose body cannot be read, so that the operator can
// look at it. Trouble that may pass is tried again.
func (d *Deliverer) damaged(l store.Lease, err error) {
	d.log.LogAttrs(d.life, slog.LevelError, "message cannot be read", slog.String("id", l.Delivery.Entry), slog.Any("error", err))
	now := d.config.Now()
	a := store.Attempt{At: now, Reply: envelope.NewReply(451, envelope.EnhancedCode{4, 3, 0}, "the stored message cannot be read")}
	o := store.Outcome{
		Lease: l, Routes: l.Delivery.Routes, Due: now.Add(time.Minute), Attempts: []store.Attempt{a},
		Hold: errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound), Delayed: l.Delivery.Delayed,
	}
	d.work.add()
	d.ledger.add(o, func(err error) { defer d.work.done(); d.finished(o, err) })
}

// tend does what comes round: leases are extended, and a clock that has been set
// back is noticed.
func (d *Deliverer) tend(ctx context.Context) {
	ticker := time.NewTicker(leaseTime / 5)
	defer ticker.Stop()
	wall, steady := d.config.Now().Round(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		d.extend()
		now, passed := d.config.Now().Round(0), time.Since(steady)
		if gone := now.Sub(wall); gone < passed-clockSlack {
			// What is due by the old clock would wait for as long as the clock
			// went back. Nothing expires by this: see Policy.ripe.
			d.log.LogAttrs(ctx, slog.LevelWarn, "the clock was set back, all that is queued is due now", slog.Duration("by", passed-gone))
			d.edit(store.Filter{State: store.Queued}, store.Retry)
		}
		wall, steady = now, time.Now()
	}
}

// drain waits for what is under way, for a time.
func (d *Deliverer) drain() {
	timer := time.AfterFunc(drainGrace, d.end) // leases stay behind: the next start tries them again
	defer timer.Stop()
	d.work.wait()
}
