package store

import (
	"context"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"srsd/envelope"
)

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
		if it.state == held && it.wish == noWish {
			it.wish = wishHold // the operator has held it since the lease ran out
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

// grant leases a delivery with a new token.
func (s *Badger) grant(it *item, ttl time.Duration) {
	s.plan.token++
	it.token = s.plan.token
	s.plan.change(it, leased, s.steady()+int64(ttl))
}
