package deliver

import (
	"context"
	"errors"
	"testing"
	"time"

	"srsd/envelope"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Attempts that overlap and all fail lead to a back-off, however they lie.
func TestBackOffCountsOverlapping(t *testing.T) {
	for _, stagger := range []time.Duration{0, 12 * time.Millisecond, time.Second, 29 * time.Second} {
		var h hops
		p := Policy{}.withDefaults()
		failures := 0
		type attempt struct{ began, ends time.Time }
		var under []attempt
		for i := range 10 {
			under = append(under, attempt{t0.Add(time.Duration(i) * stagger), t0.Add(time.Duration(i)*stagger + 30*time.Second)})
			h.acquire(context.Background(), "x", 20, t0)
		}
		for ; failures < 200; failures++ {
			a := under[0]
			under = under[1:]
			h.release("x", p, dead, replyDNS, a.began, a.ends)
			if err := h.acquire(context.Background(), "x", 20, a.ends); err != nil {
				break
			}
			next := a.ends.Add(10 * time.Millisecond)
			under = append(under, attempt{next, next.Add(30 * time.Second)})
		}
		if failures > 30 {
			t.Errorf("%v apart: %d failures and no end", stagger, failures)
		}
	}
}

func TestBackOff(t *testing.T) {
	var h hops
	p := Policy{}.withDefaults()
	now := t0
	try := func(s health) error {
		if err := h.acquire(context.Background(), "x", 20, now); err != nil {
			return err
		}
		h.release("x", p, s, envelope.Reply{}, now, now)
		return nil
	}
	now = now.Add(time.Second)
	try(dead)
	if err := try(dead); err != nil {
		t.Error("a single failure keeps everybody away")
	}
	for _, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
		now = now.Add(want - time.Millisecond)
		if err := try(dead); !errors.Is(err, errBackOff) {
			t.Errorf("tried before %v had passed: %v", want, err)
		}
		now = now.Add(time.Millisecond)
		if err := h.acquire(context.Background(), "x", 20, now); err != nil {
			t.Fatalf("not tried after %v: %v", want, err)
		}
		if err := try(dead); !errors.Is(err, errBackOff) {
			t.Errorf("a second one beside the first after a back-off: %v", err)
		}
		h.release("x", p, dead, envelope.Reply{}, now, now)
	}
	now = now.Add(10 * time.Minute)
	h.acquire(context.Background(), "x", 20, now)
	if !h.release("x", p, alive, envelope.Reply{}, now, now) {
		t.Error("nobody is told that it is back")
	}
	if err := try(alive); err != nil {
		t.Error(err)
	}
}

func TestTurnsInOrder(t *testing.T) {
	var h hops
	p := Policy{ConnectionsPerHop: 1}.withDefaults()
	h.acquire(context.Background(), "x", 1, t0)
	turns := make(chan int)
	for i := range 5 {
		go func() {
			if h.acquire(context.Background(), "x", 1, t0) == nil {
				turns <- i
			}
		}()
		for waiting := 0; waiting <= i; {
			h.mu.Lock()
			waiting = len(h.hops["x"].waiting)
			h.mu.Unlock()
		}
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.acquire(gone, "x", 1, t0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for i := range 5 {
		h.release("x", p, alive, envelope.Reply{}, t0, t0)
		if got := <-turns; got != i {
			t.Errorf("turn %d went to %d", i, got)
		}
	}
	h.release("x", p, alive, envelope.Reply{}, t0, t0)
	if x := h.hops["x"]; x.active != 0 || len(x.waiting) != 0 {
		t.Errorf("%+v", x)
	}
}
