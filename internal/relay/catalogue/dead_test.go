package catalogue_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// TestADeadDestinationHindersNobody puts 2,000 messages for a target that says
// nothing into the queue (100,000 with -long), and sends new ones to a good
// target. With -long: 99 in 100 of the good ones take less than twice as long as
// without the others, or less than 100 ms. The dead target sees at most 20
// connections at a time, which is connections_per_hop.
func TestADeadDestinationHindersNobody(t *testing.T) {
	dead, messages := 2000, 100
	if *long {
		dead, messages = 100_000, 1000
	} else {
		t.Parallel() // nothing is measured
	}
	alone, _ := goodLatency(t, 0, messages)
	among, target := goodLatency(t, dead, messages)
	_, dialled, peak := target.count()
	t.Logf("p99 %v alone, %v among %d dead ones; %d connections to the dead target, %d at a time", alone, among, dead, dialled, peak)
	if *long && among > max(2*alone, 100*time.Millisecond) {
		t.Errorf("p99 is %v among dead ones, and %v without", among, alone)
	}
	if dialled == 0 || peak > 20 {
		t.Errorf("%d connections to the dead target, %d at a time", dialled, peak)
	}
}

// goodLatency is how long the slowest of 99 in 100 messages takes.
func goodLatency(t *testing.T, dead, messages int) (time.Duration, *sink) {
	t.Helper()
	w := newWorld(t, oneTarget+"dead.example MX 10 mx.dead.example\nmx.dead.example A NET.11\n", "jo", "dead")
	w.configure("")
	fill(t, filepath.Join(w.dir, "data"), dead)
	good, hanging := w.target(10), w.target(11)
	hanging.behave(always("banner", "hang"))
	w.start("[deliver]\ntimeout = \"2s\"\n")
	if dead > 0 {
		eventually(t, "the dead target is tried", func() bool { _, n, _ := hanging.count(); return n > 0 })
	}
	s, err := dial(w.addr, w.net+"9")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var took []time.Duration
	for i := range messages {
		began := time.Now()
		reply, err := s.send("ann@origin.example", "jo@alumni.example", fmt.Sprintf("X-Id: %d\r\n\r\nHello.\r\n", i))
		if err != nil || reply[0] != '2' {
			t.Fatal(reply, err)
		}
		took = append(took, time.Since(began))
		if *long {
			time.Sleep(5 * time.Millisecond)
		}
	}
	if n, _, _ := good.count(); n != messages {
		t.Errorf("%d of %d good ones arrived", n, messages)
	}
	w.stop()
	slices.Sort(took)
	return took[len(took)*99/100], hanging
}

// fill makes a queue.
func fill(t *testing.T, dir string, n int) {
	t.Helper()
	if n == 0 {
		return
	}
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	parse := func(a string) envelope.Address {
		x, err := envelope.ParseAddress(a)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	from, alias, target := parse("ann@origin.example"), parse("dead@alumni.example"), parse("dead@dead.example")
	var filling sync.WaitGroup
	for first := range 64 {
		filling.Go(func() {
			for i := first; i < n; i += 64 {
				id := fmt.Sprintf("D%07d", i)
				m := envelope.Message{ID: id, ReversePath: from, Received: time.Now(), SPF: "softfail",
					Routes: []envelope.Route{{Alias: alias, Target: target, ReversePath: from}}}
				d := store.Delivery{Entry: id, Domain: "dead.example", Routes: m.Routes, State: store.Queued, Due: time.Now()}
				if _, err := s.Enqueue(context.Background(), store.Entry{Message: m, Deliveries: []store.Delivery{d}}, bytes.NewReader([]byte("Subject: x\r\n\r\nHello.\r\n")), 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	filling.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
