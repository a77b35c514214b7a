package deliver

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// memory is a store.Queue in memory: what the interface promises, and nothing
// of durability.
type memory struct {
	mu      sync.Mutex
	now     func() time.Time
	entries []*memoryEntry
	token   uint64
	news    chan struct{}
	full    error // what Enqueue says
	broken  int   // so many calls of Finish fail
	batches []int // the sizes of the calls of Finish
}

type memoryEntry struct {
	store.Entry
	body  []byte
	token []uint64
	until []time.Time
}

func newMemory(now func() time.Time) *memory { return &memory{now: now, news: make(chan struct{})} }

func (q *memory) changed() {
	close(q.news)
	q.news = make(chan struct{})
}

func (q *memory) find(id string) *memoryEntry {
	for _, e := range q.entries {
		if e.ID == id {
			return e
		}
	}
	return nil
}

func (q *memory) Enqueue(_ context.Context, e store.Entry, body envelope.Body, ttl time.Duration) (out []store.Lease, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full != nil {
		return nil, q.full
	}
	if q.find(e.ID) != nil {
		return nil, nil
	}
	text, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return nil, err
	}
	x := &memoryEntry{Entry: e, body: text, token: make([]uint64, len(e.Deliveries)), until: make([]time.Time, len(e.Deliveries))}
	x.Deliveries = slices.Clone(e.Deliveries)
	q.entries = append(q.entries, x)
	for i := range x.Deliveries {
		if x.Deliveries[i].State == store.Leased {
			out = append(out, q.grant(x, i, ttl))
		}
	}
	q.changed()
	return out, nil
}

func (q *memory) grant(e *memoryEntry, i int, ttl time.Duration) store.Lease {
	q.token++
	e.token[i], e.until[i] = q.token, q.now().Add(ttl)
	e.Deliveries[i].State = store.Leased
	m := e.Message
	m.Routes = nil
	return store.Lease{Delivery: e.Deliveries[i], Message: m, Token: q.token, Until: e.until[i]}
}

func (q *memory) Lease(_ context.Context, query store.LeaseQuery) (out []store.Lease, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := map[string]int{}
	for _, e := range q.entries {
		for i := range e.Deliveries {
			x := &e.Deliveries[i]
			due := x.State == store.Queued && !x.Due.After(query.Now) || x.State == store.Leased && e.until[i].Before(query.Now)
			if !due || len(out) >= query.Max || query.PerDomain != nil && taken[x.Domain] >= query.PerDomain(x.Domain) {
				continue
			}
			taken[x.Domain]++
			out = append(out, q.grant(e, i, query.TTL))
		}
	}
	return out, nil
}

func (q *memory) Extend(_ context.Context, leases []store.Lease, ttl time.Duration) (lost []store.Lease, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range leases {
		if e := q.find(l.Delivery.Entry); e != nil && e.token[l.Delivery.N] == l.Token {
			e.until[l.Delivery.N] = q.now().Add(ttl)
		} else {
			lost = append(lost, l)
		}
	}
	return lost, nil
}

func (q *memory) Finish(_ context.Context, outcomes []store.Outcome) (errs []error, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.batches = append(q.batches, len(outcomes))
	if q.broken > 0 {
		q.broken--
		return nil, store.ErrFull
	}
	for _, o := range outcomes {
		errs = append(errs, q.finish(o))
	}
	q.changed()
	return errs, nil
}

func (q *memory) finish(o store.Outcome) error {
	n := o.Lease.Delivery.N
	e := q.find(o.Lease.Delivery.Entry)
	if e == nil || e.token[n] != o.Lease.Token || e.Deliveries[n].State != store.Leased {
		return store.ErrLeaseLost
	}
	x := &e.Deliveries[n]
	x.Attempts = append(slices.Clone(o.Lease.Delivery.Attempts), o.Attempts...)
	x.Attempts = x.Attempts[max(0, len(x.Attempts)-20):]
	if x.Tries = o.Lease.Delivery.Tries; len(o.Attempts) > 0 {
		x.Tries++
	}
	x.Delayed = x.Delayed || o.Delayed
	if len(o.Routes) > 0 {
		x.Routes = o.Routes
	}
	switch {
	case o.Failed:
		x.State = store.Failed
	case o.Hold:
		x.State = store.Held
	case len(o.Routes) > 0:
		x.State, x.Routes, x.Due = store.Queued, o.Routes, o.Due
	default:
		x.State = ""
	}
	q.sweep()
	if o.Spawn != nil {
		q.mu.Unlock()
		q.Enqueue(context.Background(), o.Spawn.Entry, o.Spawn.Body, 0)
		q.mu.Lock()
	}
	return nil
}

// sweep forgets entries of which nothing is left.
func (q *memory) sweep() {
	q.entries = slices.DeleteFunc(q.entries, func(e *memoryEntry) bool {
		return !slices.ContainsFunc(e.Deliveries, func(x store.Delivery) bool { return x.State != "" })
	})
}

type memoryBody struct{ *bytes.Reader }

func (memoryBody) Close() error { return nil }

func (q *memory) OpenBody(_ context.Context, id string) (store.StoredBody, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.find(id); e != nil {
		return memoryBody{bytes.NewReader(e.body)}, nil
	}
	return nil, store.ErrNotFound
}

func (q *memory) Wake(ctx context.Context) error {
	q.mu.Lock()
	news, next := q.news, q.now().Add(time.Hour)
	for _, e := range q.entries {
		for _, x := range e.Deliveries {
			if x.State == store.Queued && x.Due.Before(next) {
				next = x.Due
			}
		}
	}
	q.mu.Unlock()
	timer := time.NewTimer(next.Sub(q.now()))
	defer timer.Stop()
	select {
	case <-news:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (q *memory) List(_ context.Context, f store.Filter, _ string, n int) (out []store.Entry, _ string, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.entries {
		if len(f.IDs) > 0 && !slices.Contains(f.IDs, e.ID) || len(out) == n {
			continue
		}
		x := e.Entry
		x.Deliveries = slices.DeleteFunc(slices.Clone(e.Deliveries), func(d store.Delivery) bool { return d.State == "" })
		out = append(out, x)
	}
	return out, "", nil
}

func (q *memory) Count(context.Context) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries), nil
}

func (q *memory) Edit(_ context.Context, f store.Filter, a store.Action) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.entries {
		for i := range e.Deliveries {
			x := &e.Deliveries[i]
			if len(f.IDs) > 0 && !slices.Contains(f.IDs, e.ID) || f.Domain != "" && f.Domain != x.Domain || f.State != "" && f.State != x.State || x.State == "" {
				continue
			}
			n++
			switch a {
			case store.Retry:
				x.Due = q.now()
			case store.Drop:
				x.State = ""
			}
		}
	}
	q.sweep()
	q.changed()
	return n, nil
}

// only returns the one entry that there must be.
func (q *memory) only(t *testing.T) store.Entry {
	t.Helper()
	all, _, _ := q.List(context.Background(), store.Filter{}, "", 10)
	if len(all) != 1 {
		t.Fatalf("%d entries in the queue: %v", len(all), all)
	}
	return all[0]
}

// none fails where there is anything.
func (q *memory) none(t *testing.T) {
	t.Helper()
	if all, _, _ := q.List(context.Background(), store.Filter{}, "", 10); len(all) != 0 {
		t.Errorf("still in the queue: %v", all)
	}
}

// corrupt is a queue whose bodies are damaged.
type corrupt struct{ *memory }

func (corrupt) OpenBody(context.Context, string) (store.StoredBody, error) {
	return nil, store.ErrCorrupt
}
