package suspend

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"srsd/envelope"
)

// Hard says whether a reply means that a mailbox is gone: a permanent one about
// the address or the mailbox (RFC 3463, section 3.2 and 3.3), not about the
// message, the sender or a policy.
func Hard(r envelope.Reply) bool {
	if !r.Permanent() {
		return false
	}
	switch s := r.Status(); {
	case s[0] != 5:
		return false
	case s[1] == 1: // but for the sender's address: 5.1.7, 5.1.8
		return s[2] != 7 && s[2] != 8 && s[2] != 9
	case s[1] == 2: // but for the message's size: 5.2.3
		return s[2] != 3
	case s == envelope.EnhancedCode{5, 0, 0}:
		return gone.MatchString(r.Text)
	}
	return false
}

// gone is what servers say that have no enhanced status codes.
var gone = regexp.MustCompile(`(?i)(user|recipient|mailbox|account|address)( is| was| has been)? (unknown|not (found|known|available)|unavailable|invalid|disabled|inactive|suspended|doe?s ?n[o']t exist)|no (such|mailbox)|unknown (local )?(user|recipient|mailbox|address)|does ?n[o']t (have|exist)|invalid recipient`)

// add counts one more.
func (r *Run) add(now time.Time, within time.Duration) {
	if r.Count == 0 || now.Sub(r.First) > within || now.Before(r.First) {
		*r = Run{First: now}
	}
	r.Count++
	r.Last = now
}

// ripe says whether it is enough. A mail system may have a bad afternoon in
// which it knows nobody: that is not the end of a mailbox.
func (r Run) ripe(p *Policy) bool {
	return r.Count >= p.After && r.Last.Sub(r.First) >= p.Within/7
}

// bounce counts a hard bounce in the run that which selects.
func (l *List) bounce(target, alias envelope.Address, reply envelope.Reply, which func(*Record) *Run) {
	l.changing.Lock()
	defer l.changing.Unlock()
	p, now := l.policy.Load(), l.config.Now()
	r := l.get(target.Key())
	if r.Target.IsNull() {
		if l.size.Load() >= maxRecords {
			if l.prune(p, now); l.size.Load() >= maxRecords {
				return
			}
		}
		r.Target = target
	}
	if r.Suspended() {
		return
	}
	which(&r).add(now, p.Within)
	r.Reason = visible(reply.String())
	if len(r.Aliases) < maxAliases && !slices.Contains(r.Aliases, alias) {
		r.Aliases = append(slices.Clip(r.Aliases), alias)
	}
	if r.Refused.ripe(p) || r.Reported.ripe(p) {
		r.Since = now
		l.config.Logger.Warn("target suspended", "recipient", alias.String(), "target", target.String(), "reply", r.Reason)
		l.hooks.run(p.Hook, alias.String(), target.String(), r.Reason)
	}
	l.save(r, p)
}

// accepted ends the run of refusals of a target that has one.
func (l *List) accepted(target envelope.Address) {
	if l.size.Load() == 0 {
		return
	}
	if r := l.get(target.Key()); r.Target.IsNull() || r.Suspended() {
		return
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	r := l.get(target.Key())
	switch {
	case r.Target.IsNull() || r.Suspended():
	case r.Reported.Count == 0:
		if err := l.forget(context.Background(), target.Key()); err != nil {
			l.config.Logger.Error("record of a bounce cannot be deleted", "target", target.String(), "error", err)
		}
	case r.Refused.Count > 0:
		r.Refused = Run{}
		r.Taken++
		l.save(r, l.policy.Load())
	default:
		r.Taken++
		l.set(target.Key(), &r)
	}
}

// prune forgets what is too old to count.
func (l *List) prune(p *Policy, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, r := range l.records {
		if !r.Suspended() && now.Sub(r.Refused.Last) > p.Within && now.Sub(r.Reported.Last) > p.Within {
			delete(l.records, key) // the store forgets by itself
		}
	}
	l.size.Store(int64(len(l.records)))
}

// visible is one line of printable ASCII of bounded length.
func visible(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxReason)]
}
