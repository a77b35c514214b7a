package catalogue_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// unrecorded is how long after a target's 250 a kill may still make a copy: the
// outcome is on its way to the disk.
const unrecorded = time.Second

// TestNothingIsLostByKills kills srsd at random, 3 times while 600 messages come
// (50 times with -long, until more than 10,000 were accepted), with targets that accept, defer, flip between
// accepting and refusing for now, and hang. Of the messages that were answered
// 250, 0 are lost and 0 are changed. A second copy follows only on a kill within
// 1 s after the target's 250 to the first.
func TestNothingIsLostByKills(t *testing.T) {
	t.Parallel()
	kills, messages := 3, 600
	if *long {
		kills, messages = 50, 12_000
	}
	kinds := []string{"accepts", "defers", "flips", "hangs"}
	zone := ""
	for i, k := range kinds {
		zone += fmt.Sprintf("%s.example MX 10 mx.%s.example\nmx.%s.example A NET.%d\n", k, k, k, 10+i)
	}
	w := newWorld(t, zone, kinds...)
	w.addr = w.freeAddress()
	var sinks []*sink
	for i := range kinds {
		sinks = append(sinks, w.target(10+i))
	}
	misbehave(sinks)
	config := w.configure("[receive]\nlisten = [\"" + w.addr + "\"]\n[deliver]\nbudget = \"200ms\"\ntimeout = \"1s\"\ndot_timeout = \"500ms\"\nretry = [\"300ms\"]\n")

	// The load keeps pace with the kills.
	var killed atomic.Int64
	var begun int64
	l := load{world: w,
		text: func(i int) string {
			return fmt.Sprintf("X-Id: %d\r\n\r\n%s\r\n", i, strings.Repeat(fmt.Sprint("body ", i, " "), 1+i%200))
		},
		to: func(i int) string { return kinds[i%len(kinds)] + "@alumni.example" },
	}
	l.pause = func() {
		for begun > int64(messages)*(killed.Load()+1)/int64(kills+1) {
			time.Sleep(time.Millisecond)
		}
		begun++
	}
	sent := make(chan struct{})
	go func() { defer close(sent); l.run(20, messages) }()
	var times []time.Time
	for range kills {
		p := serve(t, config, nil)
		wait := time.Duration(50+rand.IntN(1450)) * time.Millisecond
		if !*long {
			wait /= 3
		}
		time.Sleep(wait)
		p.kill()
		times = append(times, time.Now())
		killed.Add(1)
	}
	p := serve(t, config, nil)
	<-sent
	for _, s := range sinks {
		s.behave(nil)
	}
	within(t, 60*time.Second, "all is delivered", func() bool { n, _ := w.waiting(); return n == 0 })
	p.end(t)
	account(t, &l, sinks, times)
}

// misbehave makes each sink what its name says.
func misbehave(sinks []*sink) {
	var flips, hangs atomic.Int64
	sinks[1].behave(always("rcpt", "450 4.2.1 later"))
	sinks[2].behave(func(stage, _ string) string {
		if stage == "rcpt" && flips.Add(1)%2 == 0 || stage == "dot" && flips.Add(1)%3 == 0 {
			return "451 4.3.0 not now"
		}
		return ""
	})
	sinks[3].behave(func(stage, _ string) string {
		if stage == "dot" && hangs.Add(1)%3 == 0 {
			return "hang"
		}
		return ""
	})
}

// account looks at what arrived of what was accepted.
func account(t *testing.T, l *load, sinks []*sink, kills []time.Time) {
	arrived := map[int][]arrival{}
	changed, copies, unexplained := 0, 0, 0
	for _, s := range sinks {
		for _, m := range s.arrivals() {
			var id int
			_, text, _ := strings.Cut(string(m.data), "X-Id: ")
			fmt.Sscan(text, &id)
			if "X-Id: "+text != l.text(id) {
				changed++
			}
			arrived[id] = append(arrived[id], m)
		}
	}
	lost := 0
	for id := range l.accepted {
		if len(arrived[id]) == 0 {
			lost++
		}
	}
	for id, a := range arrived {
		for i := range a[1:] {
			copies++
			if !killedWithin(kills, a[i].at) {
				unexplained++
				t.Logf("message %d came at %v and %v", id, a[i].at, a[i+1].at)
			}
		}
	}
	t.Logf("%d kills, %d accepted, %d arrived, %d lost, %d copies, %d refused", len(kills), len(l.accepted), len(arrived), lost, copies, len(l.refused))
	if lost != 0 || changed != 0 || unexplained != 0 {
		t.Errorf("%d lost, %d changed, %d copies without a kill", lost, changed, unexplained)
	}
	if least := 100 * len(kills); len(l.accepted) < least || *long && len(l.accepted) < 10_000 {
		t.Errorf("only %d accepted", len(l.accepted))
	}
}

func killedWithin(kills []time.Time, at time.Time) bool {
	for _, k := range kills {
		if k.After(at) && k.Sub(at) < unrecorded {
			return true
		}
	}
	return false
}
