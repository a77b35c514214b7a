package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"srsd/internal/control"
	"srsd/internal/relay"
	"srsd/store"
)

type queueCmd struct {
	List    queueListCmd    `cmd:"" help:"List the messages that wait in the queue."`
	Show    queueShowCmd    `cmd:"" help:"Show one message: its envelope, its attempts with their replies, its header."`
	Retry   queueRetryCmd   `cmd:"" help:"Try deliveries now instead of when they are due."`
	Hold    queueHoldCmd    `cmd:"" help:"Keep deliveries from being tried until they are released."`
	Release queueReleaseCmd `cmd:"" help:"Give held deliveries back to the schedule."`
	Drop    queueDropCmd    `cmd:"" help:"Forget deliveries, also failed ones, without a report to anybody."`
}

// queueRelay is which relay a command is about.
type queueRelay struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration; default srsd.toml, then /etc/srsd/srsd.toml."`
}

func (q queueRelay) dial() (*control.Client, error) {
	path, err := relay.FindConfig(q.Config)
	if err != nil {
		return nil, err
	}
	config, err := relay.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	return control.Dial(config.DataDir)
}

// queueFilter selects deliveries.
type queueFilter struct {
	Domain    string         `placeholder:"DOMAIN" help:"Only deliveries to this domain."`
	Address   string         `placeholder:"ADDRESS" help:"Only with this reverse-path, recipient or target."`
	State     string         `enum:"queued,leased,held,failed,any" default:"any" help:"Only deliveries in this state: queued, leased (an attempt is under way), held, failed."`
	OlderThan relay.Duration `placeholder:"AGE" help:"Only messages received longer ago: 30m, 12h, 2d."`
}

func (q queueFilter) filter(now time.Time) store.Filter {
	f := store.Filter{Domain: strings.ToLower(q.Domain), Address: q.Address}
	if q.State != "any" {
		f.State = store.DeliveryState(q.State)
	}
	if q.OlderThan > 0 {
		f.OlderThan = now.Add(-time.Duration(q.OlderThan))
	}
	return f
}

// queueEdit is what the commands that change the queue share.
type queueEdit struct {
	IDs []string `arg:"" optional:"" name:"id" help:"Queue ids."`
	queueFilter
	queueRelay
	All  bool `help:"All that the other flags select."`
	JSON bool `name:"json" help:"Write {\"changed\": N}."`
}

type (
	queueRetryCmd   struct{ queueEdit }
	queueHoldCmd    struct{ queueEdit }
	queueReleaseCmd struct{ queueEdit }
	queueDropCmd    struct{ queueEdit }
)

// Run makes the deliveries due now.
func (q queueRetryCmd) Run(c console) error { return q.edit(c, store.Retry, "tried now") }

// Run holds the deliveries.
func (q queueHoldCmd) Run(c console) error { return q.edit(c, store.Hold, "held") }

// Run releases the deliveries.
func (q queueReleaseCmd) Run(c console) error { return q.edit(c, store.Release, "released") }

// Run drops the deliveries.
func (q queueDropCmd) Run(c console) error { return q.edit(c, store.Drop, "dropped") }

func (q queueEdit) edit(c console, a store.Action, done string) error {
	f := q.filter(time.Now())
	f.IDs = q.IDs
	if len(q.IDs) == 0 && !q.All {
		fmt.Fprintf(c.Err, "srsd: name queue ids, or say --all (of what the other flags select)\n")
		return exitStatus(exitUsage)
	}
	client, err := q.dial()
	if err != nil {
		return err
	}
	shown := false
	progress := func(n int) {
		if shown = terminal(c.Err); shown {
			fmt.Fprintf(c.Err, "\r%d %s", n, done)
		}
	}
	n, err := client.Edit(context.Background(), f, a, progress)
	if shown {
		fmt.Fprint(c.Err, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	if q.JSON {
		_, err = fmt.Fprintf(c.Out, "{\"changed\": %d}\n", n)
		return err
	}
	if n == 0 && len(q.IDs) > 0 {
		return fmt.Errorf("nothing was %s: no such delivery, or not in a state for it", done)
	}
	_, err = fmt.Fprintf(c.Out, "%s %s\n", counted(n, "delivery"), done)
	return err
}

// terminal says whether a person watches.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}
