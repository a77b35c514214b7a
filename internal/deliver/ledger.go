package deliver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"srsd/store"
)

// leaseTime is how long a lease lasts unless it is extended.
const leaseTime = 5 * time.Minute

// maxBatch is how many outcomes go to the store at once.
const maxBatch = 256

// leases are the leases that this process works on.
type leases struct {
	mu   sync.Mutex
	held map[leaseKey]held
	hops map[string]int // how many of them a next hop has
	free chan struct{}  // one is no longer held
}

type leaseKey struct {
	entry string
	n     int
}

type held struct {
	lease store.Lease
	hop   string
}

// hold adds a lease.
func (l *leases) hold(x store.Lease, hop string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held, l.hops = map[leaseKey]held{}, map[string]int{}
	}
	l.held[leaseKey{x.Delivery.Entry, x.Delivery.N}] = held{x, hop}
	l.hops[hop]++
}

// drop removes a lease that has ended.
func (l *leases) drop(x store.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := leaseKey{x.Delivery.Entry, x.Delivery.N}
	hop := l.held[key].hop
	delete(l.held, key)
	if l.hops[hop]--; l.hops[hop] <= 0 {
		delete(l.hops, hop)
	}
	select {
	case l.freed() <- struct{}{}:
	default:
	}
}

// freed is the channel that tells of drops.
func (l *leases) freed() chan struct{} {
	if l.free == nil {
		l.free = make(chan struct{}, 1)
	}
	return l.free
}

func (l *leases) wait() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.freed()
}

func (l *leases) count(hop string) (all, ofHop int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held), l.hops[hop]
}

func (l *leases) list() []store.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]store.Lease, 0, len(l.held))
	for _, x := range l.held {
		all = append(all, x.lease)
	}
	return all
}

// gathering is how long a ledger waits for more outcomes before it writes. Each
// write is a flush of the disk that new mail waits for; a message whose outcome
// is lost in a crash is sent again.
const gathering = 10 * time.Millisecond

// A ledger brings outcomes to the store, those that come while it waits or
// writes as one batch: whoever finds it idle writes for all who come after.
type ledger struct {
	mu      sync.Mutex
	busy    bool
	waiting []entry
	store   func([]store.Outcome) []error
}

// An entry is an outcome on its way to the store, and what is to be done once
// it is there.
type entry struct {
	outcome store.Outcome
	done    func(error)
}

// add writes an outcome; done is called when it is stored or cannot be. It may
// return before that.
func (l *ledger) add(o store.Outcome, done func(error)) {
	l.mu.Lock()
	l.waiting = append(l.waiting, entry{o, done})
	if l.busy {
		l.mu.Unlock()
		return
	}
	l.busy = true
	for len(l.waiting) > 0 {
		if len(l.waiting) < maxBatch {
			l.mu.Unlock()
			time.Sleep(gathering)
			l.mu.Lock()
		}
		batch := l.waiting[:min(len(l.waiting), maxBatch)]
		l.waiting = l.waiting[len(batch):]
		l.mu.Unlock()
		outcomes := make([]store.Outcome, len(batch))
		for i, e := range batch {
			outcomes[i] = e.outcome
		}
		errs := l.store(outcomes)
		for i, e := range batch {
			e.done(errs[i])
		}
		l.mu.Lock()
	}
	l.busy = false
	l.mu.Unlock()
}

// storeOutcomes stores outcomes. A store in trouble is asked again: an outcome
// that is forgotten is a message sent twice. It gives up only when srsd ends.
func (d *Deliverer) storeOutcomes(outcomes []store.Outcome) []error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 30*time.Second) {
		errs, err := d.config.Queue.Finish(context.WithoutCancel(d.life), outcomes)
		if err == nil {
			return errs
		}
		d.log.LogAttrs(d.life, slog.LevelError, "queue cannot be written", slog.Any("error", err), slog.Int("outcomes", len(outcomes)))
		select {
		case <-d.life.Done():
			errs = make([]error, len(outcomes))
			for i := range errs {
				errs[i] = err
			}
			return errs
		case <-time.After(pause):
		}
	}
}

// extend keeps the leases alive that are worked on.
func (d *Deliverer) extend() {
	held := d.leases.list()
	if len(held) == 0 {
		return
	}
	lost, err := d.config.Queue.Extend(d.life, held, leaseTime)
	if err != nil && !errors.Is(err, context.Canceled) {
		d.log.LogAttrs(d.life, slog.LevelError, "leases cannot be extended", slog.Any("error", err))
	}
	for _, l := range lost {
		d.log.LogAttrs(d.life, slog.LevelWarn, "lease lost", slog.String("id", l.Delivery.Entry))
	}
}
