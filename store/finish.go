package store

import (
	"context"
	"errors"
	"os"
	"slices"
)

// keptAttempts is how many attempts a delivery remembers.
const keptAttempts = 20

// Finish implements Queue. Each outcome is atomic by itself.
func (s *Badger) Finish(ctx context.Context, outcomes []Outcome) ([]error, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	requests := make([]*request, len(outcomes))
	ends := make([]*ending, len(outcomes))
	for i, o := range outcomes {
		e := &ending{s: s, outcome: o}
		ends[i] = e
		if o.Spawn != nil {
			n, err := s.newEntry(o.Spawn.Entry, o.Spawn.Body)
			if err != nil {
				return nil, err
			}
			e.spawn = n
		}
		requests[i] = &request{octets: e.octets(), write: e.write, after: e.after}
	}
	if err := s.submit(requests...); err != nil {
		return nil, err
	}
	errs := make([]error, len(outcomes))
	var failure error
	for i, r := range requests {
		if r.err != nil && ends[i].spawn != nil {
			ends[i].spawn.undo()
		}
		if errs[i] = r.err; r.err != nil && !errors.Is(r.err, ErrLeaseLost) {
			failure = r.err
		}
		ends[i].unlink()
	}
	return errs, failure
}

// An ending is an outcome on its way to the disk.
type ending struct {
	s       *Badger
	outcome Outcome
	spawn   *newEntry
	item    *item
	head    deliveryHead // as it will be, where gone is false
	gone    bool
	file    string // to be removed afterwards
}

func (e *ending) octets() int {
	n := 1000
	if e.spawn != nil {
		n += e.spawn.octets()
	}
	return n
}

func (e *ending) write(b *batch) error {
	o := e.outcome
	it := e.s.holds(o.Lease)
	if it == nil {
		return ErrLeaseLost
	}
	if it.busy {
		return errBusy
	}
	e.item = it
	e.head = deliveryHead{state: queued, domain: it.domain.name, due: toNano(o.Due)}
	switch {
	case it.wish == wishDrop:
		e.gone = true
	case o.Failed:
		e.head.state, e.head.due = failed, e.s.now().Add(e.s.keep).UnixNano()
	case len(o.Routes) == 0:
		e.gone = true
	case o.Hold || it.wish == wishHold:
		e.head.state = held
	}
	var record []byte
	if !e.gone {
		var err error
		if record, err = encodeDelivery(e.head, o.result()); err != nil {
			return err
		}
	}
	if e.gone {
		e.file = b.remove(e.s, it)
	} else {
		b.set(deliveryKey(it.message.id, int(it.n)), record)
		if e.head.state == failed {
			e.file = b.fail(e.s, it)
		}
	}
	if e.spawn != nil {
		if err := e.spawn.write(b); err != nil {
			return err
		}
	}
	e.s.plan.hide(it)
	return nil
}

// result is the delivery as the outcome leaves it. What has failed keeps its
// routes: they say to whom.
func (o Outcome) result() Delivery {
	d := o.Lease.Delivery
	if len(o.Routes) > 0 {
		d.Routes = o.Routes
	}
	if len(o.Attempts) > 0 {
		d.Tries++
		d.Attempts = append(slices.Clone(d.Attempts), o.Attempts...)
		d.Attempts = d.Attempts[max(0, len(d.Attempts)-keptAttempts):]
	}
	d.Delayed = d.Delayed || o.Delayed
	return d
}

func (e *ending) after(ok bool) {
	p := &e.s.plan
	if !ok {
		e.file = ""
		p.unhide(e.item)
		return
	}
	e.item.busy = false
	last := false
	if e.gone {
		last = p.remove(e.item)
	} else {
		e.item.token, e.item.wish = 0, noWish
		p.change(e.item, e.head.state, e.head.due)
	}
	if !last {
		p.shed(e.item.message)
	}
	if e.spawn != nil {
		e.spawn.after(ok)
	}
	p.stir() // a place for another attempt is free
}

// unlink removes the file of a body that is no longer needed. Should it fail,
// Open does it.
func (e *ending) unlink() {
	if e.file != "" {
		os.Remove(e.file)
	}
}

// remove takes a delivery out of the index, and the whole entry with its last
// one. It returns the file to remove after the commit.
func (b *batch) remove(s *Badger, it *item) (file string) {
	m := it.message
	b.delete(deliveryKey(m.id, int(it.n)))
	b.ledger.deliveries--
	b.ending[m]++
	if b.ending[m] < len(m.items) {
		if it.state != failed {
			return b.fail(s, it)
		}
		return ""
	}
	b.delete(messageKey(m.id))
	b.ledger.messages--
	b.removed = append(b.removed, m.id)
	return b.removeBody(s, m)
}

// fail drops the body when nothing but failed deliveries is left.
func (b *batch) fail(s *Badger, it *item) (file string) {
	m := it.message
	b.closing[m]++
	if b.closing[m] < m.open || m.place == nowhere {
		return ""
	}
	record, err := b.get(messageKey(m.id))
	if err != nil || len(record) < messageHeadLen {
		return "" // Open will find out, and say so
	}
	record[1] = byte(nowhere)
	b.set(messageKey(m.id), record)
	return b.removeBody(s, m)
}

func (b *batch) removeBody(s *Badger, m *message) (file string) {
	switch m.place {
	case inline:
		b.delete(bodyKey(m.id))
	case inFile:
		return spoolPath(s.dir, m.id)
	}
	return ""
}
