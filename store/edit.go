package store

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Edit implements Queue. Large selections are changed in several transactions.
func (s *Badger) Edit(ctx context.Context, f Filter, a Action) (int, error) {
	if a != Retry && a != Hold && a != Release && a != Drop {
		return 0, fmt.Errorf("store: unknown action %q", a)
	}
	sum := 0
	for cursor := ""; ; {
		entries, next, err := s.List(ctx, f, cursor, batchRequests)
		if err != nil {
			return sum, err
		}
		n, err := s.editAll(entries, f, a)
		sum += n
		if err != nil || next == "" {
			return sum, err
		}
		cursor = next
	}
}

func (s *Badger) editAll(entries []Entry, f Filter, a Action) (n int, err error) {
	var edits []*edit
	var requests []*request
	for _, e := range entries {
		for _, d := range e.Deliveries {
			if f.Matches(e.Message, d) {
				x := &edit{s: s, id: d.Entry, n: d.N, action: a}
				edits = append(edits, x)
				requests = append(requests, &request{octets: 1000, write: x.write, after: x.after})
			}
		}
	}
	if err := s.submit(requests...); err != nil {
		return 0, err
	}
	for i, r := range requests {
		switch {
		case r.err == nil:
			n++
			edits[i].unlink()
		case !errors.Is(r.err, errNoChange):
			err = r.err
		}
	}
	return n, err
}

// errNoChange says that an action means nothing to a delivery.
var errNoChange = errors.New("store: nothing to do")

// An edit is an action on one delivery.
type edit struct {
	s      *Badger
	id     string
	n      int
	action Action
	item   *item
	head   deliveryHead
	gone   bool
	file   string
}

func (e *edit) write(b *batch) error {
	it := e.s.plan.find(e.id, e.n)
	if it == nil {
		return errNoChange
	}
	if it.busy {
		return errBusy
	}
	e.item = it
	e.head = deliveryHead{state: it.state, wish: it.wish, due: it.due, domain: it.domain.name}
	switch {
	case e.action == Drop && it.state == leased:
		e.head.wish = wishDrop
	case e.action == Drop:
		e.gone = true
	case e.action == Hold && it.state == leased && it.wish == noWish:
		e.head.wish = wishHold
	case e.action == Hold && it.state == queued:
		e.head.state = held
	case e.action == Release && it.state == leased && it.wish == wishHold:
		e.head.wish = noWish
	case e.action == Release && it.state == held && it.wish != wishDrop:
		e.head.state, e.head.wish = queued, noWish
	case e.action == Retry && it.state == queued:
		e.head.due = e.s.now().UnixNano()
	default:
		return errNoChange
	}
	if e.gone {
		e.file = b.remove(e.s, it)
		e.s.plan.hide(it)
		return nil
	}
	record, err := b.get(deliveryKey(e.id, e.n))
	if err != nil {
		return err
	}
	old, text, err := decodeDeliveryHead(record)
	if err != nil {
		return err
	}
	stored := e.head
	if it.state == leased { // a lease is in memory only
		stored.state, stored.due = queued, old.due
		it.wish = e.head.wish // what ends the attempt, even in this batch, must see it
	} else {
		e.s.plan.hide(it)
	}
	b.set(deliveryKey(e.id, e.n), append(stored.append(nil), text...))
	return nil
}

func (e *edit) after(ok bool) {
	p := &e.s.plan
	switch {
	case !ok:
		e.file = ""
		p.unhide(e.item)
	case e.gone:
		if !p.remove(e.item) {
			p.shed(e.item.message)
		}
	case e.item.busy:
		e.item.busy, e.item.wish = false, e.head.wish
		p.change(e.item, e.head.state, e.head.due)
	}
}

func (e *edit) unlink() {
	if e.file != "" {
		os.Remove(e.file)
	}
}
