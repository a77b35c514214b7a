// Package sender decides whether a client may speak for a reverse-path: it asks
// SPF, and says what follows from the answer by the operator's policy. The way in
// and the doors for Postfix judge alike because they both ask here.
package sender

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/spf"
)

// SPF checks whether a host may speak for a reverse-path; from "" asks for the
// HELO name. *spf.Checker is one.
type SPF interface {
	Check(ctx context.Context, ip netip.Addr, helo, from string) spf.Outcome
}

// An Action is what follows from an SPF result, or from a block list.
type Action string

// The actions. Mark lets the message pass and says so in its trace.
const (
	Mark   Action = "mark"
	Reject Action = "reject"
	Defer  Action = "defer"
)

// Policy says what follows from SPF. The zero value rejects fail, defers
// temperror and marks everything else.
type Policy struct {
	Actions           map[spf.Result]Action // what differs from the zero value's
	AlwaysHELO        bool                  // check the HELO name also where the reverse-path is not null
	SkipNetworks      []netip.Prefix        // clients that are not checked
	TrustedForwarders []string              // domains whose hosts (by their SPF record) may bring anybody's mail
}

func (p Policy) action(r spf.Result) Action {
	if a := p.Actions[r]; a != "" {
		return a
	}
	switch r {
	case spf.Fail:
		return Reject
	case spf.TempError:
		return Defer
	default:
		return Mark
	}
}

// A Judge applies one policy, and remembers outcomes for as long as their
// records allow. It is safe for concurrent use; another policy makes another
// Judge.
type Judge struct {
	spf      SPF
	policy   Policy
	now      func() time.Time
	outcomes outcomes
}

// New makes a Judge. A nil SPF checks nothing; a nil now is time.Now.
func New(s SPF, p Policy, now func() time.Time) *Judge {
	if now == nil {
		now = time.Now
	}
	return &Judge{spf: s, policy: p, now: now}
}

// A Verdict is what is known of a client and its sender.
type Verdict struct {
	Result spf.Result     // for the reverse-path, the HELO name where that is null; None where nothing was checked
	Reply  envelope.Reply // zero: the sender may pass
	Checks []spf.Outcome  // what was checked, for the trace: HELO first where both were
	Note   string         // why the result is another than SPF's; "" where it is not
}

// Check asks SPF about the reverse-path from, or about the HELO name where that
// is "" (RFC 7208, section 2.4), and says what follows.
func (j *Judge) Check(ctx context.Context, ip netip.Addr, helo, from string) Verdict {
	v := Verdict{Result: spf.None}
	if j.spf == nil || !ip.IsValid() || j.skips(ip) {
		return v
	}
	if j.policy.AlwaysHELO && from != "" {
		o := j.outcome(ctx, ip, helo, "")
		v.Checks = append(v.Checks, o)
		if a := j.policy.action(spf.Fail); o.Result == spf.Fail && a != Mark {
			v.Reply = reply(o, a, ip)
			return v
		}
	}
	o := j.outcome(ctx, ip, helo, from)
	if o.Result == spf.Fail || o.Result == spf.SoftFail {
		if domain := j.trusted(ctx, ip, helo); domain != "" {
			v.Note = fmt.Sprintf("%s, but brought by a trusted forwarder, %s", o.Result, domain)
			o.Result, o.Reason = spf.None, v.Note
		}
	}
	v.Checks = append(v.Checks, o)
	v.Result = o.Result
	if a := j.policy.action(o.Result); a != Mark && o.Result != spf.Pass {
		v.Reply = reply(o, a, ip)
	}
	return v
}

func (j *Judge) skips(ip netip.Addr) bool {
	for _, n := range j.policy.SkipNetworks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// trusted is the trusted forwarder whose host the client is, "" where it is
// none's.
func (j *Judge) trusted(ctx context.Context, ip netip.Addr, helo string) string {
	for _, domain := range j.policy.TrustedForwarders {
		if j.outcome(ctx, ip, helo, "postmaster@"+domain).Result == spf.Pass {
			return domain
		}
	}
	return ""
}

// outcome is one SPF check, from the cache where it has been made.
func (j *Judge) outcome(ctx context.Context, ip netip.Addr, helo, from string) spf.Outcome {
	key := outcomeKey{ip: ip, helo: from == "", domain: helo}
	if from != "" {
		key.domain = from[strings.LastIndexByte(from, '@')+1:]
	}
	key.domain = strings.ToLower(key.domain)
	now := j.now()
	if o, ok := j.outcomes.get(key, now); ok {
		return o
	}
	o := j.spf.Check(ctx, ip, helo, from)
	// An explanation may have 64 KB, of which a reply has no use, nor a cache.
	o.Explanation, o.Reason = oneLine(o.Explanation), oneLine(o.Reason)
	if o.TTL > 0 && !o.Personal {
		j.outcomes.put(key, o, now.Add(o.TTL))
	}
	return o
}

// reply says what follows from a result, with the codes of RFC 7372, section
// 3.2, and where the domain explains itself with its words.
func reply(o spf.Outcome, a Action, ip netip.Addr) envelope.Reply {
	code, enhanced := 550, envelope.EnhancedCode{5, 7, 23}
	if o.Result == spf.TempError || o.Result == spf.PermError {
		enhanced[2] = 24
	}
	if a == Defer {
		code, enhanced[0] = 451, 4
		if o.Result == spf.TempError {
			enhanced = envelope.EnhancedCode{4, 4, 3} // the trouble is the DNS: directory server failure
		}
	}
	text := fmt.Sprintf("SPF says %s for %s and %s", o.Result, ip, nameOf(o))
	switch {
	case o.Explanation != "":
		text = fmt.Sprintf("SPF %s; %s explains: %s", o.Result, nameOf(o), o.Explanation)
	case o.Result != spf.Fail && o.Reason != "":
		text += ": " + o.Reason
	}
	return envelope.NewReply(code, enhanced, "%s", text)
}

// nameOf is the checked domain, fit for a reply.
func nameOf(o spf.Outcome) string {
	if envelope.CheckDomain(o.Domain) != nil {
		return "the sender's domain"
	}
	return oneLine(o.Domain)
}

// oneLine is s as one line of printable ASCII, of bounded length.
func oneLine(s string) string {
	const most = 350
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return ' '
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
}
