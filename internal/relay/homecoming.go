package relay

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"srsd/bounce"
	"srsd/envelope"
	"srsd/internal/deliver"
	"srsd/internal/receive"
	"srsd/internal/suspend"
	"srsd/spf"
)

// A homecoming stands between the way in and the way out. It counts the bounces
// that come home, reads whom they are about, and tells who wants to know that an
// alias has been expanded.
type homecoming struct {
	relay *Relay
	next  receive.Deliverer
}

// replyNotAutomatic refuses what is neither a bounce nor an automatic reply.
var replyNotAutomatic = envelope.NewReply(550, envelope.EnhancedCode{5, 7, 1},
	"this address takes only bounces and automatic replies: write to the sender of the message")

// Deliver passes a message on.
func (h homecoming) Deliver(ctx context.Context, m envelope.Message, body envelope.Body) envelope.Reply {
	l := h.relay.live.Load()
	home := slices.IndexFunc(m.Routes, func(r envelope.Route) bool { return r.Return })
	var failed []bounce.Failure
	if home >= 0 {
		if !m.ReversePath.IsNull() && !allowed(l, m.ReversePath) && !bounce.IsAutomatic(body) {
			return replyNotAutomatic
		}
		h.count(ctx, m)
		failed = h.failures(l, m, m.Routes[home], body)
	}
	var expanded []envelope.Route
	m.Routes, expanded = expand(m.Routes)
	reply := h.next.Deliver(ctx, m, body)
	if reply.Accepted() && len(expanded) > 0 {
		h.tell(ctx, l, m, expanded, body)
	}
	if !reply.Temporary() { // else it comes again
		h.learn(ctx, m, failed)
	}
	return reply
}

// allowed says whether a sender may use SRS addresses for whatever it likes.
func allowed(l *live, sender envelope.Address) bool {
	return slices.ContainsFunc(l.router.AllowFrom, func(a envelope.Address) bool { return a.Key() == sender.Key() })
}

// count counts the bounces to an SRS address.
func (h homecoming) count(ctx context.Context, m envelope.Message) {
	for _, r := range m.Routes {
		if !r.Return {
			continue
		}
		if _, err := h.relay.store.Incr(ctx, homeKey(r.Alias), 1, day); err != nil {
			h.relay.log.Error("counter cannot be written", "id", m.ID, "error", err)
		}
	}
}

// failures reads which targets a bounce says are gone.
func (h homecoming) failures(l *live, m envelope.Message, r envelope.Route, body envelope.Body) []bounce.Failure {
	if l.config.Bounce.SuspendAfter == 0 || !m.ReversePath.IsNull() {
		return nil
	}
	failed, err := h.relay.hider(l).Failures(body, r.Target)
	if err != nil {
		h.relay.log.Error("bounce cannot be read", "id", m.ID, "error", err)
	}
	return slices.DeleteFunc(failed, func(f bounce.Failure) bool { return !suspend.Hard(f.Reply) })
}

// patience is how long the DNS may take to say who a bounce comes from.
const patience = 3 * time.Second

// learn counts the failures that a bounce tells of, if it comes from a host of
// the target's own: anybody else could have people suspended.
func (h homecoming) learn(ctx context.Context, m envelope.Message, failed []bounce.Failure) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for _, f := range failed {
		own := h.speaksFor(ctx, m.Client.IP, f.Target.Domain())
		h.relay.log.LogAttrs(ctx, slog.LevelInfo, "bounce came home", slog.String("id", m.ID), slog.String("client", m.Client.IP.String()),
			slog.String("recipient", f.Alias.String()), slog.String("target", f.Target.String()), slog.String("reply", f.Reply.String()), slog.Bool("counted", own))
		if own {
			h.relay.suspend.Reported(f.Target, f.Alias, f.Reply)
		}
	}
}

// speaksFor says whether a host may speak for a domain: SPF lets it, or without
// SPF it is one of the domain's mail exchangers.
func (h homecoming) speaksFor(ctx context.Context, ip netip.Addr, domain string) bool {
	checker := spf.Checker{Resolver: h.relay.resolver, Now: h.relay.options.Now, Timeout: patience}
	if o := checker.Check(ctx, ip, domain, "postmaster@"+domain); o.Result != spf.None {
		return o.Result == spf.Pass
	}
	hosts, _, err := h.relay.resolver.MX(ctx, domain)
	if err != nil {
		return false
	}
	for _, x := range hosts[:min(len(hosts), 10)] {
		addrs, _, err := h.relay.resolver.Addr(ctx, x.Host, ip.Unmap().Is6())
		if err == nil && slices.Contains(addrs, ip.Unmap()) {
			return true
		}
	}
	return false
}

// expanded is the report that an alias of several targets has been passed on.
const expanded = deliver.Kind(bounce.Expanded)

// expand takes the wish for a report of success from the routes of an alias that
// has several targets, and returns one of each such alias: its sender gets one
// report, of this expansion, and not one a target (RFC 3461, section 5.2.7).
func expand(routes []envelope.Route) (left, about []envelope.Route) {
	wanted := func(r envelope.Route) bool { return r.Notify&envelope.NotifySuccess != 0 && !r.Return }
	if len(routes) < 2 || !slices.ContainsFunc(routes, wanted) {
		return routes, nil
	}
	targets := map[envelope.Address]int{}
	for _, r := range routes {
		targets[r.Alias]++
	}
	left = slices.Clone(routes)
	for i, r := range routes {
		if !wanted(r) || targets[r.Alias] < 2 {
			continue
		}
		if left[i].Notify &^= envelope.NotifySuccess; left[i].Notify == 0 {
			left[i].Notify = envelope.NotifyNever // no NOTIFY at all would ask for failures
		}
		if !slices.ContainsFunc(about, func(o envelope.Route) bool { return o.Alias == r.Alias }) {
			about = append(about, r)
		}
	}
	return left, about
}

// tell queues the report about expanded aliases.
func (h homecoming) tell(ctx context.Context, l *live, m envelope.Message, about []envelope.Route, body envelope.Body) {
	if l.config.Bounce.To != "sender" {
		return
	}
	now := reporter{h.relay}.now()
	var all []deliver.Failure
	for _, r := range about {
		all = append(all, deliver.Failure{Route: r, Reply: envelope.NewReply(250, envelope.EnhancedCode{2, 0, 0}, "passed on to all addresses behind this one"), At: now})
	}
	ctx = context.WithoutCancel(ctx)
	spawn, err := reporter{h.relay}.Report(ctx, m, expanded, all, body)
	if err == nil && spawn != nil {
		_, err = h.relay.store.Enqueue(ctx, spawn.Entry, spawn.Body, 0)
	}
	if err != nil {
		h.relay.log.Error("report failed", "id", m.ID, "error", err)
	}
}
