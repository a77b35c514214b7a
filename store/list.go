package store

import (
	"context"
	"errors"
	"slices"

	badgerdb "github.com/dgraph-io/badger/v4"

	"srsd/envelope"
)

// List implements Queue. An entry is listed with all its deliveries where one
// of them is selected.
func (s *Badger) List(ctx context.Context, f Filter, cursor string, n int) (entries []Entry, next string, err error) {
	err = s.db.View(func(txn *badgerdb.Txn) error {
		return s.eachID(ctx, txn, f, cursor, func(id string) error {
			if !s.mayMatch(id, f) {
				return nil
			}
			e, err := s.entry(txn, id)
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
				return nil // gone since, or counted as damaged elsewhere
			}
			if err != nil || !f.matchesAny(e) {
				return err
			}
			if len(entries) == n {
				next = entries[n-1].ID
				return errStop
			}
			entries = append(entries, e)
			return nil
		})
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return entries, next, err
}

var errStop = errors.New("stop")

// eachID calls fn for the ids behind cursor, in order.
func (s *Badger) eachID(ctx context.Context, txn *badgerdb.Txn, f Filter, cursor string, fn func(id string) error) error {
	if len(f.IDs) > 0 {
		ids := slices.Compact(slices.Sorted(slices.Values(f.IDs)))
		for _, id := range ids {
			if id <= cursor {
				continue
			}
			if err := fn(id); err != nil {
				return err
			}
		}
		return nil
	}
	it := txn.NewIterator(badgerdb.IteratorOptions{Prefix: []byte{'m'}})
	defer it.Close()
	for it.Seek(messageKey(cursor)); it.Valid(); it.Next() {
		id := string(it.Item().Key()[1:])
		if id == cursor {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(id); err != nil {
			return err
		}
	}
	return nil
}

// mayMatch looks only at what is in memory.
func (s *Badger) mayMatch(id string, f Filter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.plan.messages[id]
	if m == nil || !f.OlderThan.IsZero() && m.received >= f.OlderThan.UnixNano() {
		return false
	}
	return slices.ContainsFunc(m.items, func(it *item) bool { return f.matchesItem(it) })
}

func (f Filter) matchesItem(it *item) bool {
	return (f.Domain == "" || f.Domain == it.domain.name) && (f.State == "" || f.State == stateNames[it.state])
}

func (f Filter) matchesAny(e Entry) bool {
	return slices.ContainsFunc(e.Deliveries, func(d Delivery) bool { return f.Matches(e.Message, d) })
}

// Matches says whether the filter selects a delivery of a message.
func (f Filter) Matches(m envelope.Message, d Delivery) bool {
	switch {
	case len(f.IDs) > 0 && !slices.Contains(f.IDs, m.ID),
		f.Domain != "" && f.Domain != d.Domain,
		f.State != "" && f.State != d.State,
		!f.OlderThan.IsZero() && !m.Received.Before(f.OlderThan):
		return false
	case f.Address == "":
		return true
	}
	want := foldAddress(f.Address)
	return m.ReversePath.Key() == want || slices.ContainsFunc(d.Routes, func(r envelope.Route) bool {
		return r.Alias.Key() == want || r.Target.Key() == want
	})
}

// foldAddress is the key of an address as a person may write it.
func foldAddress(s string) string {
	if a, err := envelope.ParseAddress(s); err == nil {
		return a.Key()
	}
	return s
}

// entry returns an entry as it is now.
func (s *Badger) entry(txn *badgerdb.Txn, id string) (e Entry, err error) {
	b, err := get(txn, messageKey(id))
	if err != nil {
		return e, err
	}
	if e.Message, _, err = decodeMessage(b); err != nil {
		return e, err
	}
	for _, now := range s.current(id) {
		b, err := get(txn, deliveryKey(id, now.N))
		if errors.Is(err, ErrNotFound) {
			continue // gone since
		}
		var d Delivery
		if err == nil {
			d, err = decodeDelivery(id, now.N, b)
		}
		if err != nil {
			return e, err
		}
		d.State = now.State
		if d.State != Leased {
			d.Due = now.Due
		}
		e.Deliveries = append(e.Deliveries, d)
	}
	if len(e.Deliveries) == 0 {
		return e, ErrNotFound
	}
	return e, nil
}

// current is what the plan knows of an entry's deliveries.
func (s *Badger) current(id string) (ds []Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.plan.messages[id]
	if m == nil {
		return nil
	}
	for _, it := range m.items {
		ds = append(ds, Delivery{N: int(it.n), State: stateNames[it.state], Due: fromNano(it.due)})
	}
	return ds
}

// Count implements Queue.
func (s *Badger) Count(context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan.alive, nil
}
