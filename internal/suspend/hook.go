package suspend

import (
	"context"
	"log/slog"
	"os/exec"
	"sync"
	"time"
)

// hookTime is how long a hook may take.
const hookTime = 30 * time.Second

// hooks runs commands, a few at one time.
type hooks struct {
	log     *slog.Logger
	life    context.Context
	end     context.CancelFunc
	running *sync.WaitGroup
	places  chan struct{}
}

func newHooks(log *slog.Logger) hooks {
	h := hooks{log: log, running: &sync.WaitGroup{}, places: make(chan struct{}, 4)}
	h.life, h.end = context.WithCancel(context.Background())
	return h
}

// run runs a command without a shell, and does not wait for it. What finds no
// place is logged and left out: a hook that hangs must not pile up processes.
func (h hooks) run(command string, args ...string) {
	if command == "" || h.life.Err() != nil {
		return
	}
	select {
	case h.places <- struct{}{}:
	default:
		h.log.Error("bounce.suspend_hook is busy, this one is left out", "target", args[1])
		return
	}
	h.running.Go(func() {
		defer func() { <-h.places }()
		ctx, cancel := context.WithTimeout(h.life, hookTime)
		defer cancel()
		c := exec.CommandContext(ctx, command, args...)
		c.WaitDelay = time.Second
		if out, err := c.CombinedOutput(); err != nil {
			h.log.Error("bounce.suspend_hook failed", "target", args[1], "error", err, "output", visible(string(out)))
		}
	})
}

func (h hooks) close() {
	h.end()
	h.running.Wait()
}
