package store

import (
	"context"
	"errors"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
)

// Wake implements Queue. What PerDomain held back in the last Lease does not
// wake: the end of an attempt does.
func (s *Badger) Wake(ctx context.Context) error {
	s.mu.Lock()
	stirred, wake := s.plan.stirred, s.plan.wake
	wait := s.plan.next(s.now().UnixNano(), s.steady())
	s.mu.Unlock()
	if stirred {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
		return ErrClosed
	case <-wake:
	case <-timer.C:
	}
	return nil
}

// tend does what must be done from time to time.
func (s *Badger) tend() {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for n := 1; ; n++ {
		select {
		case <-s.stop:
			return
		case <-second.C:
		}
		s.flushCounters()
		if err := s.inventory.sync(); err != nil {
			s.log.Error("inventory not written", "error", err)
		}
		s.forgetDoomed()
		if n%60 == 0 {
			s.sweepCounters()
		}
		if n%60 == 0 || n%5 == 0 && s.Free() != nil {
			s.reclaim()
		}
	}
}

// forgetDoomed drops what the operator dropped while an attempt was under way
// that never ended, and failures that have been listed long enough.
func (s *Badger) forgetDoomed() {
	var requests []*request
	var edits []*edit
	s.mu.Lock()
	doomed := s.plan.doomed
	s.plan.doomed = nil
	for now := s.now().UnixNano(); len(s.plan.failures) > 0 && s.plan.failures[0].due <= now && len(doomed) < batchRequests; {
		it := s.plan.failures[0]
		s.plan.unfile(it)
		doomed = append(doomed, it)
	}
	for _, it := range doomed {
		e := &edit{s: s, id: it.message.id, n: int(it.n), action: Drop}
		edits = append(edits, e)
		requests = append(requests, &request{octets: 100, write: e.write, after: e.after})
	}
	s.mu.Unlock()
	if s.submit(requests...) != nil {
		return
	}
	for i, e := range edits {
		if err := requests[i].err; err == nil {
			e.unlink()
		} else if !errors.Is(err, errNoChange) { // another time
			s.mu.Lock()
			s.plan.doomed = append(s.plan.doomed, doomed[i])
			s.mu.Unlock()
		}
	}
}

// reclaim makes badger give back the room of what has been deleted, when that
// is much, or any is needed: by itself badger waits for more to be written.
func (s *Badger) reclaim() {
	s.mu.Lock()
	live := s.plan.octets + int64(s.plan.total)*1024
	s.mu.Unlock()
	idle := int64(64 << 20)
	if s.Free() != nil {
		idle = memTableSize
	}
	if stored := s.stored(); stored < 2*live+idle || stored == s.reclaimed {
		return
	}
	flushed := make(chan error, 1)
	select {
	case s.apart <- func() { flushed <- s.flushMemTable() }:
	case <-s.stop:
		return
	}
	err := <-flushed
	if err == nil {
		err = s.db.Flatten(1)
	}
	if err != nil {
		s.log.Warn("index not compacted", "error", err)
	}
	s.reclaimed = s.stored()
}

// stored is the size of badger's tables.
func (s *Badger) stored() (sum int64) {
	for _, l := range s.db.Levels() {
		sum += l.Size
	}
	return sum
}

// flushMemTable makes a table of what badger has in memory: deletions count for
// nothing in a compaction before. Badger offers no way but to drop a prefix,
// while nobody writes; a key is needed, or it has nothing to drop.
func (s *Badger) flushMemTable() error {
	none := []byte("z")
	err := s.db.Update(func(txn *badgerdb.Txn) error { return txn.Set(none, nil) })
	if err != nil {
		return err
	}
	return s.db.DropPrefix(none)
}
