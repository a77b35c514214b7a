package store

import (
	"cmp"
	"container/heap"
	"strings"
	"time"
)

// A plan is what is in the queue, and when each delivery is due: all of it in
// memory, some 250 octets a message. It keeps one heap of deliveries for each
// next-hop domain and one heap of those domains, so that 100,000 deliveries to
// a dead domain cost a Lease no more than one look.
type plan struct {
	messages map[string]*message
	domains  map[string]*domain
	ready    byHead        // domains with something queued
	apart    []*domain     // those that the last Lease was not to take more from
	leases   byTime        // leased deliveries by the end of their lease
	doomed   []*item       // expired, and to be dropped
	failures byTime        // failed deliveries by when they are forgotten
	alive    int           // messages with a delivery that is not failed
	total    int           // deliveries
	octets   int64         // of all bodies that are in the index
	token    uint64        // the last one given out
	stirred  bool          // something has changed since the last Lease
	wake     chan struct{} // closed, and made anew, when stirred becomes true
}

func newPlan() plan {
	return plan{messages: map[string]*message{}, domains: map[string]*domain{}, wake: make(chan struct{})}
}

// A message is an entry in memory.
type message struct {
	id       string
	place    place
	size     int64
	received int64
	items    []*item // in the order of n
	open     int     // items that are not failed
}

// An item is a delivery in memory.
type item struct {
	message *message
	domain  *domain
	due     int64 // Unix nanoseconds; of a leased one: the end of its lease, by the steady clock
	token   uint64
	pos     int32 // in the heap that it is in, -1: in none
	n       uint16
	state   code
	wish    wish
	busy    bool // a change is being committed; nobody may lease it meanwhile
}

// A domain holds the queued deliveries to one next hop.
type domain struct {
	name   string
	queue  byTime
	pos    int  // in plan.ready, -1: not there
	apart  bool // in plan.apart
	events int  // items of any state
}

func (it *item) before(other *item) bool {
	return cmp.Or(cmp.Compare(it.due, other.due), strings.Compare(it.message.id, other.message.id), cmp.Compare(it.n, other.n)) < 0
}

// byTime is a heap of items.
type byTime []*item

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].before(h[j]) }
func (h byTime) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = int32(i), int32(j)
}
func (h *byTime) Push(x any) {
	it := x.(*item)
	it.pos = int32(len(*h))
	*h = append(*h, it)
}
func (h *byTime) Pop() any {
	last := len(*h) - 1
	it := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	it.pos = -1
	return it
}

// byHead is a heap of domains by their first delivery.
type byHead []*domain

func (h byHead) Len() int           { return len(h) }
func (h byHead) Less(i, j int) bool { return h[i].queue[0].before(h[j].queue[0]) }
func (h byHead) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}
func (h *byHead) Push(x any) {
	d := x.(*domain)
	d.pos = len(*h)
	*h = append(*h, d)
}
func (h *byHead) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	d.pos = -1
	return d
}

// add brings a message into the plan; its items follow.
func (p *plan) add(id string, h messageHead) *message {
	m := &message{id: id, place: h.place, size: h.size, received: h.received}
	p.messages[id] = m
	p.octets += m.indexed()
	return m
}

// indexed is the room that the body takes in the index.
func (m *message) indexed() int64 {
	if m.place == inline {
		return m.size
	}
	return 0
}

// addItem brings a delivery into the plan and files it.
func (p *plan) addItem(m *message, n int, h deliveryHead) *item {
	d := p.domains[h.domain]
	if d == nil {
		d = &domain{name: strings.Clone(h.domain), pos: -1}
		p.domains[d.name] = d
	}
	d.events++
	it := &item{message: m, domain: d, due: h.due, pos: -1, n: uint16(n), state: h.state, wish: h.wish}
	m.items = append(m.items, it)
	p.total++
	if it.state != failed {
		p.open(m, 1)
	}
	p.file(it)
	return it
}

func (p *plan) open(m *message, by int) {
	was := m.open > 0
	m.open += by
	if is := m.open > 0; is && !was {
		p.alive++
	} else if was && !is {
		p.alive--
	}
}

// find returns a delivery, nil where there is none.
func (p *plan) find(id string, n int) *item {
	if m := p.messages[id]; m != nil {
		for _, it := range m.items {
			if int(it.n) == n {
				return it
			}
		}
	}
	return nil
}

// file puts an item where its state belongs.
func (p *plan) file(it *item) {
	switch it.state {
	case queued:
		heap.Push(&it.domain.queue, it)
		p.settle(it.domain)
		p.stir()
	case leased:
		heap.Push(&p.leases, it)
	case failed:
		heap.Push(&p.failures, it)
	}
}

// unfile takes an item out of the heap that it is in.
func (p *plan) unfile(it *item) {
	if it.pos < 0 {
		return
	}
	switch it.state {
	case queued:
		heap.Remove(&it.domain.queue, int(it.pos))
		p.settle(it.domain)
	case leased:
		heap.Remove(&p.leases, int(it.pos))
	case failed:
		heap.Remove(&p.failures, int(it.pos))
	}
}

// settle puts a domain in its place after its queue has changed.
func (p *plan) settle(d *domain) {
	switch {
	case d.apart:
	case d.pos >= 0 && len(d.queue) == 0:
		p.removeReady(d)
	case d.pos >= 0:
		heap.Fix(&p.ready, d.pos)
	case len(d.queue) > 0:
		heap.Push(&p.ready, d)
	}
}

// removeReady removes a domain whose queue may be empty, where heap.Remove
// would look at its head.
func (p *plan) removeReady(d *domain) {
	i, last := d.pos, len(p.ready)-1
	if i != last {
		p.ready.Swap(i, last)
	}
	p.ready.Pop()
	if i != last {
		heap.Fix(&p.ready, i)
	}
}

// hide keeps a delivery from everybody while a change of it is being committed.
func (p *plan) hide(it *item) {
	p.unfile(it)
	it.busy = true
}

// unhide ends hide where the commit failed.
func (p *plan) unhide(it *item) {
	if it.busy {
		it.busy = false
		p.file(it)
	}
}

// change refiles an item in another state or for another time.
func (p *plan) change(it *item, state code, due int64) {
	p.unfile(it)
	if state == failed && it.state != failed {
		p.open(it.message, -1)
	}
	it.state, it.due = state, due
	p.file(it)
}

// remove forgets a delivery, and its message with the last one. It says
// whether that was the last.
func (p *plan) remove(it *item) (last bool) {
	p.unfile(it)
	m := it.message
	if it.state != failed {
		p.open(m, -1)
	}
	for i, other := range m.items {
		if other == it {
			m.items = append(m.items[:i], m.items[i+1:]...)
			break
		}
	}
	p.total--
	if it.domain.events--; it.domain.events == 0 && !it.domain.apart {
		delete(p.domains, it.domain.name)
	}
	if len(m.items) > 0 {
		return false
	}
	p.octets -= m.indexed()
	delete(p.messages, m.id)
	return true
}

// shed notes that a message without a delivery to make has no body any more.
func (p *plan) shed(m *message) {
	if m.open == 0 {
		p.octets -= m.indexed()
		m.place = nowhere
	}
}

// stir wakes those who wait for something to do.
func (p *plan) stir() {
	if !p.stirred {
		p.stirred = true
		close(p.wake)
		p.wake = make(chan struct{})
	}
}

// rejoin ends what the last Lease set apart.
func (p *plan) rejoin() {
	for _, d := range p.apart {
		d.apart = false
		if d.events == 0 {
			delete(p.domains, d.name)
		}
		p.settle(d)
	}
	p.apart = p.apart[:0]
}

// setApart takes the first domain out of the heap until the next rejoin.
func (p *plan) setApart() {
	d := heap.Pop(&p.ready).(*domain)
	d.apart = true
	p.apart = append(p.apart, d)
}

// expire gives back what leases have run out of. The token stays: until
// somebody else leases the delivery, its old holder may still end it.
func (p *plan) expire(now, steady int64) {
	for len(p.leases) > 0 && p.leases[0].due < steady {
		it := p.leases[0]
		if it.wish == noWish {
			p.change(it, queued, now)
			continue
		}
		p.change(it, held, now)
		if it.wish == wishDrop {
			p.doomed = append(p.doomed, it)
		}
	}
}

// next is how long nothing will be due, and no lease will end; at most a day.
func (p *plan) next(now, steady int64) time.Duration {
	wait := 24 * time.Hour
	if len(p.ready) > 0 {
		wait = min(wait, time.Duration(p.ready[0].queue[0].due-now))
	}
	if len(p.leases) > 0 {
		wait = min(wait, time.Duration(p.leases[0].due-steady))
	}
	return max(0, wait)
}
