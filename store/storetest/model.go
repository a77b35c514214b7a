package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"

	"srsd/envelope"
	"srsd/store"
)

// The model says in the simplest way what a Queue does.
type model struct {
	open    Open
	dir     string
	t       *testing.T
	engine  Engine
	now     time.Time
	clock   clock
	entries map[string]*modelEntry
	leases  []store.Lease // all that were ever granted
}

type modelEntry struct {
	message    envelope.Message
	body       []byte
	deliveries []*modelDelivery
}

type modelDelivery struct {
	store.Delivery
	at    time.Time // what orders it: Due, or when its lease was found to have run out
	until time.Time
	token uint64
	wish  store.Action
}

var (
	domains = []string{"one.example", "two.example", "three.example"}
	start   = time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC) // engines may also use the real clock to expire values: not before this
)

func testModel(t *testing.T, open Open) {
	rapid.Check(t, func(r *rapid.T) {
		m := &model{open: open, t: t, dir: t.TempDir(), now: start, entries: map[string]*modelEntry{}}
		m.clock.set(m.now)
		m.engine = open(t, m.dir, m.clock.now)
		defer func() { m.engine.Close() }()
		r.Repeat(map[string]func(*rapid.T){
			"enqueue": m.enqueue,
			"lease":   m.lease,
			"finish":  m.finish,
			"extend":  m.extend,
			"edit":    m.edit,
			"pass":    m.pass,
			"body":    m.body,
			"filter":  m.filter,
			"restart": m.restart,
			"":        m.same,
		})
	})
}

func (m *model) pass(r *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 400).Draw(r, "seconds")) * time.Second)
	m.clock.set(m.now)
}

func must(r rapid.TB, err error) {
	if err != nil {
		r.Helper()
		r.Fatal(err)
	}
}

// entry draws a new entry, and its body.
func (m *model) draw(r *rapid.T) (store.Entry, []byte) {
	id := fmt.Sprintf("q%02d", rapid.IntRange(0, 30).Draw(r, "id"))
	size := rapid.SampledFrom([]int{0, 10, 4096, 40_000}).Draw(r, "size")
	e := store.Entry{Message: envelope.Message{
		ID: id, Received: m.now, ReversePath: envelope.MustParse("ann@sender.example"), SPF: "pass",
		EnvelopeID: "x>y", Size: int64(size),
	}}
	for i := range rapid.IntRange(1, 3).Draw(r, "deliveries") {
		state := rapid.SampledFrom([]store.DeliveryState{store.Queued, store.Queued, store.Leased, store.Held, store.Failed}).Draw(r, "state")
		e.Deliveries = append(e.Deliveries, store.Delivery{
			Entry: id, N: i, State: state,
			Domain: rapid.SampledFrom(domains).Draw(r, "domain"),
			Routes: routes(fmt.Sprintf("t%d", i)),
			Due:    m.now.Add(time.Duration(rapid.IntRange(-300, 300).Draw(r, "due")) * time.Second),
		})
	}
	return e, bytes.Repeat([]byte(id+"\r\n"), size/5+1)[:size]
}

func routes(names ...string) (rs []envelope.Route) {
	for _, n := range names {
		rs = append(rs, envelope.Route{
			Alias:  envelope.MustParse(n + "@alumni.example"),
			Target: envelope.MustParse(n + ".private@target.example"),
			Notify: envelope.NotifyFailure,
		})
	}
	return rs
}

func (m *model) enqueue(r *rapid.T) {
	e, body := m.draw(r)
	got, err := m.engine.Enqueue(r.Context(), e, bytes.NewReader(body), time.Minute)
	must(r, err)
	if old := m.entries[e.ID]; old != nil {
		// No effect; the leases that there are come back.
		for _, l := range got {
			d := m.find(l)
			if d == nil || d.State != store.Leased || d.token != l.Token {
				r.Fatalf("a second Enqueue granted %v", l)
			}
		}
		return
	}
	x := m.add(e, body)
	for _, d := range x.deliveries {
		if d.State != store.Leased {
			continue
		}
		if len(got) == 0 || got[0].Delivery.N != d.N {
			r.Fatalf("delivery %d not leased: %v", d.N, got)
		}
		m.granted(d, got[0], m.now.Add(time.Minute))
		got = got[1:]
	}
	if len(got) > 0 {
		r.Fatalf("leases too many: %v", got)
	}
}

func (m *model) add(e store.Entry, body []byte) *modelEntry {
	x := &modelEntry{message: e.Message, body: body}
	for _, d := range e.Deliveries {
		x.deliveries = append(x.deliveries, &modelDelivery{Delivery: d, at: d.Due})
	}
	m.entries[e.ID] = x
	return x
}

func (m *model) granted(d *modelDelivery, l store.Lease, until time.Time) {
	d.State, d.token, d.until = store.Leased, l.Token, until
	m.leases = append(m.leases, l)
}

func (m *model) find(l store.Lease) *modelDelivery {
	if e := m.entries[l.Delivery.Entry]; e != nil {
		for _, d := range e.deliveries {
			if d.N == l.Delivery.N {
				return d
			}
		}
	}
	return nil
}

// holds is find where the lease is still good.
func (m *model) holds(l store.Lease) *modelDelivery {
	d := m.find(l)
	if d == nil || d.token != l.Token || d.State == store.Failed {
		return nil
	}
	return d
}

func (m *model) all() (ds []*modelDelivery) {
	for _, id := range slices.Sorted(maps.Keys(m.entries)) {
		ds = append(ds, m.entries[id].deliveries...)
	}
	return ds
}

func (m *model) remove(d *modelDelivery) {
	e := m.entries[d.Entry]
	e.deliveries = slices.DeleteFunc(e.deliveries, func(x *modelDelivery) bool { return x == d })
	if len(e.deliveries) == 0 {
		delete(m.entries, d.Entry)
	}
}

func (m *model) lease(r *rapid.T) {
	q := store.LeaseQuery{Now: m.now, Max: rapid.IntRange(1, 4).Draw(r, "max"), TTL: time.Minute}
	limit := map[string]int{}
	if rapid.Bool().Draw(r, "limited") {
		for _, d := range domains {
			limit[d] = rapid.IntRange(0, 2).Draw(r, d)
		}
		q.PerDomain = func(domain string) int { return limit[domain] }
	}
	want := m.due(q, limit)
	got, err := m.engine.Lease(r.Context(), q)
	must(r, err)
	if len(got) != len(want) {
		r.Fatalf("%d leases, want %d", len(got), len(want))
	}
	for i, d := range want {
		l := got[i]
		m.granted(d, l, m.now.Add(time.Minute))
		equal(r, d.Delivery, l.Delivery)
		equal(r, m.entries[d.Entry].message, l.Message)
	}
}

// due lets leases run out, and chooses.
func (m *model) due(q store.LeaseQuery, limit map[string]int) (want []*modelDelivery) {
	var due []*modelDelivery
	for _, d := range m.all() {
		if d.State == store.Leased && d.until.Before(m.now) {
			d.State, d.at = store.Queued, m.now
			switch d.wish {
			case store.Hold:
				d.State = store.Held
			case store.Drop:
				m.remove(d)
				continue
			}
		}
		if d.State == store.Queued && !d.at.After(m.now) {
			due = append(due, d)
		}
	}
	sort.SliceStable(due, func(i, j int) bool { return due[i].at.Before(due[j].at) })
	for _, d := range due {
		if q.PerDomain != nil {
			if limit[d.Domain] == 0 {
				continue
			}
			limit[d.Domain]--
		}
		want = append(want, d)
		if len(want) == q.Max {
			break
		}
	}
	if q.PerDomain != nil { // the engine counts anew
		for _, d := range want {
			limit[d.Domain]++
		}
	}
	return want
}

func (m *model) finish(r *rapid.T) {
	if len(m.leases) == 0 {
		return
	}
	l := rapid.SampledFrom(m.leases).Draw(r, "lease")
	d := m.holds(l)
	o := store.Outcome{Lease: l, Attempts: []store.Attempt{{At: m.now, Remote: "mx.target.example", Reply: envelope.NewReply(451, envelope.EnhancedCode{4, 3, 0}, "later")}}}
	kind := rapid.SampledFrom([]string{"done", "later", "hold", "fail"}).Draw(r, "outcome")
	switch kind {
	case "later", "hold":
		o.Routes, o.Due, o.Hold = routes("left"), m.now.Add(5*time.Minute), kind == "hold"
		o.Delayed = rapid.Bool().Draw(r, "delayed")
	case "fail":
		o.Failed = true
	}
	errs, err := m.engine.Finish(r.Context(), []store.Outcome{o})
	if d == nil {
		if !errors.Is(errs[0], store.ErrLeaseLost) {
			r.Fatalf("an old lease ended a delivery: %v", errs)
		}
		return
	}
	must(r, err)
	must(r, errs[0])
	m.ended(d, o, kind)
}

func (m *model) ended(d *modelDelivery, o store.Outcome, kind string) {
	if kind == "done" || d.wish == store.Drop {
		m.remove(d)
		return
	}
	d.Attempts = append(slices.Clone(d.Attempts), o.Attempts...)
	d.Tries++
	d.Delayed = d.Delayed || o.Delayed
	d.token = 0
	if kind == "fail" {
		d.State, d.wish = store.Failed, ""
		return
	}
	d.Routes, d.State, d.Due, d.at = o.Routes, store.Queued, o.Due, o.Due
	if kind == "hold" || d.wish == store.Hold {
		d.State = store.Held
	}
	d.wish = ""
}

func (m *model) extend(r *rapid.T) {
	if len(m.leases) == 0 {
		return
	}
	l := rapid.SampledFrom(m.leases).Draw(r, "lease")
	lost, err := m.engine.Extend(r.Context(), []store.Lease{l}, 10*time.Minute)
	must(r, err)
	d := m.holds(l)
	if (d == nil) != (len(lost) == 1) {
		r.Fatalf("lost %v, model has %v", lost, d)
	}
	if d != nil {
		if d.State == store.Held && d.wish == "" {
			d.wish = store.Hold
		}
		d.State, d.until = store.Leased, m.now.Add(10*time.Minute)
	}
}

func (m *model) drawFilter(r *rapid.T) (f store.Filter) {
	if rapid.Bool().Draw(r, "by domain") {
		f.Domain = rapid.SampledFrom(domains).Draw(r, "domain")
	}
	if rapid.Bool().Draw(r, "by id") {
		f.IDs = []string{"q07", "q01", fmt.Sprintf("q%02d", rapid.IntRange(0, 30).Draw(r, "id"))}
	}
	if rapid.Bool().Draw(r, "by state") {
		f.State = rapid.SampledFrom([]store.DeliveryState{store.Queued, store.Leased, store.Held, store.Failed}).Draw(r, "state")
	}
	if rapid.Bool().Draw(r, "by age") {
		f.OlderThan = m.now.Add(-time.Duration(rapid.IntRange(0, 600).Draw(r, "age")) * time.Second)
	}
	if rapid.Bool().Draw(r, "by address") {
		f.Address = rapid.SampledFrom([]string{"T1@alumni.example", "ann@sender.example", "t0.private@target.example", "nobody@target.example"}).Draw(r, "address")
	}
	return f
}

func (m *model) edit(r *rapid.T) {
	f := m.drawFilter(r)
	a := rapid.SampledFrom([]store.Action{store.Retry, store.Hold, store.Release, store.Drop}).Draw(r, "action")
	want := 0
	for _, d := range m.all() {
		if f.Matches(m.entries[d.Entry].message, d.Delivery) && m.act(d, a) {
			want++
		}
	}
	got, err := m.engine.Edit(r.Context(), f, a)
	must(r, err)
	if got != want {
		r.Fatalf("%s changed %d, want %d", a, got, want)
	}
}

func (m *model) act(d *modelDelivery, a store.Action) bool {
	switch {
	case a == store.Drop && d.State != store.Leased:
		m.remove(d)
	case a == store.Drop, a == store.Hold && d.State == store.Leased && d.wish == "":
		d.wish = a
	case a == store.Hold && d.State == store.Queued:
		d.State, d.Due = store.Held, d.at
	case a == store.Release && d.State == store.Leased && d.wish == store.Hold:
		d.wish = ""
	case a == store.Release && d.State == store.Held:
		d.State, d.wish, d.Due = store.Queued, "", d.at
	case a == store.Retry && d.State == store.Queued:
		d.Due, d.at = m.now, m.now
	default:
		return false
	}
	return true
}
