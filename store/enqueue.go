package store

import (
	"context"
	"fmt"
	"os"
	"time"

	"srsd/envelope"
)

// maxDeliveries of one entry must fit into one transaction.
const maxDeliveries = 5000

// Enqueue implements Queue. Once the entry is on its way to the disk, the end
// of ctx does not stop it.
func (s *Badger) Enqueue(ctx context.Context, e Entry, body envelope.Body, ttl time.Duration) ([]Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.Free(); err != nil {
		return nil, err
	}
	n, err := s.newEntry(e, body)
	if err != nil {
		return nil, err
	}
	var leases []Lease
	r := &request{octets: n.octets(), write: n.write}
	r.after = func(ok bool) {
		n.after(ok)
		if ok {
			leases = s.granted(n, ttl)
		}
	}
	if err := s.submit(r); err != nil {
		return nil, err
	}
	if r.err != nil {
		n.undo()
		return nil, r.err
	}
	return leases, nil
}

// newEntry is an entry on its way into the queue.
type newEntry struct {
	s      *Badger
	entry  Entry
	body   storedBody
	record []byte
	heads  []deliveryHead
	texts  [][]byte // encoded deliveries
	known  bool     // it was there before
}

func (s *Badger) newEntry(e Entry, body envelope.Body) (*newEntry, error) {
	if err := checkID(e.ID); err != nil {
		return nil, err
	}
	if len(e.Deliveries) == 0 || len(e.Deliveries) > maxDeliveries {
		return nil, fmt.Errorf("store: entry %s has %d deliveries", e.ID, len(e.Deliveries))
	}
	n := &newEntry{s: s, entry: e}
	alive := false
	for i, d := range e.Deliveries {
		d.Entry, d.N = e.ID, i
		h := deliveryHead{domain: d.Domain, due: toNano(d.Due)}
		switch d.State {
		case Held:
			h.state = held
		case Failed:
			h.state, h.due = failed, s.now().Add(s.keep).UnixNano()
		}
		alive = alive || h.state != failed
		text, err := encodeDelivery(h, d)
		if err != nil {
			return nil, err
		}
		n.heads, n.texts = append(n.heads, h), append(n.texts, text)
	}
	if alive && body == nil {
		return nil, fmt.Errorf("store: entry %s has no body", e.ID)
	}
	if !alive {
		body = nil
	}
	var err error
	if n.body, err = s.prepare(e.ID, body); err != nil {
		return nil, err
	}
	n.body.received = toNano(e.Received)
	if n.record, err = encodeMessage(n.body.messageHead, e.Message); err != nil {
		return nil, err
	}
	if size := n.octets(); size > batchOctets {
		n.undo()
		return nil, fmt.Errorf("store: the envelope of %s is too large: %d octets, %d are possible", e.ID, size, batchOctets)
	}
	return n, nil
}

func (n *newEntry) octets() int {
	sum := len(n.record) + len(n.body.data)
	for _, t := range n.texts {
		sum += len(t) + 100
	}
	return sum
}

func (n *newEntry) write(b *batch) error {
	id := n.entry.ID
	if n.known = n.s.plan.messages[id] != nil || b.adding[id]; n.known {
		return nil
	}
	b.set(messageKey(id), n.record)
	if n.body.place == inline {
		b.set(bodyKey(id), n.body.data)
	}
	for i, t := range n.texts {
		b.set(deliveryKey(id, i), t)
	}
	b.adding[id] = true
	b.added = append(b.added, id)
	b.ledger.messages++
	b.ledger.deliveries += uint64(len(n.texts))
	return nil
}

func (n *newEntry) after(ok bool) {
	if !ok || n.known {
		return
	}
	m := n.s.plan.add(n.entry.ID, n.body.messageHead)
	m.items = make([]*item, 0, len(n.heads))
	for i, h := range n.heads {
		n.s.plan.addItem(m, i, h)
	}
}

// undo removes the file of an entry that was not stored.
func (n *newEntry) undo() {
	if n.body.place == inFile && !n.known {
		os.Remove(spoolPath(n.s.dir, n.entry.ID))
	}
}

// granted leases the deliveries that came as leased; of an entry that was there
// before it returns the leases that there are.
func (s *Badger) granted(n *newEntry, ttl time.Duration) (leases []Lease) {
	m := n.entry.Message
	m.Routes = nil
	for i, d := range n.entry.Deliveries {
		it := s.plan.find(m.ID, i)
		if d.State != Leased || it == nil || n.known && it.state != leased {
			continue
		}
		if !n.known {
			s.grant(it, ttl)
		}
		d.Entry, d.N = m.ID, i
		until := s.now().Add(time.Duration(it.due - s.steady()))
		leases = append(leases, Lease{Delivery: d, Message: m, Token: it.token, Until: until})
	}
	return leases
}
