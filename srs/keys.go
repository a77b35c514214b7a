package srs

import (
	"fmt"
	"log/slog"
	"time"
)

// A Key is a secret with a name. It never prints its secret: fmt and slog show
// the ID. Copies share the state that makes hashing cheap.
type Key struct {
	// ID names the key in explanations and logs.
	ID string
	// SignUntil and AcceptUntil end the key's use for new addresses and for
	// verifying. The zero time is never.
	SignUntil, AcceptUntil time.Time

	hasher *hasher
}

// NewKey makes a key that signs and verifies without end. The secret may have
// any length of one octet or more; ParseKeys and LoadKeys are stricter.
func NewKey(id string, secret []byte) Key {
	return Key{ID: id, hasher: &hasher{secret: append([]byte(nil), secret...)}}
}

// String is the ID.
func (k Key) String() string { return "key " + k.ID }

// Format prints the ID for every verb, so that no secret gets out by accident.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// LogValue is the ID.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

func (k Key) signs(now time.Time) bool {
	return k.accepts(now) && (k.SignUntil.IsZero() || now.Before(k.SignUntil))
}

func (k Key) accepts(now time.Time) bool {
	return k.hasher != nil && (k.AcceptUntil.IsZero() || now.Before(k.AcceptUntil))
}

// Keys is a set of keys: the first one that may sign at a moment does, all
// that may be accepted verify. A Keys value is never changed once it is in use.
type Keys []Key

// Signing is the key that signs at now; false if none may.
func (ks Keys) Signing(now time.Time) (Key, bool) {
	for _, k := range ks {
		if k.signs(now) {
			return k, true
		}
	}
	return Key{}, false
}
