package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/receive"
	"srsd/srs"
	"srsd/store"
)

const day = 24 * time.Hour

// A front is what the way in asks at RCPT: the router, and the limits that need
// the store.
type front struct {
	*forward.Router
	state store.State
	limit int // bounces that one SRS address may bring home a day; 0: any number
	log   *slog.Logger
}

// Route is the router's decision, unless the address has had its share.
func (f front) Route(ctx context.Context, req forward.Request) forward.Decision {
	d := f.Router.Route(ctx, req)
	if d.Kind != forward.SRS || f.limit == 0 {
		return d
	}
	// Asked only, and counted when a message comes: who verifies a sender by
	// RCPT must not use up its bounces.
	n, err := f.state.Incr(ctx, homeKey(req.Recipient), 0, day)
	if err != nil {
		f.log.Error("counter cannot be read", "err", err)
		return d
	}
	if n >= int64(f.limit) {
		return forward.Decision{
			Kind: forward.Refused, Err: errors.New("too many bounces to one SRS address"),
			Reply: envelope.NewReply(450, envelope.EnhancedCode{4, 7, 1}, "too many bounces to this address today"),
		}
	}
	return d
}

// homeKey is the counter of the bounces to an SRS address.
func homeKey(a envelope.Address) string { return "home/" + a.Key() }

// A homecoming stands between the way in and the way out, and counts the bounces
// that come home.
type homecoming struct {
	next  receive.Deliverer
	state store.State
	log   *slog.Logger
}

// Deliver passes a message on.
func (h homecoming) Deliver(ctx context.Context, m envelope.Message, body envelope.Body) envelope.Reply {
	for _, r := range m.Routes {
		if !r.Return {
			continue
		}
		if _, err := h.state.Incr(ctx, homeKey(r.Alias), 1, day); err != nil {
			h.log.Error("counter cannot be written", "id", m.ID, "err", err)
		}
	}
	return h.next.Deliver(ctx, m, body)
}

// A keeper keeps senders that are too long for an SRS address in the store, for
// as long as the token that stands for them is good.
type keeper struct {
	state     store.State
	rewriters map[string]*srs.Rewriter
	keep      time.Duration
}

// tokenID is how many octets of the hash name a sender: as many as a token has.
const tokenID = 7

// Keep stores the sender and returns the token's address.
func (k keeper) Keep(ctx context.Context, domain, sender string) (string, error) {
	r, ok := k.rewriters[strings.ToLower(domain)]
	if !ok {
		return "", errors.New("relay: no SRS domain " + domain)
	}
	hash := sha256.Sum256([]byte(sender))
	id := hash[:tokenID]
	if err := k.state.Put(ctx, "sender", string(id), []byte(sender), store.AnyRevision, k.keep); err != nil {
		return "", err
	}
	return r.Token(id)
}

// Recall returns the sender for a token's address.
func (k keeper) Recall(ctx context.Context, address string) (string, error) {
	_, domain, _ := strings.Cut(address, "@")
	r, ok := k.rewriters[strings.ToLower(domain)]
	if !ok {
		return "", srs.ErrNotOurs
	}
	id, err := r.ParseToken(address)
	if err != nil {
		return "", err
	}
	v, err := k.state.Get(ctx, "sender", string(id))
	if errors.Is(err, store.ErrNotFound) {
		return "", srs.ErrExpired
	}
	return string(v.Data), err
}
