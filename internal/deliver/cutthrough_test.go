package deliver

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"srsd/envelope"
	"srsd/store"
)

// always answers a stage.
func always(stage, reply string) func(string, string) string {
	return func(s, _ string) string {
		if s == stage {
			return reply
		}
		return ""
	}
}

func TestDelivered(t *testing.T) {
	w := newWorld(t, nil)
	if r := w.deliver(message("jo.private@target.example")); r.Code != 250 {
		t.Fatal(r)
	}
	got := w.target().got()
	if len(got) != 1 || got[0].from != "SRS0=h=t=sender.example=ann@srs.alumni.example" || got[0].text != "Delivered-To: jo@alumni.example\r\n"+text {
		t.Fatalf("%+v", got)
	}
	w.queue.none(t)
}

func TestOutcomes(t *testing.T) {
	const yes, no, later = "", "550 5.1.1 b.private@other.example is unknown", "450 4.2.1 busy"
	for _, c := range []struct {
		name, first, second string // of two targets
		spf                 string
		code                int
		queued, reports     int // deliveries left, reports
		listed              int // failures listed
	}{
		{"all accept", yes, yes, "pass", 250, 0, 0, 0},
		{"all refuse", no, "554 5.7.1 no", "pass", 554, 0, 0, 0},
		{"all defer", later, later, "pass", 250, 2, 0, 0},
		{"one accepts, one defers", yes, later, "pass", 250, 1, 0, 0},
		{"one accepts, one refuses", yes, no, "pass", 250, 0, 1, 0},
		{"one accepts, one refuses, nobody may be told", yes, no, "softfail", 250, 0, 0, 1},
		{"one defers, one refuses", later, no, "pass", 250, 2, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.target().answer, w.other().answer = always("rcpt", c.first), always("rcpt", c.second)
			m := message("a.private@target.example", "b.private@other.example")
			m.SPF = c.spf
			r := w.deliver(m)
			if r.Code != c.code || strings.Contains(r.Text, "private") {
				t.Errorf("answered %v", r)
			}
			queued, listed := 0, 0
			all, _, _ := w.queue.List(context.Background(), store.Filter{IDs: []string{"q1"}}, "", 9)
			for _, e := range all {
				for _, x := range e.Deliveries {
					if x.State == store.Failed {
						listed++
					} else {
						queued++
					}
				}
			}
			if queued != c.queued || listed != c.listed || len(w.reports()) != c.reports {
				t.Errorf("%d queued, %d listed, %d reports", queued, listed, len(w.reports()))
			}
		})
	}
}

// Verdicts has a row for whatever can happen.
func TestVerdictsComplete(t *testing.T) {
	for i := 1; i < 8; i++ {
		if _, ok := verdicts[tally{i&1 > 0, i&2 > 0, i&4 > 0}]; !ok {
			t.Errorf("no row %03b", i)
		}
	}
}

func TestBudgetEndsWithAttemptInFlight(t *testing.T) {
	for _, c := range []struct {
		name, reply string
		left        int
	}{{"then accepted", "", 0}, {"then deferred", "451 4.3.0 no", 1}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.target().wait = map[string]time.Duration{"dot": time.Minute}
				w.target().answer = always("dot", c.reply)
				began := time.Now()
				if r := w.deliver(message("jo.private@target.example")); r.Code != 250 || time.Since(began) != 20*time.Second {
					t.Fatalf("%v after %v", r, time.Since(began))
				}
				if x := w.queue.only(t).Deliveries[0]; x.State != store.Leased {
					t.Fatalf("%+v", x)
				}
				stop := w.run()
				time.Sleep(50 * time.Second)
				synctest.Wait()
				if n, _ := w.queue.Count(t.Context()); n != c.left || w.target().dialled() != 1 {
					t.Errorf("%d left, %d connections", n, w.target().dialled())
				}
				if c.left == 1 {
					x := w.queue.only(t).Deliveries[0]
					if x.State != store.Queued || x.Tries != 1 || x.Attempts[0].Reply.Code != 451 {
						t.Errorf("%+v", x)
					}
				}
				stop()
			})
		})
	}
}

// What waits for its turn when the budget ends has not begun and is queued.
func TestBudgetEndsBeforeTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Policy.ConnectionsPerHop = 1 })
		w.target().wait = map[string]time.Duration{"dot": time.Minute}
		go w.deliver(message("first.private@target.example"))
		time.Sleep(time.Second)
		m := message("second.private@target.example")
		m.ID = "q2"
		if r := w.deliver(m); r.Code != 250 {
			t.Fatal(r)
		}
		all, _, _ := w.queue.List(t.Context(), store.Filter{IDs: []string{"q2"}}, "", 1)
		if x := all[0].Deliveries[0]; x.State != store.Queued || x.Tries != 0 {
			t.Errorf("%+v", x)
		}
		time.Sleep(2 * time.Minute)
		if n := len(w.target().got()); n != 1 {
			t.Errorf("%d messages, the abandoned one went out", n)
		}
	})
}

func TestStoreFull(t *testing.T) {
	w := newWorld(t, nil)
	w.target().answer = always("rcpt", "450 4.2.1 later")
	w.queue.full = store.ErrFull
	if r := w.deliver(message("jo.private@target.example")); r.Code != 452 || r.Enhanced.String() != "4.3.1" {
		t.Error(r)
	}
	w.queue.full = errors.New("broken")
	if r := w.deliver(message("jo.private@target.example")); r.Code != 451 {
		t.Error(r)
	}
}

func TestQueueMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Policy.Mode = QueueFirst })
		w.target().wait = map[string]time.Duration{"dot": time.Minute}
		began := time.Now()
		if r := w.deliver(message("jo.private@target.example")); r.Code != 250 || time.Since(began) != 0 {
			t.Fatalf("%v after %v", r, time.Since(began))
		}
		if w.queue.only(t).Deliveries[0].State != store.Leased {
			t.Error("not leased to the attempt")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if w.queue.none(t); len(w.target().got()) != 1 {
			t.Error("not delivered")
		}
	})
}

func TestOverloadGoesToTheQueue(t *testing.T) {
	w := newWorld(t, nil)
	w.cutting.Store(maxCutThrough)
	w.leases.hops = map[string]int{"target.example": 1000} // no room for an attempt at once
	if r := w.deliver(message("jo.private@target.example")); r.Code != 250 {
		t.Fatal(r)
	}
	if x := w.queue.only(t).Deliveries[0]; x.State != store.Queued || w.target().dialled() != 0 {
		t.Errorf("%+v", x)
	}
}

func TestClientGone(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r := w.Deliver(ctx, message("jo.private@target.example"), bytes.NewReader(nil)); !r.Temporary() || w.target().dialled() != 0 {
		t.Error(r, w.target().dialled())
	}
}

// counted is a body with users.
type counted struct {
	*bytes.Reader
	users atomic.Int64
}

func (c *counted) Retain()  { c.users.Add(1) }
func (c *counted) Release() { c.users.Add(-1) }

func TestBodyIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.target().wait = map[string]time.Duration{"dot": time.Minute}
		body := &counted{Reader: bytes.NewReader([]byte(text))}
		w.Deliver(t.Context(), message("jo.private@target.example"), body)
		if n := body.users.Load(); n != 1 {
			t.Errorf("%d users while the attempt goes on", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := body.users.Load(); n != 0 {
			t.Errorf("%d users at the end", n)
		}
	})
}

func TestGroups(t *testing.T) {
	m := message("a@target.example", "b@TARGET.example", "c@other.example", "a@target.example")
	m.Routes[3].Alias = envelope.MustParse("also@alumni.example")
	home := m.Routes[0]
	home.Return = true
	m.Routes = append(m.Routes, home)
	names := func(p Policy) (out [][]string) {
		for _, g := range groups(p.withDefaults(), m.Routes) {
			one := []string{g.hop}
			for _, r := range g.rcpts {
				one = append(one, r.route.Target.String())
			}
			out = append(out, one)
		}
		return out
	}
	want := [][]string{{"target.example", "a@target.example", "b@TARGET.example"}, {"other.example", "c@other.example"}, {"target.example", "a@target.example"}}
	if d := cmp.Diff(want, names(Policy{})); d != "" {
		t.Error(d)
	}
	want = [][]string{{"smart:25", "a@target.example", "b@TARGET.example", "c@other.example"}, {"smart:25", "a@target.example"}}
	if d := cmp.Diff(want, names(Policy{Smarthost: "smart:25"})); d != "" {
		t.Error(d)
	}
}

func TestDeliveredTo(t *testing.T) {
	p := Policy{}.withDefaults()
	one := message("a@target.example")
	if h := groups(p, one.Routes)[0].head(); h != "Delivered-To: a@alumni.example\r\n" {
		t.Errorf("%q", h)
	}
	two := message("a@target.example", "b@target.example")
	if h := groups(p, two.Routes)[0].head(); h != "" {
		t.Errorf("two aliases: %q", h)
	}
	two.Routes[1].Alias = two.Routes[0].Alias
	if h := groups(p, two.Routes)[0].head(); h == "" {
		t.Error("one alias with two targets has no Delivered-To")
	}
	one.Routes[0].Return = true
	if h := groups(p, one.Routes)[0].head(); h != "" {
		t.Errorf("on the way home: %q", h)
	}
}
