package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// fresh opens an empty engine that runs by the real clock.
func fresh(t *testing.T, open Open) Engine {
	s := open(t, t.TempDir(), time.Now)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Entry is an entry with one delivery for each domain, and its body.
func Entry(id string, state store.DeliveryState, domains ...string) (store.Entry, *bytes.Reader) {
	e := store.Entry{Message: envelope.Message{ID: id, Received: time.Now(), ReversePath: envelope.MustParse("ann@sender.example")}}
	for _, domain := range domains {
		a := envelope.MustParse("jo@" + domain)
		e.Deliveries = append(e.Deliveries, store.Delivery{
			Domain: domain, State: state, Due: time.Now().Add(-time.Second),
			Routes: []envelope.Route{{Alias: envelope.MustParse("jo@alumni.example"), Target: a}},
		})
	}
	return e, bytes.NewReader(Body(id))
}

// Body is the body of an entry of Entry: 4 KB that tell whose they are.
func Body(id string) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%-14.14s\r\n", id)), 256) }

func enqueue(t testing.TB, s store.Queue, id string, state store.DeliveryState, domains ...string) []store.Lease {
	t.Helper()
	e, body := Entry(id, state, domains...)
	leases, err := s.Enqueue(context.Background(), e, body, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return leases
}

func take(t testing.TB, s store.Queue, q store.LeaseQuery) []store.Lease {
	t.Helper()
	if q.Max == 0 {
		q.Max = 100
	}
	if q.TTL == 0 {
		q.TTL = time.Minute
	}
	if q.Now.IsZero() {
		q.Now = time.Now()
	}
	leases, err := s.Lease(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return leases
}

func finish(t testing.TB, s store.Queue, os ...store.Outcome) []error {
	t.Helper()
	errs, err := s.Finish(context.Background(), os)
	if err != nil {
		t.Fatal(err)
	}
	return errs
}

func count(t testing.TB, s store.Queue, want int) {
	t.Helper()
	if n, err := s.Count(context.Background()); err != nil || n != want {
		t.Fatalf("count %d, %v; want %d", n, err, want)
	}
}

func enqueueTwice(t *testing.T, open Open) {
	s := fresh(t, open)
	var wg sync.WaitGroup
	tokens := make([]uint64, 8)
	for i := range tokens {
		wg.Go(func() {
			e, body := Entry("twice", store.Leased, "a.example")
			l, err := s.Enqueue(context.Background(), e, body, time.Minute)
			if err != nil || len(l) != 1 {
				t.Error(l, err)
				return
			}
			tokens[i] = l[0].Token
		})
	}
	wg.Wait()
	count(t, s, 1)
	for _, token := range tokens {
		if token != tokens[0] {
			t.Errorf("tokens %d: one delivery is leased several times", tokens)
		}
	}
}

func manyAtOnce(t *testing.T, open Open) {
	s := fresh(t, open)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				e, body := Entry(fmt.Sprintf("m%02d%02d", w, i), store.Leased, "a.example", "b.example")
				l, err := s.Enqueue(context.Background(), e, body, time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				// The two deliveries end in two calls at once.
				var both sync.WaitGroup
				for _, l := range l {
					both.Go(func() {
						if errs, err := s.Finish(context.Background(), []store.Outcome{{Lease: l}}); err != nil || errs[0] != nil {
							t.Error(errs, err)
						}
					})
				}
				both.Wait()
			}
		})
	}
	wg.Wait()
	count(t, s, 0)
	if es, _, err := s.List(context.Background(), store.Filter{}, "", 10); len(es) > 0 || err != nil {
		t.Errorf("left: %v %v", es, err)
	}
}

func fencing(t *testing.T, open Open) {
	var c clock
	begin := time.Now()
	c.set(begin)
	s := open(t, t.TempDir(), c.now)
	defer s.Close()
	enqueue(t, s, "f", store.Queued, "a.example")
	first := take(t, s, store.LeaseQuery{Now: begin})
	c.set(begin.Add(59 * time.Second))
	if again := take(t, s, store.LeaseQuery{Now: c.now()}); len(again) > 0 {
		t.Fatal("leased twice")
	}
	c.set(begin.Add(61 * time.Second))
	second := take(t, s, store.LeaseQuery{Now: c.now()})
	if len(first) != 1 || len(second) != 1 || first[0].Token == second[0].Token {
		t.Fatalf("leases %v, then %v", first, second)
	}
	if lost, _ := s.Extend(context.Background(), first, time.Hour); len(lost) != 1 {
		t.Error("the old lease could be extended")
	}
	if errs := finish(t, s, store.Outcome{Lease: first[0]}); !errors.Is(errs[0], store.ErrLeaseLost) {
		t.Errorf("the old lease ended the delivery: %v", errs)
	}
	count(t, s, 1)
	if errs := finish(t, s, store.Outcome{Lease: second[0]}, store.Outcome{Lease: second[0]}); errs[0] != nil || !errors.Is(errs[1], store.ErrLeaseLost) {
		t.Errorf("ended: %v", errs)
	}
	count(t, s, 0)
}

// heldMeanwhile holds a delivery whose lease has run out. Its old holder extends
// the lease, and tries again later: the delivery stays held, as the operator
// wanted.
func heldMeanwhile(t *testing.T, open Open) {
	var c clock
	begin := time.Now()
	c.set(begin)
	s := open(t, t.TempDir(), c.now)
	defer s.Close()
	enqueue(t, s, "h", store.Queued, "a.example")
	leases := take(t, s, store.LeaseQuery{Now: begin})
	c.set(begin.Add(61 * time.Second))
	if got := take(t, s, store.LeaseQuery{Now: c.now(), PerDomain: func(string) int { return 0 }}); len(leases) != 1 || len(got) != 0 {
		t.Fatalf("leases %v, then %v", leases, got)
	}
	if n, err := s.Edit(context.Background(), store.Filter{}, store.Hold); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if lost, err := s.Extend(context.Background(), leases, time.Hour); len(lost) != 0 || err != nil {
		t.Fatal(lost, err)
	}
	d := leases[0].Delivery
	if errs := finish(t, s, store.Outcome{Lease: leases[0], Routes: d.Routes, Due: c.now()}); errs[0] != nil {
		t.Fatal(errs)
	}
	entries, _, err := s.List(context.Background(), store.Filter{}, "", 10)
	if err != nil || len(entries) != 1 || entries[0].Deliveries[0].State != store.Held {
		t.Errorf("%v %v", entries, err)
	}
}

func deadDomain(t *testing.T, open Open) {
	s := fresh(t, open)
	for i := range 200 {
		enqueue(t, s, fmt.Sprintf("a%03d", i), store.Queued, "dead.example")
	}
	enqueue(t, s, "z", store.Queued, "good.example")
	q := store.LeaseQuery{Max: 10, PerDomain: func(d string) int {
		if d == "dead.example" {
			return 2
		}
		return 100
	}}
	got := map[string]int{}
	for _, l := range take(t, s, q) {
		got[l.Delivery.Domain]++
	}
	if got["dead.example"] != 2 || got["good.example"] != 1 {
		t.Errorf("leased %v", got)
	}
}

func cursor(t *testing.T, open Open) {
	s := fresh(t, open)
	for i := range 10 {
		enqueue(t, s, fmt.Sprintf("c%d", i), store.Queued, "a.example")
	}
	var seen []string
	for cursor := ""; ; {
		es, next, err := s.List(context.Background(), store.Filter{}, cursor, 4)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			seen = append(seen, e.ID)
		}
		if len(seen) == 4 { // what goes and comes behind the cursor does not matter
			if _, err := s.Edit(context.Background(), store.Filter{IDs: []string{"c3"}}, store.Drop); err != nil {
				t.Fatal(err)
			}
			enqueue(t, s, "c10", store.Queued, "a.example")
		}
		if cursor = next; next == "" {
			break
		}
	}
	if got := strings.Join(seen, " "); got != "c0 c1 c2 c3 c4 c5 c6 c7 c8 c9" {
		t.Errorf("listed %s", got)
	}
}

// addresses checks that what an address may hold survives.
func addresses(t *testing.T, open Open) {
	s := fresh(t, open)
	e, body := Entry("addr", store.Queued, "a.example")
	e.ReversePath = envelope.Address{}
	e.Client.HELO = `<"\>`
	e.Deliveries[0].Routes = []envelope.Route{{
		Alias:       envelope.MustParse(`"a b\"@c"@alumni.example`),
		Target:      envelope.MustParse("jürgen@bücher.example"),
		ReversePath: envelope.MustParse("SRS0=abcd=tt=sender.example=ann@srs.alumni.example"),
		Via:         []envelope.Address{envelope.MustParse("postmaster")},
		Original:    "rfc822;jo+2Bx@alumni.example",
	}}
	if _, err := s.Enqueue(context.Background(), e, body, 0); err != nil {
		t.Fatal(err)
	}
	l := take(t, s, store.LeaseQuery{})
	if len(l) != 1 {
		t.Fatalf("leased %v", l)
	}
	equal(t, e.Deliveries[0].Routes, l[0].Delivery.Routes)
	equal(t, e.Message, l[0].Message)
}

func wake(t *testing.T, open Open) {
	s := fresh(t, open)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	take(t, s, store.LeaseQuery{})
	woken := make(chan error, 1)
	go func() { woken <- s.Wake(ctx) }()
	e, body := Entry("w", store.Queued, "a.example")
	e.Deliveries[0].Due = time.Now().Add(50 * time.Millisecond)
	if _, err := s.Enqueue(ctx, e, body, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; err != nil {
		t.Fatalf("an Enqueue does not wake: %v", err)
	}
	for len(take(t, s, store.LeaseQuery{})) == 0 {
		if err := s.Wake(ctx); err != nil {
			t.Fatalf("what is due does not wake: %v", err)
		}
	}
	short, stop := context.WithTimeout(ctx, 20*time.Millisecond)
	defer stop()
	take(t, s, store.LeaseQuery{})
	if err := s.Wake(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("woken for nothing: %v", err)
	}
}

func attempts(t *testing.T, open Open) {
	s := fresh(t, open)
	enqueue(t, s, "t", store.Queued, "a.example")
	now := time.Now()
	for i := range 25 {
		l := take(t, s, store.LeaseQuery{Now: now})
		if len(l) != 1 {
			t.Fatalf("try %d: leased %v", i, l)
		}
		d := l[0].Delivery
		reply := envelope.NewReply(451, envelope.EnhancedCode{4, 0, i}, "no\xff\nno")
		finish(t, s, store.Outcome{Lease: l[0], Routes: d.Routes, Due: now, Attempts: []store.Attempt{{At: now, Reply: reply}}})
	}
	es, _, _ := s.List(context.Background(), store.Filter{}, "", 1)
	d := es[0].Deliveries[0]
	if len(d.Attempts) != 20 || d.Tries != 25 || d.Attempts[19].Reply.Enhanced[2] != 24 || d.Attempts[0].Reply.Enhanced[2] != 5 {
		t.Errorf("%d attempts of %d tries, the last %v", len(d.Attempts), d.Tries, d.Attempts[len(d.Attempts)-1])
	}
}

func spawn(t *testing.T, open Open) {
	s := fresh(t, open)
	l := enqueue(t, s, "orig", store.Leased, "a.example")
	e, body := Entry("report", store.Queued, "sender.example")
	outcome := store.Outcome{Lease: l[0], Failed: true, Spawn: &store.Spawn{Entry: e, Body: body}}
	finish(t, s, outcome)
	count(t, s, 1)
	// The lease is gone: the outcome has no effect, and neither has its report.
	outcome.Spawn.Entry.ID = "another"
	if errs := finish(t, s, outcome); !errors.Is(errs[0], store.ErrLeaseLost) {
		t.Errorf("finished twice: %v", errs)
	}
	count(t, s, 1)
	if _, err := s.OpenBody(context.Background(), "orig"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the body of what has failed: %v", err)
	}
	if es, _, _ := s.List(context.Background(), store.Filter{State: store.Failed}, "", 9); len(es) != 1 || es[0].ID != "orig" {
		t.Errorf("failed: %v", es)
	}
}

// concurrency runs everything at once; the race detector and the final count
// are the judges.
func concurrency(t *testing.T, open Open) {
	s := fresh(t, open)
	ctx, cancel := context.WithCancel(context.Background())
	var producers, others sync.WaitGroup
	for w := range 4 {
		producers.Go(func() {
			for i := range 50 {
				enqueue(t, s, fmt.Sprintf("p%d%02d", w, i), store.Queued, fmt.Sprintf("d%d.example", i%5))
			}
		})
	}
	for range 3 {
		others.Go(func() {
			for ctx.Err() == nil {
				for _, l := range take(t, s, store.LeaseQuery{Max: 7, PerDomain: func(string) int { return 3 }}) {
					o := store.Outcome{Lease: l}
					if l.Token%3 == 0 {
						o.Routes, o.Due = l.Delivery.Routes, time.Now()
					}
					if body, err := s.OpenBody(ctx, l.Delivery.Entry); err == nil {
						body.Close()
					} else if ctx.Err() == nil {
						t.Error(err)
					}
					finish(t, s, o)
				}
			}
		})
	}
	others.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			s.Edit(ctx, store.Filter{Domain: "d1.example"}, []store.Action{store.Hold, store.Release, store.Retry}[i%3])
			s.List(ctx, store.Filter{State: store.Leased}, "", 10)
		}
	})
	producers.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		n, err := s.Count(ctx)
		if n == 0 || err != nil || time.Now().After(deadline) {
			break
		}
		s.Edit(ctx, store.Filter{}, store.Release)
	}
	cancel()
	others.Wait()
	count(t, s, 0)
}
