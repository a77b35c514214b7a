package deliver

import (
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// reportPatience is how long a failure waits for the other routes of its
// message, so that the sender gets one report for all; without a DelayWarning.
const reportPatience = 4 * time.Hour

// spent says whether a delivery only waits for its report: each of its routes
// has been refused for good.
func spent(x store.Delivery) bool {
	for _, r := range x.Routes {
		if _, ok := refused(x, r); !ok {
			return false
		}
	}
	return true
}

// refused returns the permanent refusal of a route, if there is one.
func refused(x store.Delivery, r envelope.Route) (store.Attempt, bool) {
	for _, a := range slices.Backward(x.Attempts) {
		if a.Reply.Permanent() && a.Target == r.Target {
			return a, true
		}
	}
	return store.Attempt{}, false
}

// lastReply is the last answer about a route.
func lastReply(x store.Delivery, r envelope.Route) store.Attempt {
	for _, a := range slices.Backward(x.Attempts) {
		if a.Target == r.Target || a.Target.IsNull() {
			return a
		}
	}
	return store.Attempt{Reply: envelope.NewReply(451, envelope.EnhancedCode{4, 4, 7}, "not delivered in time")}
}

// attempts makes the record of an attempt: one line for all routes where the
// answer was the same and can still change, else one a target.
func attempts(results []result, at time.Time) []store.Attempt {
	same := func(r result) bool { return r.reply == results[0].reply && r.reply.Temporary() }
	if len(results) > 0 && !slices.ContainsFunc(results, func(r result) bool { return !same(r) }) {
		return []store.Attempt{{At: at, Remote: results[0].remote, Reply: results[0].reply}}
	}
	var all []store.Attempt
	for _, r := range results {
		if !r.reply.Accepted() {
			all = append(all, store.Attempt{At: at, Remote: r.remote, Reply: r.reply, Target: r.route.Target})
		}
	}
	return all
}

// settle ends a lease with what came of its routes. The results of an attempt
// may be fewer than the routes: the others have been refused before.
func (d *Deliverer) settle(lease store.Lease, results []result) {
	p, now := d.policy.Load(), d.config.Now()
	o := store.Outcome{Lease: lease, Attempts: attempts(results, now), Delayed: lease.Delivery.Delayed}
	x := &lease.Delivery // from here on as it will be
	x.Attempts = append(slices.Clip(x.Attempts), o.Attempts...)
	if len(o.Attempts) > 0 {
		x.Tries++
	}
	var left, gone []envelope.Route
	var relayed []result
	for _, r := range x.Routes {
		i := slices.IndexFunc(results, func(x result) bool { return x.route.Target == r.Target && x.route.Alias == r.Alias })
		switch {
		case i < 0, results[i].reply.Permanent():
			gone = append(gone, r)
		case !results[i].reply.Accepted():
			left = append(left, r)
		case results[i].noDSN && r.Notify&envelope.NotifySuccess != 0:
			relayed = append(relayed, results[i])
		}
	}
	x.Routes = append(slices.Clone(left), gone...)
	switch {
	case len(left) > 0 && !p.ripe(p.Lifetime, lease.Message.Received, now, x.Tries):
		o.Routes, o.Due = x.Routes, now.Add(jitter(p.wait(x.Tries)))
		if p.DelayWarning > 0 && !x.Delayed && p.ripe(p.DelayWarning, lease.Message.Received, now, x.Tries) {
			d.warn(p, o, lease, left)
			return
		}
	case len(x.Routes) > 0:
		d.fail(p, o, lease, now)
		return
	case len(relayed) > 0:
		d.withBody(lease, func(b envelope.Body) {
			o.Spawn = d.report(lease.Message, KindRelayed, failures(relayed, now, time.Time{}), b)
		})
	}
	d.work.add()
	d.ledger.add(o, func(err error) {
		defer d.work.done()
		d.finished(o, err)
		d.wakeSpent(x.Entry)
	})
}

// jitter makes a wait up to a fifth longer or shorter, so that what failed
// together does not come back together.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.4*float64(d))
}

// warn ends a lease with the report about a delay, once a message.
func (d *Deliverer) warn(p *Policy, o store.Outcome, lease store.Lease, left []envelope.Route) {
	x := lease.Delivery
	o.Delayed = true
	defer d.reports.lock(x.Entry)()
	if !slices.ContainsFunc(d.siblings(x), func(s store.Delivery) bool { return s.Delayed }) {
		var about []Failure
		for _, r := range left {
			a := lastReply(x, r)
			about = append(about, Failure{Route: r, Reply: scrub(a.Reply, r, x.Routes...), At: a.At, Until: lease.Message.Received.Add(p.Lifetime)})
		}
		d.withBody(lease, func(b envelope.Body) { o.Spawn = d.report(lease.Message, KindDelayed, about, b) })
	}
	d.finished(o, d.storeOutcomes([]store.Outcome{o})[0])
}

// fail ends a lease none of whose routes will be delivered. One report tells of
// all routes of the message, so it waits for those that may still be delivered,
// though not longer than the sender would wait for the news of a delay.
func (d *Deliverer) fail(p *Policy, o store.Outcome, lease store.Lease, now time.Time) {
	x, m := lease.Delivery, lease.Message
	defer d.reports.lock(x.Entry)()
	if d.reports.told(x) { // by another delivery, after this one was leased
		d.finished(o, d.storeOutcomes([]store.Outcome{o})[0])
		return
	}
	siblings := d.siblings(x)
	expired := p.ripe(p.Lifetime, m.Received, now, x.Tries)
	about := failuresOf(x)
	var joined []store.Delivery
	waiting, busy := false, false
	for _, s := range siblings {
		switch {
		case s.State == store.Failed:
		case spent(s) || expired && s.State == store.Queued:
			about, joined = append(about, failuresOf(s)...), append(joined, s)
		default:
			waiting, busy = true, busy || s.State == store.Leased
		}
	}
	switch {
	case waiting && !expired && now.Before(m.Received.Add(p.patience())):
		o.Routes, o.Due = x.Routes, m.Received.Add(p.patience())
	case busy && expired && now.Before(m.Received.Add(p.Lifetime+time.Hour)):
		o.Routes, o.Due = x.Routes, now.Add(time.Minute)
	default:
		d.withBody(lease, func(b envelope.Body) { o.Spawn = d.report(m, KindFailed, about, b) })
		if o.Spawn == nil { // nobody is told: the operator may look
			o.Routes, o.Failed = x.Routes, true
		}
		d.log.LogAttrs(d.life, slog.LevelWarn, "given up", slog.String("id", m.ID), slog.Int("recipients", len(about)), slog.Bool("reported", o.Spawn != nil))
	}
	err := d.storeOutcomes([]store.Outcome{o})[0]
	if err == nil && o.Spawn != nil {
		d.forget(x.Entry, joined, siblings)
	}
	d.finished(o, err)
}

// patience is how old a message may be before a failure is told although other
// routes are still open.
func (p *Policy) patience() time.Duration {
	if p.DelayWarning > 0 {
		return p.DelayWarning
	}
	return reportPatience
}

// forget drops the deliveries that a report has told about. Edit knows them by
// their domain only: where one shares that with a delivery that is not told
// about, or is leased, it is told so when its turn comes.
func (d *Deliverer) forget(id string, told, siblings []store.Delivery) {
	for _, s := range told {
		other := func(x store.Delivery) bool {
			return x.Domain == s.Domain && !slices.ContainsFunc(told, func(t store.Delivery) bool { return t.N == x.N })
		}
		if s.State == store.Leased || slices.ContainsFunc(siblings, other) {
			d.reports.tell(s)
		} else {
			d.edit(store.Filter{IDs: []string{id}, Domain: s.Domain, State: store.Queued}, store.Drop)
		}
	}
}

// failuresOf lists the routes of a delivery with their last answers.
func failuresOf(x store.Delivery) (all []Failure) {
	for _, r := range x.Routes {
		a, ok := refused(x, r)
		if !ok {
			a = lastReply(x, r)
		}
		all = append(all, Failure{Route: r, Reply: scrub(a.Reply, r, x.Routes...), At: a.At})
	}
	return all
}

// siblings are the other deliveries of an entry.
func (d *Deliverer) siblings(x store.Delivery) []store.Delivery {
	entries, _, err := d.config.Queue.List(d.life, store.Filter{IDs: []string{x.Entry}}, "", 1)
	if err != nil {
		d.log.LogAttrs(d.life, slog.LevelError, "queue cannot be read", slog.String("id", x.Entry), slog.Any("error", err))
	}
	if len(entries) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(entries[0].Deliveries), func(s store.Delivery) bool { return s.N == x.N })
}

// wakeSpent brings the report forward where nothing of an entry is left but
// deliveries that wait for it.
func (d *Deliverer) wakeSpent(id string) {
	all := d.siblings(store.Delivery{Entry: id, N: -1})
	live := func(s store.Delivery) bool { return s.State != store.Failed && !spent(s) }
	if slices.ContainsFunc(all, func(s store.Delivery) bool { return s.State == store.Queued && spent(s) }) && !slices.ContainsFunc(all, live) {
		d.edit(store.Filter{IDs: []string{id}, State: store.Queued}, store.Retry)
	}
}

func (d *Deliverer) edit(f store.Filter, a store.Action) {
	if _, err := d.config.Queue.Edit(d.life, f, a); err != nil {
		d.log.LogAttrs(d.life, slog.LevelError, "queue cannot be written", slog.Any("error", err))
	}
}

// withBody calls fn with the body of a leased message, an empty one where it
// cannot be read: a report without the message is better than none.
func (d *Deliverer) withBody(lease store.Lease, fn func(envelope.Body)) {
	body, err := d.config.Queue.OpenBody(d.life, lease.Delivery.Entry)
	if err != nil {
		d.log.LogAttrs(d.life, slog.LevelError, "message cannot be read", slog.String("id", lease.Delivery.Entry), slog.Any("error", err))
		fn(emptyBody{})
		return
	}
	defer body.Close()
	fn(body)
}

// finished lets go of a lease whose outcome is stored, or cannot be.
func (d *Deliverer) finished(o store.Outcome, err error) {
	d.leases.drop(o.Lease)
	if err != nil {
		d.log.LogAttrs(d.life, slog.LevelWarn, "outcome not stored", slog.String("id", o.Lease.Delivery.Entry), slog.Any("error", err))
	}
}

// reports lets one decision about a message be made at a time, and remembers
// which deliveries a report has told about that could not be dropped.
type reports struct {
	mu      [64]sync.Mutex // by message
	set     sync.Mutex
	already map[leaseKey]bool
}

// lock waits until nobody else decides about a message; call what it returns.
func (r *reports) lock(id string) (unlock func()) {
	h := fnv.New32a()
	h.Write([]byte(id))
	mu := &r.mu[h.Sum32()%uint32(len(r.mu))]
	mu.Lock()
	return mu.Unlock
}

func (r *reports) tell(x store.Delivery) {
	r.set.Lock()
	defer r.set.Unlock()
	if r.already == nil {
		r.already = map[leaseKey]bool{}
	}
	r.already[leaseKey{x.Entry, x.N}] = true
}

// told says once whether a delivery has been told about.
func (r *reports) told(x store.Delivery) bool {
	r.set.Lock()
	defer r.set.Unlock()
	key := leaseKey{x.Entry, x.N}
	told := r.already[key]
	delete(r.already, key)
	return told
}
