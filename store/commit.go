package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
)

// What one transaction may hold. Badger's own limit is 15 % of memTableSize.
const (
	batchRequests = 256
	batchOctets   = memTableSize / 8
)

// company is how long a commit waits for others who may be on their way: less
// than the commit itself takes, which they would have to wait for.
const company = time.Millisecond

// A request is a change that waits for the writer. write runs in the writer,
// adds what is to be written to the batch, and must add nothing when it returns
// an error; it sees what earlier requests of the batch have added. after runs
// when the transaction is on disk, or has failed. Both hold the plan's lock.
type request struct {
	octets int
	write  func(b *batch) error
	after  func(ok bool)
	err    error
	done   chan struct{}
	more   bool // there is another one of the same caller behind it
}

// A batch is one transaction in the making.
type batch struct {
	txn     *badgerdb.Txn
	added   []string         // ids
	removed []string         // ids
	ending  map[*message]int // deliveries that this batch removes
	closing map[*message]int // deliveries that this batch removes or fails
	adding  map[string]bool  // ids that this batch adds
	ledger  ledger           // as it will be
	err     error            // of the transaction as a whole
}

func (b *batch) set(key, value []byte) {
	if err := b.txn.Set(key, value); err != nil && b.err == nil {
		b.err = err
	}
}

func (b *batch) delete(key []byte) {
	if err := b.txn.Delete(key); err != nil && b.err == nil {
		b.err = err
	}
}

// get returns a copy of a value as it is at this point of the batch.
func (b *batch) get(key []byte) ([]byte, error) { return get(b.txn, key) }

func get(txn *badgerdb.Txn, key []byte) ([]byte, error) {
	it, err := txn.Get(key)
	if errors.Is(err, badgerdb.ErrKeyNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	v, err := it.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return v, nil
}

// A ledger counts what the index must hold. It is written with every commit;
// the inventory, outside the index, has the same numbers.
type ledger struct {
	seq        uint64 // of the commit
	messages   uint64
	deliveries uint64
	rev        uint64 // last revision of a value
}

var ledgerKey = []byte("g")

func (l ledger) encode() []byte {
	b := make([]byte, 0, 32)
	for _, n := range [...]uint64{l.seq, l.messages, l.deliveries, l.rev} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func decodeLedger(b []byte) (l ledger, err error) {
	if len(b) != 32 {
		return l, fmt.Errorf("%w: ledger", ErrCorrupt)
	}
	for i, n := range [...]*uint64{&l.seq, &l.messages, &l.deliveries, &l.rev} {
		*n = binary.BigEndian.Uint64(b[8*i:])
	}
	return l, nil
}

// submit gives requests to the writer and waits until they are on disk.
func (s *Badger) submit(requests ...*request) error {
	for i, r := range requests {
		r.done, r.more = make(chan struct{}), i < len(requests)-1
		select {
		case <-s.stop:
			return ErrClosed
		case s.requests <- r:
		}
	}
	for _, r := range requests {
		select {
		case <-r.done:
		case <-s.ended:
			// The writer has left; it may have done this one before.
			select {
			case <-r.done:
			default:
				return ErrClosed
			}
		}
	}
	return nil
}

// commitAll is the writer: the only goroutine that changes the index.
func (s *Badger) commitAll() {
	defer close(s.ended)
	for {
		select {
		case <-s.stop:
			return
		case do := <-s.apart:
			do()
		case r := <-s.requests:
			for r != nil {
				var group []*request
				for group, r = s.gather(r); len(group) > 0; {
					group = s.commit(group)
				}
			}
		}
	}
}

// gather takes what else is waiting, and waits a moment where the commits before
// had more callers: those come back about now, each with its next message. next
// is what did not fit in any more.
func (s *Badger) gather(first *request) (group []*request, next *request) {
	callers, usual := 0, max(s.callers[0], s.callers[1])
	defer func() { s.callers[0], s.callers[1] = s.callers[1], callers }()
	var patience <-chan time.Time // set once nothing is waiting
	octets := 0
	for r := first; ; {
		if octets += r.octets; octets > batchOctets && len(group) > 0 {
			return group, r
		}
		group = append(group, r)
		if !r.more {
			callers++
		}
		if len(group) == batchRequests {
			return group, nil
		}
		select {
		case r = <-s.requests:
			continue
		default:
		}
		if callers >= usual {
			return group, nil
		}
		if patience == nil {
			patience = time.After(company)
		}
		select {
		case r = <-s.requests:
		case <-patience:
			return group, nil
		}
	}
}

// errBusy says that an earlier request of the batch changes the same delivery.
var errBusy = errors.New("store: busy")

// commit makes one transaction of a group. It returns those that have to go
// into the next.
func (s *Badger) commit(group []*request) (again []*request) {
	err := s.broken
	if err == nil {
		err = s.space.enoughToWrite()
	}
	var written []*request
	var b *batch
	if err == nil {
		written, b, err = s.writeGroup(group)
	}
	s.mu.Lock()
	for _, r := range written {
		if r.after != nil {
			r.after(err == nil)
		}
	}
	s.mu.Unlock()
	if err == nil {
		s.takeStock(b.added, b.removed)
	}
	for _, r := range group {
		if r.err == errBusy {
			again = append(again, r)
			continue
		}
		if r.err == nil {
			r.err = err
		}
		close(r.done)
	}
	return again
}

// writeGroup returns the requests that had something to write, and what became
// of the transaction.
func (s *Badger) writeGroup(group []*request) (written []*request, b *batch, err error) {
	b = &batch{txn: s.db.NewTransaction(true), ending: map[*message]int{}, closing: map[*message]int{}, adding: map[string]bool{}, ledger: s.ledger}
	defer b.txn.Discard()
	s.mu.Lock()
	for _, r := range group {
		if r.err = r.write(b); r.err == nil {
			written = append(written, r)
		}
	}
	s.mu.Unlock()
	if b.err != nil {
		return written, b, fmt.Errorf("store: %w", b.err)
	}
	b.ledger.seq++
	b.set(ledgerKey, b.ledger.encode())
	if b.err == nil {
		b.err = b.txn.Commit()
	}
	if b.err != nil {
		// What is on disk now is anybody's guess, and after a failed fsync the
		// kernel will not try again: only a new start tells.
		s.broken = fmt.Errorf("store: a write failed, restart needed: %w", b.err)
		s.log.Error("store is broken", "error", b.err)
		return written, b, s.broken
	}
	s.ledger = b.ledger
	return written, b, nil
}

// takeStock notes the commit in the inventory: behind it, because the inventory
// may lag, but must never promise what was not acknowledged.
func (s *Badger) takeStock(added, removed []string) {
	var err error
	if s.inventory.long() {
		s.mu.Lock()
		ids := slices.Collect(maps.Keys(s.plan.messages))
		s.mu.Unlock()
		err = s.inventory.rewrite(s.ledger, ids)
	} else {
		err = s.inventory.append(s.ledger, added, removed)
	}
	if err != nil {
		s.log.Error("inventory not written", "error", err)
	}
}
