package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	badgerdb "github.com/dgraph-io/badger/v4"
)

// Damage counts what Open found missing, and what has been found unreadable
// since.
type Damage struct {
	Missing    int  // messages that were acknowledged and are not there
	Deliveries int  // deliveries missing from messages that are there
	Damaged    int  // messages whose record or body is damaged
	Checked    bool // all large bodies have been read since Open
}

// Damage returns what has been lost: all zero where nothing has.
func (s *Badger) Damage() Damage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damage
}

// namedMissing is how many missing messages the log names; the number of all
// follows.
const namedMissing = 1000

// load builds the plan from the index, and compares it with the inventory.
func (s *Badger) load() error {
	live, noted, noteErr := readInventory(s.dir)
	if noteErr != nil {
		s.log.Warn("inventory is damaged", "error", noteErr)
	}
	var stored ledger
	err := s.db.View(func(txn *badgerdb.Txn) error {
		if err := checkFormat(txn); err != nil {
			return err
		}
		if b, err := get(txn, ledgerKey); err == nil {
			if stored, err = decodeLedger(b); err != nil {
				return err
			}
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := s.loadMessages(txn); err != nil {
			return err
		}
		return s.loadCounters(txn)
	})
	if err != nil {
		return err
	}
	orphans, err := s.loadDeliveries()
	if err != nil {
		return err
	}
	l := s.compare(live, noted, stored)
	if err := s.repair(&l, orphans, live, noted.seq > stored.seq); err != nil {
		return err
	}
	s.ledger = l
	if err := s.sweepSpool(); err != nil {
		return err
	}
	s.inventory, err = openInventory(s.dir, l, slices.Collect(maps.Keys(s.plan.messages)))
	return err
}

// checkFormat refuses what a later srsd has written.
func checkFormat(txn *badgerdb.Txn) error {
	b, err := get(txn, []byte("f"))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && !bytes.Equal(b, []byte{formatVersion}) {
		err = fmt.Errorf("store: written by another version of srsd (format %d, this one reads %d)", b, formatVersion)
	}
	return err
}

func (s *Badger) loadMessages(txn *badgerdb.Txn) error {
	return each(txn, []byte{'m'}, func(key, v []byte) error {
		id := string(key[1:])
		h, err := decodeMessageHead(v)
		if err != nil {
			s.damage.Damaged++
			s.log.Error("queue entry is damaged", "id", id, "error", err)
			return nil
		}
		s.plan.add(id, h)
		return nil
	})
}

// loadDeliveries returns the keys of those that have no message.
func (s *Badger) loadDeliveries() (orphans [][]byte, err error) {
	now := s.now().UnixNano()
	err = s.db.View(func(txn *badgerdb.Txn) error {
		return each(txn, []byte{'d'}, func(key, v []byte) error {
			id, n, ok := parseDeliveryKey(key)
			h, _, err := decodeDeliveryHead(v)
			m := s.plan.messages[id]
			if !ok || err != nil || m == nil {
				orphans = append(orphans, bytes.Clone(key))
				return nil
			}
			switch {
			case h.wish == wishDrop:
				h.state = held
			case h.wish == wishHold:
				h.state, h.wish = held, noWish
			}
			it := s.plan.addItem(m, n, h)
			if h.wish == wishDrop {
				s.plan.change(it, held, now)
				s.plan.doomed = append(s.plan.doomed, it)
			}
			return nil
		})
	})
	return orphans, err
}

// compare finds out what is missing, and returns the ledger to go on with.
// Whichever of inventory and index has the later commit knows what must be
// there.
func (s *Badger) compare(live map[string]bool, noted, stored ledger) ledger {
	want := stored
	if noted.seq > stored.seq {
		want = noted
		want.rev = stored.rev + 1<<20 // revisions must not come again
		s.log.Error("the end of the index is lost", "commits", noted.seq-stored.seq)
	}
	if noted.seq >= stored.seq {
		for id := range live {
			if m := s.plan.messages[id]; m == nil || len(m.items) == 0 {
				if s.damage.Missing++; s.damage.Missing <= namedMissing {
					s.log.Error("queue entry is missing", "id", id)
				}
			}
		}
	} else {
		there := 0
		for _, m := range s.plan.messages {
			if len(m.items) > 0 {
				there++
			}
		}
		s.damage.Missing = max(0, int(want.messages)-there)
	}
	return want
}

// repair removes what is not whole, and what had been finished before the end
// of the index was lost; then it sets the ledger right.
func (s *Badger) repair(l *ledger, orphans [][]byte, live map[string]bool, torn bool) error {
	batch := s.db.NewWriteBatch()
	defer batch.Cancel()
	for _, key := range orphans {
		if err := batch.Delete(key); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	for id, m := range s.plan.messages {
		if len(m.items) > 0 && (!torn || live[id]) {
			continue
		}
		if err := s.forget(batch, m); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	for _, it := range s.plan.doomed {
		if err := s.forgetItem(batch, it); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		l.deliveries--
	}
	s.plan.doomed = nil
	l.seq++
	if missing := int(l.deliveries) - s.plan.total; missing > 0 && s.damage.Missing == 0 {
		s.damage.Deliveries = missing
	}
	l.messages, l.deliveries = uint64(len(s.plan.messages)), uint64(s.plan.total)
	if s.damage != (Damage{}) {
		s.log.Error("the queue has lost messages", "missing", s.damage.Missing, "deliveries", s.damage.Deliveries, "damaged", s.damage.Damaged)
	}
	err := errors.Join(
		batch.Set([]byte("f"), []byte{formatVersion}),
		batch.Set(ledgerKey, l.encode()),
		batch.Flush())
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func (s *Badger) forget(batch *badgerdb.WriteBatch, m *message) error {
	err := errors.Join(batch.Delete(messageKey(m.id)), batch.Delete(bodyKey(m.id)))
	if len(m.items) == 0 {
		s.plan.octets -= m.indexed()
		delete(s.plan.messages, m.id)
	}
	for len(m.items) > 0 {
		err = errors.Join(err, s.forgetItem(batch, m.items[0]))
	}
	return err
}

func (s *Badger) forgetItem(batch *badgerdb.WriteBatch, it *item) error {
	m := it.message
	err := batch.Delete(deliveryKey(m.id, int(it.n)))
	if s.plan.remove(it) {
		err = errors.Join(err, batch.Delete(messageKey(m.id)), batch.Delete(bodyKey(m.id)))
	}
	return err
}

// checkFiles reads the large bodies, which nothing else verifies before they
// are needed, and counts those that are missing or changed.
func (s *Badger) checkFiles() {
	s.mu.Lock()
	var ids []string
	for id, m := range s.plan.messages {
		if m.place == inFile {
			ids = append(ids, id)
		}
	}
	s.mu.Unlock()
	for _, id := range ids {
		select {
		case <-s.stop:
			return
		default:
		}
		body, err := s.OpenBody(context.Background(), id)
		switch {
		case err == nil:
			body.Close()
		case errors.Is(err, ErrCorrupt):
			s.mu.Lock()
			if m := s.plan.messages[id]; m != nil && m.place == inFile { // not gone meanwhile
				s.damage.Damaged++
				s.log.Error("queue entry is damaged", "id", id, "error", err)
			}
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	s.damage.Checked = true
	s.mu.Unlock()
}
