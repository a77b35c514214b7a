package deliver

import (
	"context"
	"log/slog"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// A Reporter tells the sender of a message what became of it. Whether the sender
// may be told at all is the Reporter's decision, also by NOTIFY.
type Reporter interface {
	// Report returns the report, a message of its own with a new id and with
	// its deliveries, to be queued; nil where nobody is to be told. m has all
	// that travelled with the message but perhaps not its routes. The body is
	// valid until Report returns. After an error nobody is told.
	Report(ctx context.Context, m envelope.Message, kind Kind, failures []Failure, body envelope.Body) (*store.Spawn, error)
}

// A Kind says what a report is about.
type Kind string

// The kinds of reports: the action of RFC 3464, section 2.3.3.
const (
	KindFailed  Kind = "failed"
	KindDelayed Kind = "delayed"
	KindRelayed Kind = "relayed" // to a server that will not tell about success itself, RFC 3461, section 5.2.2
)

// A Failure is one route and what is told about it.
type Failure struct {
	Route envelope.Route
	Reply envelope.Reply // the last one; its text no longer names the target
	At    time.Time      // when that was
	Until time.Time      // when srsd will give up; zero where that has happened
}

// failures makes failures of results.
func failures(results []result, at, until time.Time) []Failure {
	all, routes := make([]Failure, len(results)), routesOf(results)
	for i, r := range results {
		all[i] = Failure{Route: r.route, Reply: scrub(r.reply, r.route, routes...), At: at, Until: until}
	}
	return all
}

// report asks for a report; nil where there is none.
func (d *Deliverer) report(m envelope.Message, kind Kind, about []Failure, body envelope.Body) *store.Spawn {
	if d.config.Reporter == nil || len(about) == 0 {
		return nil
	}
	spawn, err := d.config.Reporter.Report(d.life, m, kind, about, body)
	if err != nil {
		d.log.LogAttrs(d.life, slog.LevelError, "report failed", slog.String("id", m.ID), slog.Any("error", err))
		return nil
	}
	return spawn
}
