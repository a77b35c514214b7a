package relay

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srsd/internal/mailtest/story"
	"srsd/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// badger's cache and the metrics that it brings along start these for
		// the life of the process.
		goleak.IgnoreAnyFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// TestStories runs the stories in testdata/stories: what can happen to a
// message, one file each.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			story.Run(t, file, startInProcess)
		})
	}
}

// An inProcess is a relay whose clock can be moved.
type inProcess struct {
	*Relay
	moved *atomic.Int64 // how far the clock is ahead, in nanoseconds
	stop  context.CancelFunc
	ended chan error
}

func startInProcess(dir, _ string) (story.Relay, error) {
	c, err := LoadConfig(filepath.Join(dir, "srsd.toml"))
	if err != nil {
		return nil, err
	}
	p := inProcess{moved: new(atomic.Int64), ended: make(chan error, 1)}
	now := func() time.Time { return time.Now().Add(time.Duration(p.moved.Load())) }
	if p.Relay, err = New(c, Options{Now: now}); err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	go func() { p.ended <- p.Run(ctx) }()
	return p, nil
}

func (p inProcess) Addr() string { return p.Relay.Addr().String() }

// Advance moves the clock, and waits until nothing is due any more.
func (p inProcess) Advance(d time.Duration) {
	p.moved.Add(int64(d))
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if !p.busy() {
			return
		}
	}
}

// busy says whether a delivery is under way or due.
func (p inProcess) busy() bool {
	now := time.Now().Add(time.Duration(p.moved.Load()))
	entries, _, err := p.store.List(context.Background(), store.Filter{}, "", 1000)
	if err != nil {
		return false
	}
	for _, e := range entries {
		for _, d := range e.Deliveries {
			if d.State == store.Leased || d.State == store.Queued && !d.Due.After(now) {
				return true
			}
		}
	}
	return false
}

func (p inProcess) Close() error {
	p.stop()
	return <-p.ended
}
