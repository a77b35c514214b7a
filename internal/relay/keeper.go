package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"srsd/srs"
	"srsd/store"
)

// A keeper keeps senders that are too long for an SRS address in the store, for
// as long as the token that stands for them is good.
type keeper struct {
	state     store.State
	rewriters map[string]*srs.Rewriter
	keep      time.Duration
	now       func() time.Time // nil: time.Now
}

const (
	tokenID    = 7      // octets of the hash that name a sender: as many as a token has
	maxNewKept = 20_000 // new senders a day: strangers may not fill the store
)

var errTooManyKept = errors.New("relay: too many new senders that are too long for an SRS address")

// Keep stores the sender and returns the token's address. A sender costs one
// write a day.
func (k keeper) Keep(ctx context.Context, domain, sender string) (string, error) {
	r, ok := k.rewriters[strings.ToLower(domain)]
	if !ok {
		return "", errors.New("relay: no SRS domain " + domain)
	}
	for try := range 4 {
		hash := sha256.Sum256(fmt.Appendf(nil, "%d %s", try, sender))
		id := hash[:tokenID]
		free, err := k.put(ctx, string(id), sender)
		if err != nil {
			return "", err
		}
		if free {
			return r.Token(id)
		}
	}
	return "", errors.New("relay: no id is free for a sender that is too long")
}

// put stores a sender under an id; free is false where another sender is there
// already, whose bounces nobody may take over.
func (k keeper) put(ctx context.Context, id, sender string) (free bool, err error) {
	now := time.Now
	if k.now != nil {
		now = k.now
	}
	value := fmt.Sprintf("%d %s", now().Unix()/86400, sender)
	old, err := k.state.Get(ctx, "sender", id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		n, err := k.state.Incr(ctx, "kept", 1, day)
		if err != nil {
			return false, err
		}
		if n > maxNewKept {
			return false, errTooManyKept
		}
	case err != nil:
		return false, err
	case string(old.Data) == value:
		return true, nil
	case keptSender(old) != sender:
		return false, nil
	}
	err = k.state.Put(ctx, "sender", id, []byte(value), old.Rev, k.keep)
	if errors.Is(err, store.ErrConflict) { // somebody was faster: look again
		return k.put(ctx, id, sender)
	}
	return err == nil, err
}

// keptSender is the sender in a stored value, behind the day of its storing.
func keptSender(v store.Value) string {
	_, sender, _ := strings.Cut(string(v.Data), " ")
	return sender
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
	return keptSender(v), err
}
