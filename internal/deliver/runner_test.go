package deliver

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"srsd/envelope"
	"srsd/spf"
	"srsd/store"
)

// in runs a test in a bubble with the queue being worked on.
func in(t *testing.T, change func(*Config), fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		stop := w.run()
		fn(t, w)
		stop()
	})
}

// about says whether a duration is within the jitter of another.
func within(d, want time.Duration) bool { return d >= want*4/5 && d <= want*6/5+2*time.Second }

func TestRetrySchedule(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		var at []time.Time
		w.target().answer = func(stage, _ string) string {
			if stage == "rcpt" {
				at = append(at, time.Now())
				return "450 4.2.1 later"
			}
			return ""
		}
		w.deliver(message("jo.private@target.example"))
		time.Sleep(30 * time.Hour)
		w.target().set(func() { w.target().answer = nil })
		for i, want := range []time.Duration{5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 8 * time.Hour} {
			if i+1 < len(at) && !within(at[i+1].Sub(at[i]), want) {
				t.Errorf("wait %d is %v, want %v", i+1, at[i+1].Sub(at[i]), want)
			}
		}
		time.Sleep(10 * time.Hour)
		if w.queue.none(t); len(w.target().got()) != 1 || len(at) < 8 {
			t.Errorf("%d attempts, %d messages", len(at), len(w.target().got()))
		}
	})
}

func TestGivingUp(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprintf("told=%v", told), func(t *testing.T) {
			in(t, func(c *Config) { c.Policy.DelayWarning = 4 * time.Hour }, func(t *testing.T, w *world) {
				w.target().answer = always("rcpt", "450 4.2.1 jo.private is full")
				m := message("jo.private@target.example")
				if !told {
					m.SPF = "softfail"
				}
				w.deliver(m)
				time.Sleep(4*24*time.Hour + 12*time.Hour)
				if n, _ := w.queue.Count(t.Context()); n != 1 {
					t.Fatalf("%d in the queue after 4½ days", n)
				}
				time.Sleep(24 * time.Hour)
				reports := w.reports()
				if !told {
					if x := w.queue.only(t).Deliveries[0]; x.State != store.Failed || len(reports) != 0 {
						t.Errorf("%+v, %v", x, reports)
					}
					return
				}
				if len(reports) != 2 || reports[0].kind != KindDelayed || reports[1].kind != KindFailed {
					t.Fatalf("%+v", reports)
				}
				if f := reports[1].about[0]; f.Reply.Text != "jo@alumni.example is full" || f.Route.Alias.String() != "jo@alumni.example" {
					t.Errorf("%+v", f)
				}
				if got := w.sender().got(); len(got) != 2 || got[0].from != "" || got[1].to[0] != "ann@sender.example" {
					t.Errorf("%+v", got)
				}
				w.queue.none(t)
			})
		})
	}
}

// One report tells of all that failed, and waits for what may still succeed.
func TestOneReportAMessage(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.target().answer = always("rcpt", "450 4.2.1 later")
		w.other().answer = always("rcpt", "550 5.1.1 no")
		w.deliver(message("a.private@target.example", "b.private@other.example"))
		time.Sleep(10 * time.Minute)
		if n := len(w.reports()); n != 0 {
			t.Fatalf("%d reports too early", n)
		}
		w.target().set(func() { w.target().answer = always("rcpt", "550 5.7.1 never") })
		time.Sleep(time.Hour)
		reports := w.reports()
		if len(reports) != 1 || len(reports[0].about) != 2 {
			t.Fatalf("%+v", reports)
		}
		w.queue.none(t)
	})
}

// Many refusals are more than a delivery can hold; all are told at once.
func TestManyRefused(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.target().answer = func(stage, arg string) string {
			if stage == "rcpt" && arg != "later@target.example" {
				return "550 5.1.1 " + arg + " unknown"
			}
			return map[string]string{"rcpt": "450 4.2.1 later"}[stage]
		}
		to := []string{"later@target.example"}
		for i := range 60 {
			to = append(to, fmt.Sprintf("no%d@target.example", i))
		}
		w.deliver(message(to...))
		w.target().set(func() { w.target().answer = nil })
		time.Sleep(10 * time.Minute)
		if r := w.reports(); len(r) != 1 || len(r[0].about) != 60 {
			t.Errorf("%+v", r)
		}
		if n := len(w.target().got()); n != 1 {
			t.Errorf("%d messages", n)
		}
		w.queue.none(t)
	})
}

// A failure is told as soon as the last other route is delivered.
func TestReportAfterSuccess(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.target().answer = always("rcpt", "450 4.2.1 later")
		w.other().answer = always("rcpt", "550 5.1.1 no")
		w.deliver(message("a.private@target.example", "b.private@other.example"))
		w.target().set(func() { w.target().answer = nil })
		time.Sleep(10 * time.Minute)
		if r := w.reports(); len(r) != 1 || len(r[0].about) != 1 || len(w.target().got()) != 1 {
			t.Errorf("%+v", r)
		}
		w.queue.none(t)
	})
}

// A failure does not wait for ever.
func TestReportAfterPatience(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.target().answer = always("rcpt", "450 4.2.1 later")
		w.other().answer = always("rcpt", "550 5.1.1 no")
		w.deliver(message("a.private@target.example", "b.private@other.example"))
		time.Sleep(5 * time.Hour)
		if r := w.reports(); len(r) != 1 || len(r[0].about) != 1 {
			t.Fatalf("%+v", r)
		}
		if x := w.queue.only(t); len(x.Deliveries) != 1 || x.Deliveries[0].Domain != "target.example" {
			t.Errorf("%+v", x)
		}
	})
}

// A dead destination with a long queue is asked seldom and by few, and one that
// serves does not notice.
func TestDeadDestination(t *testing.T) {
	in(t, func(c *Config) { c.Policy.Budget = 2 * time.Second }, func(t *testing.T, w *world) {
		w.target().answer = always("banner", "hang")
		m := message("x@target.example")
		for i := range 500 {
			m.ID = fmt.Sprint("dead", i)
			w.queue.Enqueue(t.Context(), store.Entry{Message: m, Deliveries: []store.Delivery{{Entry: m.ID, Domain: "target.example", Routes: m.Routes, State: store.Queued, Due: time.Now()}}}, emptyBody{}, 0)
		}
		time.Sleep(time.Second)
		for i := range 100 {
			m := message("y@other.example")
			m.ID = fmt.Sprint("good", i)
			w.queue.Enqueue(t.Context(), store.Entry{Message: m, Deliveries: []store.Delivery{{Entry: m.ID, Domain: "other.example", Routes: m.Routes, State: store.Queued, Due: time.Now()}}}, emptyBody{}, 0)
		}
		began := time.Now()
		time.Sleep(5 * time.Second)
		if n := len(w.other().got()); n != 100 {
			t.Errorf("%d of 100 delivered", n)
		}
		for _, x := range w.other().got() {
			if d := x.at.Sub(began); d > 2*time.Second {
				t.Errorf("delivered after %v", d)
			}
		}
		time.Sleep(3 * time.Hour)
		if n := w.target().dialled(); n > 200 {
			t.Errorf("%d connections to a dead host in three hours", n)
		}
		if w.target().peak > 20 {
			t.Errorf("%d connections at a time", w.target().peak)
		}
		w.target().set(func() { w.target().answer = nil })
		time.Sleep(9 * time.Hour)
		if n := len(w.target().got()); n != 500 {
			t.Errorf("%d of 500 delivered when it came back", n)
		}
	})
}

// What waits for a dead host grows old like everything else.
func TestDeadQueueIsGivenUp(t *testing.T) {
	in(t, func(c *Config) { c.Policy.DelayWarning = 4 * time.Hour }, func(t *testing.T, w *world) {
		w.target().refuse = fmt.Errorf("refused")
		for i := range 100 {
			m := message("x@target.example")
			m.ID = fmt.Sprint("dead", i)
			w.deliver(m)
		}
		time.Sleep(4 * 24 * time.Hour)
		if n, _ := w.queue.Count(t.Context()); n != 100 {
			t.Errorf("%d of 100 left after four days", n)
		}
		time.Sleep(3 * 24 * time.Hour)
		if w.queue.none(t); len(w.sender().got()) != 200 {
			t.Errorf("%d reports about delay and failure", len(w.sender().got()))
		}
		if n := w.target().dialled(); n > 7*24*6 {
			t.Errorf("%d connections to a dead host in a week", n)
		}
	})
}

// While a next hop is left alone, its mail goes to the queue without an attempt.
func TestBackOffSparesTheClient(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.target().refuse = fmt.Errorf("refused")
		for i := range 3 {
			m := message("jo.private@target.example")
			m.ID = fmt.Sprint(i)
			w.deliver(m)
			time.Sleep(time.Second)
		}
		if n := w.target().dialled(); n != 2 {
			t.Errorf("%d connections", n)
		}
		w.target().set(func() { w.target().refuse = nil })
		time.Sleep(10 * time.Minute)
		w.queue.none(t)
	})
}

// The operator's word ends a back-off.
func TestForgive(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.target().refuse = fmt.Errorf("refused")
		for i := range 10 {
			m := message("jo.private@target.example")
			m.ID = fmt.Sprint(i)
			w.deliver(m)
		}
		time.Sleep(time.Hour)
		w.target().set(func() { w.target().refuse = nil })
		w.Forgive("target.example")
		w.queue.Edit(t.Context(), store.Filter{}, store.Retry)
		time.Sleep(2 * time.Second)
		w.queue.none(t)
	})
}

func TestSmarthostFallback(t *testing.T) {
	in(t, func(c *Config) {
		c.Policy.Smarthost, c.Policy.SmarthostFallback = "192.88.99.10:25", []string{"192.88.99.11:25"}
	}, func(t *testing.T, w *world) {
		w.target().refuse = fmt.Errorf("refused")
		if r := w.deliver(message("a@one.example", "b@two.example")); r.Code != 250 || len(w.other().got()) != 1 || len(w.other().got()[0].to) != 2 {
			t.Errorf("%v, %+v", r, w.other().got())
		}
		w.queue.none(t)
		w.other().set(func() { w.other().answer = always("mail", "451 4.3.0 no") })
		w.deliver(message("a@one.example", "b@two.example"))
		if x := w.queue.only(t); len(x.Deliveries) != 2 {
			t.Errorf("%+v", x)
		}
		w.other().set(func() { w.other().answer = nil })
		time.Sleep(10 * time.Minute)
		w.queue.none(t)
	})
}

// A clock that jumps ahead ends nothing; one that is set back holds up nothing.
func TestClock(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, 24 * time.Hour, 10 * 365 * 24 * time.Hour, -24 * time.Hour, -10 * 365 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			var offset atomic.Int64
			in(t, func(c *Config) {
				c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
				c.Policy.DelayWarning = 4 * time.Hour
			}, func(t *testing.T, w *world) {
				w.queue.now = w.config.Now
				w.target().answer = always("rcpt", "450 4.2.1 later")
				m := message("jo.private@target.example")
				m.Received = w.config.Now()
				w.deliver(m)
				time.Sleep(30 * time.Second)
				tries := w.queue.only(t).Deliveries[0].Tries
				synctest.Wait()
				offset.Store(int64(jump))
				time.Sleep(10 * time.Minute)
				x := w.queue.only(t).Deliveries[0]
				if x.State != store.Queued || x.Tries <= tries || x.Tries > tries+2 || len(w.reports()) != 0 {
					t.Errorf("%v after %d tries, %d reports", x.State, x.Tries, len(w.reports()))
				}
			})
		})
	}
}

func TestDrain(t *testing.T) {
	for _, c := range []struct {
		name string
		wait time.Duration
		took time.Duration
		left int
	}{{"in time", 10 * time.Second, 10 * time.Second, 0}, {"too long", time.Hour, drainGrace, 1}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(c *Config) { c.Policy.Mode = QueueFirst })
				w.target().wait = map[string]time.Duration{"dot": c.wait}
				stop := w.run()
				w.deliver(message("jo.private@target.example"))
				synctest.Wait()
				began := time.Now()
				stop()
				if d := time.Since(began); d != c.took+gathering {
					t.Errorf("ended after %v", d)
				}
				if n, _ := w.queue.Count(t.Context()); n != c.left {
					t.Errorf("%d left", n)
				}
				time.Sleep(time.Hour)
			})
		})
	}
}

// Leases last as long as their attempts.
func TestLongAttempt(t *testing.T) {
	in(t, func(c *Config) { c.Policy.DotTimeout = 2 * time.Hour }, func(t *testing.T, w *world) {
		w.target().wait = map[string]time.Duration{"dot": time.Hour}
		w.deliver(message("jo.private@target.example"))
		time.Sleep(2 * time.Hour)
		w.queue.none(t)
		if n := w.target().dialled(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// An outcome is stored when the store works again, and nothing is sent twice.
func TestStoreInTrouble(t *testing.T) {
	in(t, func(c *Config) { c.Policy.Mode = QueueFirst }, func(t *testing.T, w *world) {
		w.queue.broken = 5
		w.deliver(message("jo.private@target.example"))
		time.Sleep(10 * time.Minute)
		if w.queue.none(t); len(w.target().got()) != 1 {
			t.Errorf("%d copies", len(w.target().got()))
		}
	})
}

// A message whose body is gone is held for the operator.
func TestDamagedBody(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		m := message("jo.private@target.example")
		w.queue.Enqueue(t.Context(), store.Entry{Message: m, Deliveries: []store.Delivery{{Entry: m.ID, Domain: "target.example", Routes: m.Routes, State: store.Queued}}}, emptyBody{}, 0)
		time.Sleep(time.Minute)
		w.queue.none(t) // a body that can be read is sent

		w.config.Queue = corrupt{w.queue}
		w.queue.Enqueue(t.Context(), store.Entry{Message: m, Deliveries: []store.Delivery{{Entry: m.ID, Domain: "target.example", Routes: m.Routes, State: store.Queued}}}, emptyBody{}, 0)
		time.Sleep(time.Minute)
		if x := w.queue.only(t).Deliveries[0]; x.State != store.Held {
			t.Errorf("%+v", x)
		}
	})
}

func TestRelayedReport(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		m := message("jo.private@target.example")
		m.Routes[0].Notify = envelope.NotifySuccess
		w.deliver(m)
		if n := len(w.reports()); n != 0 {
			t.Errorf("%d reports although the target knows DSN", n)
		}
		w.dns["MX target.example"] = []spf.MX{{Host: "mx.other.example"}}
		w.other().extend = []string{"PIPELINING"}
		w.deliver(m)
		if r := w.reports(); len(r) != 1 || r[0].kind != KindRelayed {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Minute)
	})
}

func TestLedgerBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		l := ledger{store: func(o []store.Outcome) []error {
			sizes = append(sizes, len(o))
			time.Sleep(time.Second) // the disk
			return make([]error, len(o))
		}}
		stored := 0
		add := func() { l.add(store.Outcome{}, func(error) { stored++ }) }
		go add()
		synctest.Wait()
		add() // comes while the first waits for more
		time.Sleep(500 * time.Millisecond)
		for range 5 { // come while those are being stored
			add()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(sizes, []int{2, 5}) || stored != 7 {
			t.Errorf("%v, %d stored", sizes, stored)
		}
	})
}

// Two routes that fail at the same moment make one report.
func TestFailingTogether(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.target().answer = always("rcpt", "450 4.2.1 later")
		w.other().answer = always("rcpt", "450 4.2.1 later")
		for i := range 20 {
			m := message("a.private@target.example", "b.private@other.example")
			m.ID = fmt.Sprint(i)
			w.deliver(m)
		}
		w.target().set(func() { w.target().answer = always("rcpt", "550 5.1.1 no") })
		w.other().set(func() { w.other().answer = always("rcpt", "550 5.1.1 no") })
		w.queue.Edit(t.Context(), store.Filter{}, store.Retry)
		time.Sleep(10 * time.Minute)
		for _, r := range w.reports() {
			if len(r.about) != 2 {
				t.Errorf("%+v", r)
			}
		}
		if n := len(w.reports()); n != 20 {
			t.Errorf("%d reports about 20 messages", n)
		}
		w.queue.none(t)
	})
}
