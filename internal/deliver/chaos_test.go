package deliver

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"srsd/envelope"
	"srsd/store"
)

var long = flag.Bool("long", false, "run the slow tests too")

// Whatever the servers do, each route of an accepted message is delivered, told
// about or listed in the end, and none of a refused message is. Copies come only
// from a connection lost after the dot.
func TestNothingIsLost(t *testing.T) {
	rounds := 10
	if *long {
		rounds = 300
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { chaos(t, uint64(seed)) })
	}
}

// moods are what a server may do for a while.
var moods = []func(stage, arg string, r *rand.Rand) string{
	func(string, string, *rand.Rand) string { return "" },
	func(stage, _ string, _ *rand.Rand) string { return map[string]string{"rcpt": "450 4.2.1 later"}[stage] },
	func(stage, _ string, _ *rand.Rand) string { return map[string]string{"rcpt": "550 5.1.1 no"}[stage] },
	func(stage, arg string, _ *rand.Rand) string { // by recipient
		if stage == "rcpt" && arg[0] == 'a' {
			return "550 5.1.1 no"
		}
		if stage == "rcpt" && arg[0] == 'b' {
			return "451 4.3.0 later"
		}
		return ""
	},
	func(stage, _ string, _ *rand.Rand) string {
		return map[string]string{"banner": "421 4.3.2 busy"}[stage]
	},
	func(stage, _ string, _ *rand.Rand) string { return map[string]string{"data": "451 4.3.0 no"}[stage] },
	func(stage, _ string, _ *rand.Rand) string { return map[string]string{"dot": "554 5.6.0 no"}[stage] },
	func(stage, _ string, r *rand.Rand) string { // mad
		if stage != "dot" && r.IntN(5) == 0 {
			return []string{"drop", "450 4.0.0 no", "421 4.0.0 bye", "hang", "hello"}[r.IntN(5)]
		}
		return ""
	},
	func(stage, _ string, _ *rand.Rand) string { return map[string]string{"banner": "hang"}[stage] },
}

func chaos(t *testing.T, seed uint64) {
	mode := []string{CutThrough, QueueFirst}[seed%2]
	in(t, func(c *Config) {
		c.Policy.Mode, c.Policy.Lifetime, c.Policy.DelayWarning = mode, 24*time.Hour, 2*time.Hour
	}, func(t *testing.T, w *world) {
		r := rand.New(rand.NewPCG(seed, 1))
		servers := []*server{w.target(), w.other()}
		change := func() {
			for _, s := range servers {
				mood := moods[r.IntN(len(moods))]
				own := rand.New(rand.NewPCG(r.Uint64(), 2))
				s.set(func() { s.answer = func(stage, arg string) string { return mood(stage, arg, own) } })
			}
		}
		replies := map[string]envelope.Reply{}
		for i := range 30 {
			change()
			var to []string
			for _, local := range []string{"a", "b", "c"}[:1+r.IntN(3)] {
				to = append(to, local+fmt.Sprint(i)+"@"+[]string{"target.example", "other.example"}[r.IntN(2)])
			}
			m := message(to...)
			m.ID = fmt.Sprint("m", i)
			m.SPF = []string{"pass", "softfail"}[r.IntN(2)]
			reply := w.deliver(m)
			for _, x := range to {
				replies[x] = reply
			}
			time.Sleep(time.Duration(r.IntN(600)) * time.Second)
		}
		for range 30 {
			change()
			time.Sleep(2 * time.Hour)
		}
		synctest.Wait()
		fates(t, w, servers, replies)
	})
}

// fates checks what became of each route.
func fates(t *testing.T, w *world, servers []*server, replies map[string]envelope.Reply) {
	delivered, told, listed := map[string]int{}, map[string]int{}, map[string]int{}
	for _, s := range servers {
		for _, m := range s.got() {
			for _, to := range m.to {
				delivered[to]++
			}
		}
	}
	for _, r := range w.reports() {
		for _, f := range r.about {
			if r.kind == KindFailed {
				told[f.Route.Target.String()]++
			}
		}
	}
	entries, _, _ := w.queue.List(t.Context(), store.Filter{}, "", 1000)
	for _, e := range entries {
		for _, x := range e.Deliveries {
			if x.State != store.Failed {
				t.Errorf("still in the queue: %+v", x)
			}
			for _, r := range x.Routes {
				listed[r.Target.String()]++
			}
		}
	}
	for to, reply := range replies {
		n := delivered[to] + told[to] + listed[to]
		switch {
		case reply.Accepted() && n != 1:
			t.Errorf("%s, accepted: delivered %d, told %d, listed %d times", to, delivered[to], told[to], listed[to])
		case reply.Permanent() && n != 0:
			t.Errorf("%s, refused: delivered %d, told %d, listed %d times", to, delivered[to], told[to], listed[to])
		case reply.Temporary():
			t.Errorf("%s: %v", to, reply)
		}
	}
}
