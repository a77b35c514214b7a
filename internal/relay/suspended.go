package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/internal/control"
	"srsd/internal/suspend"
)

// openSuspend loads the list of suspended targets.
func (r *Relay) openSuspend(l *live) (err error) {
	r.suspend, err = suspend.Open(context.Background(), suspend.Config{
		State: r.store, Policy: l.config.suspendPolicy(), Now: r.options.Now, Logger: r.log,
	})
	return err
}

// suspendPolicy is when a target is suspended. A hook without a slash is looked
// for in the PATH.
func (c *Config) suspendPolicy() suspend.Policy {
	b := c.Bounce
	p := suspend.Policy{After: b.SuspendAfter, Within: time.Duration(b.SuspendWithin), Hook: b.SuspendHook}
	if strings.Contains(p.Hook, "/") {
		p.Hook = under(filepath.Dir(c.File), p.Hook)
	}
	return p
}

// suspendVerbs answer "srsd alias suspended" and "srsd alias resume".
func (r *Relay) suspendVerbs() map[string]control.Verb {
	return map[string]control.Verb{
		"suspend/list": func(_ context.Context, _ json.RawMessage, say func(any) error) error {
			return sayAll(r.suspend.All(), say)
		},
		"suspend/resume": func(ctx context.Context, args json.RawMessage, say func(any) error) error {
			var address envelope.Address
			if err := json.Unmarshal(args, &address); err != nil {
				return fmt.Errorf("resume: %w", err)
			}
			addresses := []envelope.Address{address}
			if e, err := r.live.Load().table.Expand(address); err == nil {
				for _, t := range e.Targets {
					addresses = append(addresses, t.Address)
				}
			}
			ended, err := r.suspend.Resume(ctx, addresses...)
			if err != nil {
				return err
			}
			return sayAll(ended, say)
		},
	}
}

func sayAll(records []suspend.Record, say func(any) error) error {
	for _, x := range records {
		if err := say(x); err != nil {
			return err
		}
	}
	return nil
}
