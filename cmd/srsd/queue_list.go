package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/internal/control"
	"srsd/store"
)

type queueListCmd struct {
	queueFilter
	queueRelay
	Failed bool `help:"List what was given up in the last days and waits for nothing but your eyes."`
	Count  bool `help:"Only the number of messages."`
	JSON   bool `name:"json" help:"Write a JSON array."`
}

// Run lists as the answer comes in, however long the queue is.
func (q queueListCmd) Run(c console) error {
	client, err := q.dial()
	if err != nil {
		return err
	}
	now := time.Now()
	s := control.Selection{Filter: q.filter(now)}
	if q.Failed {
		s.State = store.Failed
	}
	s.Failed = s.State == store.Failed
	if q.Count {
		return q.count(c, client, s)
	}
	out := lister(&textLister{w: c.Out, now: now})
	if q.JSON {
		out = &jsonLister{w: c.Out}
	}
	if err := client.List(context.Background(), s, out.entry); err != nil {
		return err
	}
	return out.end()
}

func (q queueListCmd) count(c console, client *control.Client, s control.Selection) error {
	n, err := client.Count(context.Background(), s)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.Out, n)
	return err
}

// A lister writes entries.
type lister interface {
	entry(store.Entry) error
	end() error
}

// A queuedMessage is what --json shows of an entry.
type queuedMessage struct {
	ID          string            `json:"id"`
	ReversePath string            `json:"reverse_path"`
	Size        int64             `json:"size"`
	Received    time.Time         `json:"received"`
	Recipients  []queuedRecipient `json:"recipients"`
}

type queuedRecipient struct {
	Alias       string     `json:"alias"`
	Target      string     `json:"target"`
	State       string     `json:"state"`
	Attempts    int        `json:"attempts"`
	NextAttempt *time.Time `json:"next_attempt"` // null where none is planned
	LastReply   string     `json:"last_reply"`
}

func newQueuedMessage(e store.Entry) queuedMessage {
	m := queuedMessage{ID: e.ID, ReversePath: e.ReversePath.String(), Size: e.Size, Received: e.Received.UTC(), Recipients: []queuedRecipient{}}
	for _, d := range e.Deliveries {
		for _, r := range d.Routes {
			x := queuedRecipient{Alias: r.Alias.String(), Target: r.Target.String(), State: string(d.State), Attempts: d.Tries}
			if d.State == store.Queued {
				due := d.Due.UTC()
				x.NextAttempt = &due
			}
			if a, ok := lastAttempt(d, r.Target); ok {
				x.LastReply = a.Reply.String()
			}
			m.Recipients = append(m.Recipients, x)
		}
	}
	return m
}

// lastAttempt is the last one that was about a target.
func lastAttempt(d store.Delivery, target envelope.Address) (store.Attempt, bool) {
	for i := len(d.Attempts) - 1; i >= 0; i-- {
		if a := d.Attempts[i]; a.Target.IsNull() || a.Target == target {
			return a, true
		}
	}
	return store.Attempt{}, false
}

type jsonLister struct {
	w io.Writer
	n int
}

func (l *jsonLister) entry(e store.Entry) error {
	text, err := json.Marshal(newQueuedMessage(e))
	if err != nil {
		return err
	}
	before := ",\n"
	if l.n == 0 {
		before = "["
	}
	l.n++
	_, err = fmt.Fprintf(l.w, "%s%s", before, text)
	return err
}

func (l *jsonLister) end() error {
	if l.n == 0 {
		fmt.Fprint(l.w, "[")
	}
	_, err := fmt.Fprintln(l.w, "]")
	return err
}

type textLister struct {
	w   io.Writer
	now time.Time
	n   int
}

func (l *textLister) entry(e store.Entry) error {
	l.n++
	m := newQueuedMessage(e)
	fmt.Fprintf(l.w, "%s  %s  %s ago  from <%s>\n", m.ID, sizeText(m.Size), ageText(l.now.Sub(m.Received)), harmless(m.ReversePath))
	for _, r := range m.Recipients {
		fmt.Fprintf(l.w, "    %s -> %s  %s%s\n", harmless(r.Alias), harmless(r.Target), r.State, l.when(r))
		if r.LastReply != "" {
			fmt.Fprintf(l.w, "        %s\n", harmless(r.LastReply))
		}
	}
	return nil
}

func (l *textLister) when(r queuedRecipient) string {
	s := ""
	if r.Attempts > 0 {
		s = fmt.Sprintf(" after %s", counted(r.Attempts, "attempt"))
	}
	switch {
	case r.NextAttempt == nil:
	case r.NextAttempt.After(l.now):
		s += ", next in " + ageText(r.NextAttempt.Sub(l.now))
	default:
		s += ", due"
	}
	return s
}

func (l *textLister) end() error {
	if l.n == 0 {
		_, err := fmt.Fprintln(l.w, "nothing is listed")
		return err
	}
	_, err := fmt.Fprintln(l.w, counted(l.n, "message"))
	return err
}

// counted is "1 delivery", "2 deliveries".
func counted(n int, noun string) string {
	if stem, ok := strings.CutSuffix(noun, "y"); ok && n != 1 {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return plural(n, noun)
}

func sizeText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}

func ageText(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// harmless keeps what remote hosts have written from steering a terminal.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
