package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
)

// counters are kept in memory and written once a second.
type counters struct {
	mu    sync.Mutex
	m     map[string]*counter
	dirty map[string]bool
}

type counter struct {
	n   int64
	end int64 // of the window, Unix nanoseconds
}

func newCounters() counters {
	return counters{m: map[string]*counter{}, dirty: map[string]bool{}}
}

func counterKey(key string) []byte { return append([]byte{'c'}, key...) }

// Incr implements State. Windows begin at multiples of their length.
func (s *Badger) Incr(ctx context.Context, key string, delta int64, window time.Duration) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if window <= 0 {
		return 0, fmt.Errorf("store: counter %q has no window", key)
	}
	now := s.now()
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	c := s.counters.m[key]
	if c == nil {
		c = &counter{}
		s.counters.m[key] = c
	}
	if c.end <= now.UnixNano() {
		*c = counter{end: now.Truncate(window).Add(window).UnixNano()}
	}
	c.n += delta
	s.counters.dirty[key] = true
	return c.n, nil
}

// flushCounters writes the counters that have changed.
func (s *Badger) flushCounters() {
	s.counters.mu.Lock()
	var requests []*request
	for key := range s.counters.dirty {
		c := *s.counters.m[key]
		requests = append(requests, &request{octets: len(key) + 50, write: func(b *batch) error {
			v := binary.BigEndian.AppendUint64(nil, uint64(c.end))
			b.setUntil(counterKey(key), binary.BigEndian.AppendUint64(v, uint64(c.n)), c.end)
			return nil
		}})
	}
	clear(s.counters.dirty)
	s.counters.mu.Unlock()
	if err := s.submit(requests...); err != nil && !errors.Is(err, ErrClosed) {
		s.log.Error("counters not written", "error", err)
	}
}

// sweepCounters forgets those whose window is over.
func (s *Badger) sweepCounters() {
	now := s.now().UnixNano()
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	for key, c := range s.counters.m {
		if c.end <= now && !s.counters.dirty[key] {
			delete(s.counters.m, key)
		}
	}
}

func (s *Badger) loadCounters(txn *badgerdb.Txn) error {
	return each(txn, []byte{'c'}, func(key, v []byte) error {
		if len(v) == 16 {
			s.counters.m[string(key[1:])] = &counter{
				end: int64(binary.BigEndian.Uint64(v)),
				n:   int64(binary.BigEndian.Uint64(v[8:])),
			}
		}
		return nil
	})
}

// setUntil sets a value that badger may forget after end (Unix nanoseconds; 0:
// never). Badger counts in whole seconds, by its own clock; so values hold
// their end themselves.
func (b *batch) setUntil(key, value []byte, end int64) {
	e := badgerdb.NewEntry(key, value)
	if end != 0 {
		e.ExpiresAt = uint64(end/int64(time.Second)) + 2
	}
	if err := b.txn.SetEntry(e); err != nil && b.err == nil {
		b.err = err
	}
}

// each calls fn for all keys with a prefix. What it is given is good until it
// returns.
func each(txn *badgerdb.Txn, prefix []byte, fn func(key, value []byte) error) error {
	it := txn.NewIterator(badgerdb.IteratorOptions{Prefix: prefix, PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		i := it.Item()
		if err := i.Value(func(v []byte) error { return fn(i.Key(), v) }); err != nil {
			return err
		}
	}
	return nil
}

// A value is stored with its revision and its end.
const valueHeadLen = 16

func valueKey(space, key string) []byte {
	b := append(make([]byte, 0, len(space)+len(key)+2), 'k')
	return append(append(append(b, space...), 0), key...)
}

// decodeValue says ErrNotFound for what has expired.
func decodeValue(b []byte, now time.Time) (Value, error) {
	if len(b) < valueHeadLen {
		return Value{}, fmt.Errorf("%w: value", ErrCorrupt)
	}
	if end := int64(binary.BigEndian.Uint64(b[8:])); end != 0 && end <= now.UnixNano() {
		return Value{}, ErrNotFound
	}
	return Value{Rev: int64(binary.BigEndian.Uint64(b)), Data: append([]byte{}, b[valueHeadLen:]...)}, nil
}

// Get implements State.
func (s *Badger) Get(ctx context.Context, space, key string) (v Value, err error) {
	if err := ctx.Err(); err != nil {
		return v, err
	}
	err = s.db.View(func(txn *badgerdb.Txn) error {
		b, err := get(txn, valueKey(space, key))
		if err == nil {
			v, err = decodeValue(b, s.now())
		}
		return err
	})
	return v, err
}

// Put implements State. Space must not contain a NUL, and a value at most
// 512 KiB.
func (s *Badger) Put(ctx context.Context, space, key string, value []byte, rev int64, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(value) > 512<<10 || len(key) > 32<<10 {
		return fmt.Errorf("store: value %q of %d octets is too long", key, len(value))
	}
	k := valueKey(space, key)
	r := &request{octets: len(k) + len(value) + 100}
	r.write = func(b *batch) error {
		if rev != AnyRevision {
			stored, err := b.revision(k, s.now())
			if err != nil {
				return err
			}
			if stored != rev {
				return ErrConflict
			}
		}
		if value == nil {
			b.delete(k)
			return nil
		}
		b.ledger.rev++
		end := int64(0)
		if ttl > 0 {
			end = s.now().Add(ttl).UnixNano()
		}
		v := binary.BigEndian.AppendUint64(make([]byte, 0, valueHeadLen+len(value)), b.ledger.rev)
		b.setUntil(k, append(binary.BigEndian.AppendUint64(v, uint64(end)), value...), end)
		return nil
	}
	if err := s.submit(r); err != nil {
		return err
	}
	return r.err
}

// revision is 0 where there is no value.
func (b *batch) revision(key []byte, now time.Time) (int64, error) {
	stored, err := b.get(key)
	var v Value
	if err == nil {
		v, err = decodeValue(stored, now)
	}
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return v.Rev, err
}

// Scan implements State. fn sees one moment of the store and may call it.
func (s *Badger) Scan(ctx context.Context, space, prefix string, fn func(key string, v Value) error) error {
	head := len(valueKey(space, ""))
	return s.db.View(func(txn *badgerdb.Txn) error {
		return each(txn, valueKey(space, prefix), func(key, b []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			v, err := decodeValue(b, s.now())
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			return fn(string(key[head:]), v)
		})
	})
}
