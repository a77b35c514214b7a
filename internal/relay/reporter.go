package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"srsd/bounce"
	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/deliver"
	"srsd/store"
)

// A reporter writes the reports that the way out asks for: it decides who may
// be told, and makes the message.
type reporter struct{ relay *Relay }

// Report implements deliver.Reporter.
func (r reporter) Report(ctx context.Context, m envelope.Message, kind deliver.Kind, failures []deliver.Failure, body envelope.Body) (*store.Spawn, error) {
	l := r.relay.live.Load()
	action := bounce.Action(kind)
	to, extent, about := r.addressee(l, m, action, failures)
	if extent == bounce.NoReport {
		return nil, nil
	}
	if l.config.Bounce.To == "sender" && bounce.Capped(m.SPF) {
		n, err := r.relay.store.Incr(ctx, "report/"+to.Key(), 1, day)
		if err != nil {
			return nil, err
		}
		if n > int64(l.config.Bounce.ReportLimit) {
			r.relay.log.Info("no report: its addressee has had enough of them today", "id", m.ID, "reverse_path", to.String())
			return nil, nil
		}
	}
	if m.Return == "HDRS" || action != bounce.Failed { // RFC 3461, section 4.3.
		extent = min(extent, bounce.Headers)
	}
	now := r.now()
	report := bounce.Report{
		Hostname: l.config.Hostname, ID: newID(now), Date: now, To: to, Action: action, Received: m.Received,
		EnvelopeID: m.EnvelopeID, Extent: extent, Original: body,
	}
	for _, f := range about {
		report.Recipients = append(report.Recipients, bounce.Recipient{
			Alias: f.Route.Alias, Original: f.Route.Original, Reply: f.Reply, At: f.At,
		})
		report.RetryUntil = f.Until
	}
	text, err := report.Bytes()
	if err != nil {
		return nil, err
	}
	entry := r.entry(ctx, l, report, int64(len(text)))
	if len(entry.Routes) == 0 {
		return nil, nil
	}
	r.relay.log.LogAttrs(ctx, slog.LevelInfo, "report", slog.String("id", entry.ID), slog.String("about", m.ID),
		slog.String("recipient", to.String()), slog.String("action", string(action)))
	return &store.Spawn{Entry: entry, Body: bytes.NewReader(text)}, nil
}

func (r reporter) now() time.Time {
	if r.relay.options.Now != nil {
		return r.relay.options.Now()
	}
	return time.Now()
}

// addressee is who is told, how much, and about which of the failures: one for
// each alias, however many targets it has.
func (r reporter) addressee(l *live, m envelope.Message, action bounce.Action, failures []deliver.Failure) (to envelope.Address, extent bounce.Extent, about []deliver.Failure) {
	for _, f := range failures {
		e := bounce.Permit(m.ReversePath, m.SPF, f.Route.Notify, action)
		switch l.config.Bounce.To {
		case "none":
			e = bounce.NoReport
		case "owner": // is of this house: nobody else can be hit
			if !m.ReversePath.IsNull() {
				e = bounce.Full
			}
		}
		known := slices.ContainsFunc(about, func(a deliver.Failure) bool { return a.Route.Alias == f.Route.Alias })
		if e == bounce.NoReport || known {
			continue
		}
		about = append(about, f)
		extent = max(extent, e)
	}
	to = m.ReversePath
	if l.config.Bounce.To == "owner" && len(about) > 0 {
		to = owner(l, about[0].Route.Alias)
	}
	return to, extent, about
}

// owner is who answers for an alias: its owner-NAME, else the postmaster.
func owner(l *live, alias envelope.Address) envelope.Address {
	if e, err := l.table.Expand(alias); err == nil {
		for _, t := range e.Targets {
			if !t.Owner.IsNull() {
				return t.Owner
			}
		}
	}
	postmaster, _ := envelope.NewAddress("postmaster", l.config.Forward.Domains[0])
	return postmaster
}

// hider reads and rewrites the reports that come home.
func (r *Relay) hider(l *live) bounce.Hider {
	return bounce.Hider{
		Hostname: l.config.Hostname, Now: r.options.Now, Aliases: l.table.AliasesOf,
		Ours: func(a envelope.Address) bool {
			_, isSRS := l.rewriters[strings.ToLower(a.Domain())]
			return isSRS || l.table.Owns(a.Domain())
		},
		Targets: func(alias envelope.Address) (all []envelope.Address) {
			e, _ := l.table.Expand(alias) // what cannot be expanded has no targets to hide
			for _, t := range e.Targets {
				all = append(all, t.Address)
			}
			return all
		},
	}
}

// entry is the queue entry of a report. An addressee in a domain of ours is
// found as RCPT finds it; everybody else where the DNS says.
func (r reporter) entry(ctx context.Context, l *live, report bounce.Report, size int64) store.Entry {
	e := store.Entry{Message: envelope.Message{
		ID: report.ID, Received: report.Date, EightBit: true, UTF8: !report.To.IsASCII(), Size: size,
	}}
	d := l.router.Route(ctx, forward.Request{Recipient: report.To, Notify: envelope.NotifyNever})
	switch {
	case len(d.Routes) > 0:
		e.Routes = d.Routes
	case l.table.Owns(report.To.Domain()):
		r.relay.log.Warn("no report: its addressee does not exist", "recipient", report.To.String())
		return e
	default:
		e.Routes = []envelope.Route{{Alias: report.To, Target: report.To, Notify: envelope.NotifyNever}}
	}
	for i, route := range e.Routes {
		e.Deliveries = append(e.Deliveries, store.Delivery{
			Entry: e.ID, N: i, Domain: strings.ToLower(route.Target.Domain()), Routes: []envelope.Route{route},
			State: store.Queued, Due: report.Date,
		})
	}
	return e
}

// newID is a queue id of the form that receive gives: nine digits of time and
// six by chance, in base 32.
func newID(now time.Time) string {
	return strings.ToUpper(strconv.FormatInt(now.UnixMilli(), 32)) + rand.Text()[:6]
}
