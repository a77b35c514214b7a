package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"srsd/envelope"
)

// keptAttempts is how many attempts a delivery remembers.
const keptAttempts = 20

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

func (s *Badger) grant(it *item, ttl time.Duration) {
	s.plan.token++
	it.token = s.plan.token
	s.plan.change(it, leased, s.steady()+int64(ttl))
}

// Lease implements Queue. PerDomain must not call the store.
func (s *Badger) Lease(ctx context.Context, q LeaseQuery) ([]Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if q.Now.IsZero() {
		q.Now = s.now()
	}
	leases, doomed := s.take(q)
	if doomed {
		s.forgetDoomed()
	}
	whole := leases[:0]
	for _, l := range leases {
		d, m, err := s.read(l.Delivery.Entry, l.Delivery.N)
		if err != nil {
			s.lost(l, err)
			continue
		}
		l.Message, l.Delivery = m, d
		l.Delivery.State = Leased
		whole = append(whole, l)
	}
	return whole, nil
}

// take chooses what is due, the oldest first.
func (s *Badger) take(q LeaseQuery) (leases []Lease, doomed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.plan
	p.stirred = false
	p.rejoin()
	p.expire(q.Now.UnixNano(), s.steady())
	wanted := map[*domain]int{}
	until := q.Now.Add(q.TTL)
	for len(leases) < q.Max && len(p.ready) > 0 {
		d := p.ready[0]
		it := d.queue[0]
		if it.due > q.Now.UnixNano() {
			break
		}
		if q.PerDomain != nil {
			n, asked := wanted[d]
			if !asked {
				n = q.PerDomain(d.name)
			}
			if n <= 0 {
				p.setApart()
				continue
			}
			wanted[d] = n - 1
		}
		s.grant(it, q.TTL)
		leases = append(leases, Lease{Delivery: Delivery{Entry: it.message.id, N: int(it.n)}, Token: it.token, Until: until})
	}
	// There may be more, and whoever has expired into the heap has stirred.
	p.stirred = false
	if len(leases) == q.Max {
		p.stir()
	}
	return leases, len(p.doomed) > 0
}

// read returns a delivery as it is stored, and its message.
func (s *Badger) read(id string, n int) (d Delivery, m envelope.Message, err error) {
	err = s.db.View(func(txn *badgerdb.Txn) error {
		b, err := get(txn, messageKey(id))
		if err == nil {
			m, _, err = decodeMessage(b)
		}
		if err == nil {
			b, err = get(txn, deliveryKey(id, n))
		}
		if err == nil {
			d, err = decodeDelivery(id, n, b)
		}
		return err
	})
	return d, m, err
}

// lost takes a delivery out of the schedule whose record cannot be read. It
// stays listed as held, as far as it can be listed.
func (s *Badger) lost(l Lease, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.plan.find(l.Delivery.Entry, l.Delivery.N)
	if it == nil || it.token != l.Token {
		return // dropped in the meantime
	}
	s.plan.change(it, held, it.due)
	s.damage.Damaged++
	s.log.Error("queue entry is damaged", "id", l.Delivery.Entry, "error", err)
}

// Extend implements Queue.
func (s *Badger) Extend(ctx context.Context, leases []Lease, ttl time.Duration) (lost []Lease, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until := s.steady() + int64(ttl)
	for _, l := range leases {
		it := s.holds(l)
		if it == nil || it.busy || it.wish == wishDrop && it.state != leased {
			lost = append(lost, l)
			continue
		}
		s.plan.change(it, leased, until)
	}
	return lost, nil
}

// holds returns the delivery of a lease that is still good: nobody else has
// leased the delivery since.
func (s *Badger) holds(l Lease) *item {
	it := s.plan.find(l.Delivery.Entry, l.Delivery.N)
	if it == nil || it.token == 0 || it.token != l.Token || it.state == failed {
		return nil
	}
	return it
}

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
