package resolve

import (
	"context"
	"fmt"
	"sync"

	"srsd/spf"
)

// lookup answers a question from the cache or the servers, aliases followed.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) (answer, error) {
	first, ok := canonical(name)
	if !ok {
		return answer{meta: spf.Meta{NXDomain: true}}, nil
	}
	q := question{first, qtype}
	meta := spf.Meta{TTL: maxTTL, Authentic: true}
	for range maxAliases {
		a, err := r.one(ctx, q)
		if err != nil {
			return answer{}, fmt.Errorf("resolve: %v: %w", question{first, qtype}, err)
		}
		meta.TTL = min(meta.TTL, a.meta.TTL)
		meta.Authentic = meta.Authentic && a.meta.Authentic
		if a.alias == "" {
			meta.NXDomain = a.meta.NXDomain
			a.meta = meta
			return a, nil
		}
		q.name = a.alias
	}
	return answer{}, fmt.Errorf("resolve: %v: a loop of aliases, or more than anybody needs", question{first, qtype})
}

// one answers one question, without following aliases any further.
func (r *Resolver) one(ctx context.Context, q question) (answer, error) {
	if a, ok := r.cache.get(q); ok {
		return a, nil
	}
	if err := ctx.Err(); err != nil {
		return answer{}, err
	}
	return r.flights.do(ctx, q, func(ctx context.Context) (answer, error) {
		a, err := r.ask(ctx, q)
		if err == nil {
			r.cache.put(q, a)
		}
		return a, err
	})
}

// flights are the questions under way. The zero value has none.
type flights struct {
	mu sync.Mutex
	m  map[question]*flight
}

// A flight is one question under way, and those who wait for it.
type flight struct {
	waiting int
	cancel  context.CancelFunc
	done    chan struct{} // closed when answer and err are set
	answer  answer
	err     error
}

// do asks, or waits for whoever is asking the same. The question outlives the
// caller who put it first, and ends when nobody waits any more.
func (f *flights) do(ctx context.Context, q question, ask func(context.Context) (answer, error)) (answer, error) {
	x := f.join(ctx, q, ask)
	select {
	case <-x.done:
		return x.answer, x.err
	case <-ctx.Done():
		f.leave(q, x)
		return answer{}, ctx.Err()
	}
}

func (f *flights) join(ctx context.Context, q question, ask func(context.Context) (answer, error)) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x, ok := f.m[q]; ok {
		x.waiting++
		return x
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	x := &flight{waiting: 1, cancel: cancel, done: make(chan struct{})}
	if f.m == nil {
		f.m = map[question]*flight{}
	}
	f.m[q] = x
	go func() {
		x.answer, x.err = ask(ctx)
		f.mu.Lock()
		f.remove(q, x)
		f.mu.Unlock()
		cancel()
		close(x.done)
	}()
	return x
}

// leave ends a flight that nobody waits for any more.
func (f *flights) leave(q question, x *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x.waiting--
	if x.waiting == 0 {
		f.remove(q, x)
		x.cancel()
	}
}

// remove takes x out of the map, unless another has taken its place. The caller
// holds the lock.
func (f *flights) remove(q question, x *flight) {
	if f.m[q] == x {
		delete(f.m, q)
	}
}
