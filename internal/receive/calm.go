package receive

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// calmLines is how many lines a second the guard may log. What it tells of are
// broken clients, of which there may be thousands.
const calmLines = 10

// A calm is a log handler that leaves out what comes too fast, and says with
// the next record how many it left out.
type calm struct {
	slog.Handler
	flow *flow
}

type flow struct {
	mu      sync.Mutex
	second  time.Time
	lines   int
	leftOut int
}

func (c calm) Handle(ctx context.Context, r slog.Record) error {
	leftOut, ok := c.flow.pass(r.Time)
	if !ok {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", leftOut))
	}
	return c.Handler.Handle(ctx, r)
}

func (c calm) WithAttrs(attrs []slog.Attr) slog.Handler {
	return calm{c.Handler.WithAttrs(attrs), c.flow}
}

func (c calm) WithGroup(name string) slog.Handler { return calm{c.Handler.WithGroup(name), c.flow} }

// pass says whether a line may be written now, and how many were not since the
// last.
func (f *flow) pass(now time.Time) (leftOut int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.second) >= time.Second {
		f.second, f.lines = now, 0
	}
	if f.lines == calmLines {
		f.leftOut++
		return 0, false
	}
	f.lines++
	leftOut, f.leftOut = f.leftOut, 0
	return leftOut, true
}
