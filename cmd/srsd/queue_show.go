package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"srsd/envelope"
	"srsd/internal/control"
	"srsd/store"
)

type queueShowCmd struct {
	ID string `arg:"" help:"The queue id."`
	queueRelay
	JSON bool `name:"json" help:"Write one JSON object."`
}

// Run writes all that the relay knows of the message.
func (q queueShowCmd) Run(c console) error {
	client, err := q.dial()
	if err != nil {
		return err
	}
	s, err := client.Show(context.Background(), q.ID)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("no message %s in the queue", q.ID)
	}
	if err != nil {
		return err
	}
	if q.JSON {
		return json.NewEncoder(c.Out).Encode(struct {
			queuedMessage
			SPF      string            `json:"spf"`
			Client   string            `json:"client"`
			Attempts []recordedAttempt `json:"attempts"`
			Header   string            `json:"header"`
		}{newQueuedMessage(s.Entry), s.Entry.SPF, clientText(s.Entry.Client), recordedAttempts(s.Entry), s.Header})
	}
	return showText(c.Out, s)
}

// A recordedAttempt is one try as "show --json" shows it.
type recordedAttempt struct {
	Time   time.Time `json:"time"`
	Domain string    `json:"domain"`
	Remote string    `json:"remote"`
	Target string    `json:"target,omitempty"` // "" where the reply is about all
	Reply  string    `json:"reply"`
}

func recordedAttempts(e store.Entry) []recordedAttempt {
	all := []recordedAttempt{}
	for _, d := range e.Deliveries {
		for _, a := range d.Attempts {
			all = append(all, recordedAttempt{a.At.UTC(), d.Domain, a.Remote, a.Target.String(), a.Reply.String()})
		}
	}
	return all
}

func clientText(c envelope.Client) string {
	if !c.IP.IsValid() {
		return ""
	}
	return strings.TrimSpace(c.IP.String() + " " + c.HELO)
}

func showText(w io.Writer, s control.Shown) error {
	e := s.Entry
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "id\t%s\n", e.ID)
	fmt.Fprintf(t, "from\t<%s>\n", harmless(e.ReversePath.String()))
	fmt.Fprintf(t, "received\t%s\n", e.Received.UTC().Format(time.RFC3339))
	if client := clientText(e.Client); client != "" {
		fmt.Fprintf(t, "client\t%s\n", harmless(client))
	}
	fmt.Fprintf(t, "spf\t%s\n", e.SPF)
	fmt.Fprintf(t, "size\t%s\n", sizeText(e.Size))
	t.Flush()
	for _, r := range newQueuedMessage(e).Recipients {
		fmt.Fprintf(w, "\n%s -> %s\n    %s", harmless(r.Alias), harmless(r.Target), r.State)
		if r.NextAttempt != nil {
			fmt.Fprintf(w, ", next attempt %s", r.NextAttempt.Format(time.RFC3339))
		}
		fmt.Fprintln(w)
		for _, d := range e.Deliveries {
			for _, a := range d.Attempts {
				if hasTarget(d, r.Target) && (a.Target.IsNull() || a.Target.String() == r.Target) {
					fmt.Fprintf(w, "    %s  %s  %s\n", a.At.UTC().Format(time.RFC3339), harmless(a.Remote), harmless(a.Reply.String()))
				}
			}
		}
	}
	fmt.Fprintln(w)
	if s.Note != "" {
		fmt.Fprintf(w, "(%s)\n", s.Note)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(s.Header, "\r\n"), "\r\n") {
		if _, err := fmt.Fprintln(w, harmless(line)); err != nil {
			return err
		}
	}
	return nil
}

func hasTarget(d store.Delivery, target string) bool {
	for _, r := range d.Routes {
		if r.Target.String() == target {
			return true
		}
	}
	return false
}
