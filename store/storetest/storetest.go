// Package storetest is the suite that every engine of package store must pass:
// a state machine against a model, directed tests of what the model leaves out,
// and a crash harness.
package storetest

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"srsd/store"
)

// An Engine is a store under test.
type Engine interface {
	store.Queue
	store.State
	io.Closer
}

// Open opens the engine whose data are in dir, with a clock. Opening a folder
// again, after Close or after a crash, is a restart.
type Open func(t testing.TB, dir string, now func() time.Time) Engine

// A clock is set by a test and read by an engine's goroutines.
type clock struct{ at atomic.Pointer[time.Time] }

func (c *clock) set(t time.Time) { c.at.Store(&t) }
func (c *clock) now() time.Time  { return *c.at.Load() }

// Run runs the suite.
func Run(t *testing.T, open Open) {
	t.Run("Model", func(t *testing.T) { testModel(t, open) })
	t.Run("Values", func(t *testing.T) { testValues(t, open) })
	for _, test := range []struct {
		name string
		run  func(t *testing.T, open Open)
	}{
		{"EnqueueTwiceAtOnce", enqueueTwice},
		{"ManyAtOnce", manyAtOnce},
		{"Fencing", fencing},
		{"HeldMeanwhile", heldMeanwhile},
		{"DeadDomain", deadDomain},
		{"Cursor", cursor},
		{"Addresses", addresses},
		{"Wake", wake},
		{"Attempts", attempts},
		{"SpawnIsAtomic", spawn},
		{"Counters", counters},
		{"CompareAndSwap", compareAndSwap},
		{"Concurrency", concurrency},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open) })
	}
}
