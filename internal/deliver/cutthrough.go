package deliver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// A run is one group's attempt while the client waits.
type run struct {
	*group
	state atomic.Int32  // pending, started or abandoned
	done  chan struct{} // closed when each recipient has a reply
	err   error         // it was not tried
}

const (
	pending int32 = iota
	started
	abandoned
)

// A tally is what became of a message's routes when the client's time is up.
type tally struct{ accepted, refused, waiting bool }

// A verdict is what the client hears.
type verdict int

const (
	sayAccepted verdict = iota // 250: the targets have it
	sayRefused                 // 5yz: the targets' answer, and the client's to tell
	sayReported                // 250, and a report or a line in the list for the refused
	sayQueued                  // 250 once the rest is on disk
)

// verdicts is the table of cut-through. Whoever waits was deferred, is still
// being asked, or was not asked at all.
var verdicts = map[tally]verdict{
	//  accepted refused waiting
	{true, false, false}: sayAccepted,
	{false, true, false}: sayRefused,
	{true, true, false}:  sayReported,
	{false, false, true}: sayQueued,
	{true, false, true}:  sayQueued,
	{false, true, true}:  sayQueued,
	{true, true, true}:   sayQueued,
}

var (
	replyAccepted = envelope.NewReply(250, envelope.EnhancedCode{2, 0, 0}, "accepted")
	replyGone     = envelope.NewReply(451, envelope.EnhancedCode{4, 4, 2}, "the client did not wait for the answer")
)

// Deliver brings a message to its targets as far as the budget reaches and
// queues the rest. It returns the reply to the client's final dot; where that is
// 2yz, nothing is owed by the client any more. The body may be in use after
// Deliver has returned: one that must be let go of has methods Retain and
// Release.
//
// The end of ctx stops nothing that has begun: the client may be gone, but its
// targets are not.
func (d *Deliverer) Deliver(ctx context.Context, m envelope.Message, body envelope.Body) envelope.Reply {
	d.work.add()
	defer d.work.done()
	p := d.policy.Load()
	gs := groups(p, m.Routes)
	if len(gs) == 0 {
		return replyAccepted // it goes nowhere, which is what the alias says
	}
	overload := d.cutting.Add(1) > maxCutThrough
	defer d.cutting.Add(-1)
	if p.Mode == QueueFirst || overload {
		return d.queueFirst(p, m, gs, body)
	}
	if ctx.Err() != nil {
		return replyGone
	}
	runs := make([]*run, len(gs))
	turn, giveUp := context.WithCancel(d.life)
	defer giveUp()
	for i, g := range gs {
		runs[i] = &run{group: g, done: make(chan struct{})}
		d.work.add()
		retain(body)
		go d.run(turn, p, &m, runs[i], body)
	}
	awaitAll(runs, p.Budget)
	giveUp()
	return d.answer(ctx, p, m, runs, body)
}

// run waits for a turn at the next hop and makes the attempt.
func (d *Deliverer) run(turn context.Context, p *Policy, m *envelope.Message, r *run, body envelope.Body) {
	defer d.work.done()
	defer release(body)
	defer close(r.done)
	began := d.config.Now()
	if r.err = d.hops.acquire(turn, r.hop, p.ConnectionsPerHop, began); r.err != nil {
		return
	}
	if !r.state.CompareAndSwap(pending, started) {
		r.err = context.Canceled
		d.hops.release(r.hop, p, unknown, envelope.Reply{}, began, began)
		return
	}
	d.attempt(p, m, r.group, body)
}

// awaitAll waits until all runs are done or the budget is used up. What has not
// begun by then does not begin any more.
func awaitAll(runs []*run, budget time.Duration) {
	timer := time.NewTimer(budget)
	defer timer.Stop()
	for i, r := range runs {
		select {
		case <-r.done:
		case <-timer.C:
			for _, r := range runs[i:] {
				r.state.CompareAndSwap(pending, abandoned)
			}
			return
		}
	}
}

// under says whether the attempt has begun and not ended.
func (r *run) under() bool {
	select {
	case <-r.done:
		return false
	default:
		return r.state.Load() == started
	}
}

// answer makes the reply from what has become of the runs.
func (d *Deliverer) answer(ctx context.Context, p *Policy, m envelope.Message, runs []*run, body envelope.Body) envelope.Reply {
	var e entryBuilder
	var t tally
	var refused, relayed []result
	now := d.config.Now()
	for _, r := range runs {
		switch {
		case r.under():
			t.waiting = true
			e.lease(r)
			continue
		case r.state.Load() != started:
			t.waiting = true
			_, due := d.hops.open(r.hop, p.ConnectionsPerHop, now)
			e.queue(r.group, due)
			continue
		}
		for _, x := range r.results() {
			switch {
			case x.reply.Accepted():
				t.accepted = true
				if x.noDSN && x.route.Notify&envelope.NotifySuccess != 0 {
					relayed = append(relayed, x)
				}
			case x.reply.Permanent():
				t.refused = true
				refused = append(refused, x)
			default:
				t.waiting = true
				e.deferred = append(e.deferred, x)
			}
		}
	}
	e.refused = refused
	said := verdicts[t]
	if ctx.Err() != nil && (said == sayReported || said == sayQueued) {
		return replyGone // and will come back: what we did for it now would be done twice
	}
	switch said {
	case sayRefused:
		return refusalOf(refused)
	case sayReported:
		if reply, ok := d.tell(m, KindFailed, refused, body, now); !ok {
			return reply
		}
	case sayQueued:
		if reply, ok := d.enqueue(p, m, &e, body, now); !ok {
			return reply
		}
	}
	if len(relayed) > 0 {
		d.tell(m, KindRelayed, relayed, body, now)
	}
	return replyAccepted
}

// refusalOf makes one reply of the targets' refusals: the code, if they agree,
// and a line for each alias. Codes that say something about the session between
// us and the target become 554.
func refusalOf(refused []result) envelope.Reply {
	routes := routesOf(refused)
	out := scrub(refused[0].reply, refused[0].route, routes...)
	if len(refused) > 1 {
		out.Text = refused[0].route.Alias.String() + ": " + out.Text
	}
	lines := []string{out.Text}
	for _, x := range refused[1:] {
		reply := scrub(x.reply, x.route, routes...)
		if reply.Code != out.Code {
			out.Code = 554
		}
		if reply.Status() != out.Status() {
			out.Enhanced = envelope.EnhancedCode{5, 0, 0}
		}
		line := x.route.Alias.String() + ": " + reply.Text
		if len(lines) < 10 && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	out.Enhanced, out.Text = out.Status(), strings.Join(lines, "\n")
	if !slices.Contains([]int{550, 552, 553, 554, 556}, out.Code) {
		out.Code = 554
	}
	return out
}

// tell queues the report about routes whose message is not queued; where there
// is none, failures are listed.
func (d *Deliverer) tell(m envelope.Message, kind Kind, about []result, body envelope.Body, now time.Time) (envelope.Reply, bool) {
	spawn := d.report(m, kind, failures(about, now, time.Time{}), body)
	if spawn == nil && kind != KindFailed {
		return envelope.Reply{}, true
	}
	if spawn == nil {
		var e entryBuilder
		e.failed = about
		spawn = &store.Spawn{Entry: e.entry(d.policy.Load(), m, now), Body: emptyBody{}}
	}
	_, reply, ok := d.store(spawn.Entry, spawn.Body)
	return reply, ok
}

// queueFirst stores a message before anything is tried. Where there is room it
// is stored leased and tried at once, without a way through the queue.
func (d *Deliverer) queueFirst(p *Policy, m envelope.Message, gs []*group, body envelope.Body) envelope.Reply {
	var e entryBuilder
	now := d.config.Now()
	for _, g := range gs {
		all, ofHop := d.leases.count(g.hop)
		open, due := d.hops.open(g.hop, p.ConnectionsPerHop, now)
		if open && all < maxLeases && ofHop < d.hops.appetite(g.hop, p.ConnectionsPerHop, now) {
			e.lease(&run{group: g, done: make(chan struct{})})
		} else {
			e.queue(g, due)
		}
	}
	if reply, ok := d.enqueue(p, m, &e, body, now); !ok {
		return reply
	}
	for i, r := range e.runs {
		if i > 0 && r == e.runs[i-1] { // one run may have several deliveries
			continue
		}
		d.work.add()
		retain(body)
		go d.run(d.life, p, &m, r, body)
	}
	return replyAccepted
}

// enqueue stores what is left of a message, with leases for the runs under way,
// which end them.
func (d *Deliverer) enqueue(p *Policy, m envelope.Message, e *entryBuilder, body envelope.Body, now time.Time) (envelope.Reply, bool) {
	leases, reply, ok := d.store(e.entry(p, m, now), body)
	if ok {
		d.log.LogAttrs(d.life, slog.LevelInfo, "queued", slog.String("id", m.ID), slog.String("reverse_path", m.ReversePath.String()))
	}
	for i, l := range leases {
		r := e.runs[i]
		d.leases.hold(l, r.hop)
		d.work.add()
		go func() {
			defer d.work.done()
			if <-r.done; r.err == nil {
				d.settle(l, ofRoutes(r.results(), l.Delivery.Routes))
			} else if d.life.Err() == nil {
				d.settle(l, ofRoutes(d.sitOut(r.group), l.Delivery.Routes))
			} else {
				d.leases.drop(l) // srsd ends; the next start finds it
			}
		}()
	}
	return reply, ok
}

// store stores an entry; the reply says why it could not.
func (d *Deliverer) store(e store.Entry, body envelope.Body) ([]store.Lease, envelope.Reply, bool) {
	leases, err := d.config.Queue.Enqueue(context.WithoutCancel(d.life), e, body, leaseTime)
	switch {
	case err == nil:
		return leases, envelope.Reply{}, true
	case errors.Is(err, store.ErrFull):
		return nil, envelope.NewReply(452, envelope.EnhancedCode{4, 3, 1}, "too little space, try again later"), false
	}
	d.log.LogAttrs(d.life, slog.LevelError, "queue cannot be written", slog.String("id", e.ID), slog.Any("error", err))
	return nil, envelope.NewReply(451, envelope.EnhancedCode{4, 3, 0}, "the message could not be stored, try again later"), false
}

// retain keeps a body that counts its users.
func retain(b envelope.Body) {
	if r, ok := b.(interface{ Retain() }); ok {
		r.Retain()
	}
}

func release(b envelope.Body) {
	if r, ok := b.(interface{ Release() }); ok {
		r.Release()
	}
}

// emptyBody is the body of what has none any more.
type emptyBody struct{}

func (emptyBody) Size() int64                       { return 0 }
func (emptyBody) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
