package relay

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/deliver"
	"srsd/internal/suspend"
	"srsd/srs"
	"srsd/store"
)

const day = 24 * time.Hour

// A front is what the way in asks at RCPT: the router, and what needs more than
// the alias table and the keys.
type front struct {
	*forward.Router
	state   store.State
	suspend *suspend.List
	bounce  Bounce
	log     *slog.Logger
}

// forgedLimit is how many forged SRS addresses a day may come from one network.
// With these, guessing a hash of 40 bits takes a million networks years.
const forgedLimit = 100

// Route is the router's decision, within the limits.
func (f front) Route(ctx context.Context, req forward.Request) forward.Decision {
	_, isSRS := f.SRS[strings.ToLower(req.Recipient.Domain())]
	isSRS = isSRS && srs.IsSRS(req.Recipient.Local())
	if !isSRS {
		return f.alive(f.Router.Route(ctx, req))
	}
	if f.count(ctx, forgedKey(req.Client), 0) >= forgedLimit {
		return refused(450, envelope.EnhancedCode{4, 7, 1}, "too many invalid bounce addresses from this network today")
	}
	d := f.Router.Route(ctx, req)
	switch {
	case d.Forged && !errors.Is(d.Err, srs.ErrExpired):
		f.count(ctx, forgedKey(req.Client), 1)
	case d.Kind == forward.Refused && !d.Forged && f.bounce.AutoReplies && !req.ReversePath.IsNull():
		// Whether it is an automatic reply is seen when its header has come.
		home := req
		home.ReversePath = envelope.Address{}
		if h := f.Router.Route(ctx, home); h.Kind == forward.SRS {
			d = h
		}
	}
	if d.Kind != forward.SRS {
		return f.alive(d)
	}
	// Asked only, and counted when a message comes: who verifies a sender by
	// RCPT must not use up its bounces.
	if f.bounce.PerAddressLimit > 0 && f.count(ctx, homeKey(req.Recipient), 0) >= int64(f.bounce.PerAddressLimit) {
		return refused(450, envelope.EnhancedCode{4, 7, 1}, "too many bounces to this address today")
	}
	return d
}

func refused(code int, enhanced envelope.EnhancedCode, text string) forward.Decision {
	return forward.Decision{Kind: forward.Refused, Reply: envelope.NewReply(code, enhanced, "%s", text), Err: errors.New(text)}
}

// alive takes away the targets that are suspended. Postmaster's mail is tried
// whatever happens.
func (f front) alive(d forward.Decision) forward.Decision {
	if d.Kind != forward.Alias {
		return d
	}
	gone := func(r envelope.Route) bool { return f.suspend.Suspended(r.Target) }
	if !slices.ContainsFunc(d.Routes, gone) {
		return d
	}
	if d.Routes = slices.DeleteFunc(d.Routes, gone); len(d.Routes) > 0 {
		return d
	}
	return refused(550, envelope.EnhancedCode{5, 2, 1}, "the mailbox behind this address takes no mail any more")
}

// count adds to a counter of the day and returns it. What cannot be counted is
// let through: a broken store must not stop the mail.
func (f front) count(ctx context.Context, key string, delta int64) int64 {
	if key == "" {
		return 0
	}
	n, err := f.state.Incr(ctx, key, delta, day)
	if err != nil {
		f.log.Error("counter cannot be used", "error", err)
		return 0
	}
	return n
}

// homeKey is the counter of the bounces to an SRS address.
func homeKey(a envelope.Address) string { return "home/" + a.Key() }

// forgedKey is the counter of a client's network, "" where there is no client.
func forgedKey(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 24
	}
	network, err := ip.Prefix(bits)
	if err != nil || !ip.IsValid() {
		return ""
	}
	return "forged/" + network.String()
}

// An operated queue is the queue as the operator sees it: who wants something
// tried now does not want to wait for a host that was busy before.
type operated struct {
	store.Queue
	deliver *deliver.Deliverer
}

// Edit implements store.Queue.
func (q operated) Edit(ctx context.Context, f store.Filter, a store.Action) (int, error) {
	if a == store.Retry {
		q.deliver.Forgive(f.Domain)
	}
	return q.Queue.Edit(ctx, f, a)
}
