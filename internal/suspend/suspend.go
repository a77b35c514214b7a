// Package suspend notices mailboxes that are gone. A target that has refused
// for good several times in a row, or whose bounces keep coming home, is
// suspended: mail for it is refused at the door until somebody resumes it. A
// relay that goes on knocking at dead mailboxes is taken for a spammer.
package suspend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// A Policy says when a target is suspended.
type Policy struct {
	After  int           // hard bounces in a row; 0: never
	Within time.Duration // they are spread over this at the most, and a seventh of it at the least
	Hook   string        // a command that is run with alias, target and reason; "": none
}

// A Config is what a List is made of. State is required.
type Config struct {
	State  store.State
	Policy Policy
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged
}

// A Run is hard bounces with no success between them.
type Run struct {
	Count       int
	First, Last time.Time
}

// A Record is what is remembered of a target that has bounced. Targets that
// always take their mail have none.
type Record struct {
	Target   envelope.Address   `json:"target"`
	Aliases  []envelope.Address `json:"aliases"`  // through which its mail came, the first ten
	Refused  Run                `json:"refused"`  // by the target's server, in the session
	Reported Run                `json:"reported"` // by bounces that came home
	Since    time.Time          `json:"since"`    // when it was suspended; zero: it is not
	Reason   string             `json:"reason"`   // the last reply; it may name the target
	Taken    int                `json:"-"`        // messages accepted since the last bounce came home
}

// Suspended says whether the record is a suspension.
func (r Record) Suspended() bool { return !r.Since.IsZero() }

// space is where the records are in the store, under the keys of the targets.
const space = "suspend"

// Bounds of what is remembered.
const (
	maxRecords = 100_000
	maxAliases = 10
	maxReason  = 300 // octets
)

// slack is how many messages a target may have taken between two bounces that
// came home: who accepts everything and bounces later takes some in between.
const slack = 3

// A List holds the records. Any number of goroutines may use it.
type List struct {
	config Config
	policy atomic.Pointer[Policy]
	hooks  hooks

	changing sync.Mutex // one change at a time, with its way to the disk
	mu       sync.RWMutex
	records  map[string]Record // by the target's key
	size     atomic.Int64      // of records: nothing is looked up while it is 0
}

// Open loads the list from the store.
func Open(ctx context.Context, c Config) (*List, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	l := &List{config: c, records: map[string]Record{}, hooks: newHooks(c.Logger)}
	l.SetPolicy(c.Policy)
	err := c.State.Scan(ctx, space, "", func(key string, v store.Value) error {
		var r Record
		if err := json.Unmarshal(v.Data, &r); err != nil {
			c.Logger.Error("record of a suspension cannot be read", "target", key, "error", err)
			return nil
		}
		l.records[key] = r
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("suspend: %w", err)
	}
	l.size.Store(int64(len(l.records)))
	return l, nil
}

// SetPolicy makes a policy hold from now on. What is suspended stays so, unless
// After is 0.
func (l *List) SetPolicy(p Policy) { l.policy.Store(&p) }

// Close ends hooks under way.
func (l *List) Close() { l.hooks.close() }

// Observe hears what came of a route in an attempt. A success costs nothing
// where the target has no record.
func (l *List) Observe(r envelope.Route, reply envelope.Reply) {
	switch p := l.policy.Load(); {
	case p.After == 0 || r.Return || r.Target.IsNull() || r.Alias == r.Target:
		// a bounce on its way home, or a report of ours: no target of an alias
	case reply.Accepted():
		l.accepted(r.Target)
	case Hard(reply):
		l.bounce(r.Target, r.Alias, reply, func(x *Record) *Run { return &x.Refused })
	}
}

// Reported hears of a bounce that came home. The caller has made sure that it
// comes from the target's mail system: anybody can write a report.
func (l *List) Reported(target, alias envelope.Address, reply envelope.Reply) {
	if l.policy.Load().After == 0 || !Hard(reply) {
		return
	}
	l.bounce(target, alias, reply, func(x *Record) *Run {
		if x.Taken > slack {
			x.Reported = Run{}
		}
		x.Taken = 0
		return &x.Reported
	})
}

// Suspended says whether mail for a target is to be refused.
func (l *List) Suspended(target envelope.Address) bool {
	if l.size.Load() == 0 || l.policy.Load().After == 0 {
		return false
	}
	return l.get(target.Key()).Suspended()
}

// All returns the suspensions, in the order of their targets.
func (l *List) All() []Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var all []Record
	for _, r := range l.records {
		if r.Suspended() {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(a.Target.Key(), b.Target.Key()) })
	return all
}

// Resume ends the suspensions of targets, or of what has come through aliases,
// and returns them; store.ErrNotFound where there are none.
func (l *List) Resume(ctx context.Context, addresses ...envelope.Address) ([]Record, error) {
	l.changing.Lock()
	defer l.changing.Unlock()
	var ended []Record
	for _, r := range l.All() {
		named := func(a envelope.Address) bool {
			return slices.ContainsFunc(addresses, func(b envelope.Address) bool { return a.Key() == b.Key() })
		}
		if !named(r.Target) && !slices.ContainsFunc(r.Aliases, named) {
			continue
		}
		if err := l.forget(ctx, r.Target.Key()); err != nil {
			return ended, err
		}
		l.config.Logger.Info("target resumed", "target", r.Target.String())
		ended = append(ended, r)
	}
	if len(ended) == 0 {
		return nil, fmt.Errorf("nothing is suspended for %w", errNamed{addresses})
	}
	return ended, nil
}

// errNamed is store.ErrNotFound about some addresses.
type errNamed struct{ addresses []envelope.Address }

func (e errNamed) Error() string {
	if len(e.addresses) == 0 {
		return "nobody"
	}
	return e.addresses[0].String()
}
func (e errNamed) Is(target error) bool { return target == store.ErrNotFound }

func (l *List) get(key string) Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.records[key]
}

func (l *List) set(key string, r *Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r == nil {
		delete(l.records, key)
	} else {
		l.records[key] = *r
	}
	l.size.Store(int64(len(l.records)))
}

// forget deletes a record; the caller holds changing.
func (l *List) forget(ctx context.Context, key string) error {
	err := l.config.State.Put(ctx, space, key, nil, store.AnyRevision, 0)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("suspend: %w", err)
	}
	l.set(key, nil)
	return nil
}

// save stores a record: for good where it is a suspension, else for as long as
// it can count.
func (l *List) save(r Record, p *Policy) {
	key := r.Target.Key()
	l.set(key, &r)
	data, err := json.Marshal(r)
	if err == nil {
		ttl := p.Within
		if r.Suspended() {
			ttl = 0
		}
		err = l.config.State.Put(context.Background(), space, key, data, store.AnyRevision, ttl)
	}
	if err != nil {
		l.config.Logger.Error("record of a bounce cannot be stored", "target", r.Target.String(), "error", err)
	}
}
