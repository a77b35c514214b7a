package receive

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"srsd/envelope"
	"srsd/spf"
)

// checkSender asks SPF about the reverse-path, or about the HELO name where
// that is null (RFC 7208, section 2.4), and gives the reply that follows; the
// zero reply lets the transaction begin.
func (s *session) checkSender(tx *transaction) envelope.Reply {
	p, ip := tx.policy, s.conn.ip
	tx.result = spf.None
	if p.SPF == nil || contains(p.Sender.SkipNetworks, ip) {
		return envelope.Reply{}
	}
	if p.Sender.AlwaysHELO && !tx.from.IsNull() {
		o := s.check(tx, "")
		if o.Result == spf.Fail && p.Sender.action(spf.Fail) != Mark {
			return senderReply(o, p.Sender.action(spf.Fail), ip)
		}
		tx.checks = append(tx.checks, o)
	}
	o := s.check(tx, tx.from.String())
	if o.Result == spf.Fail || o.Result == spf.SoftFail {
		if domain := s.trusted(tx); domain != "" {
			tx.note = fmt.Sprintf("%s, but brought by a trusted forwarder, %s", o.Result, domain)
			o.Result, o.Reason = spf.None, tx.note
		}
	}
	tx.checks = append(tx.checks, o)
	tx.result = o.Result
	if a := p.Sender.action(o.Result); a != Mark && o.Result != spf.Pass {
		return senderReply(o, a, ip)
	}
	return envelope.Reply{}
}

// trusted is the trusted forwarder whose host the client is, "" where it is
// none's.
func (s *session) trusted(tx *transaction) string {
	for _, domain := range tx.policy.Sender.TrustedForwarders {
		if s.check(tx, "postmaster@"+domain).Result == spf.Pass {
			return domain
		}
	}
	return ""
}

// check is one SPF check, from the cache where it has been made.
func (s *session) check(tx *transaction, from string) spf.Outcome {
	key := outcomeKey{ip: s.conn.ip, helo: from == "", domain: tx.helo}
	if from != "" {
		key.domain = from[strings.LastIndexByte(from, '@')+1:]
	}
	key.domain = strings.ToLower(key.domain)
	now := s.server.now()
	if o, ok := tx.policy.outcomes.get(key, now); ok {
		return o
	}
	o := tx.policy.SPF.Check(s.server.context, s.conn.ip, tx.helo, from)
	// An explanation may have 64 KB, of which a reply has no use, nor a cache.
	o.Explanation, o.Reason = oneLine(o.Explanation), oneLine(o.Reason)
	if o.TTL > 0 && !o.Personal {
		tx.policy.outcomes.put(key, o, now.Add(o.TTL))
	}
	return o
}

// senderReply says what follows from a result, with the codes of RFC 7372,
// section 3.2, and where the domain explains itself with its words.
func senderReply(o spf.Outcome, a Action, ip netip.Addr) envelope.Reply {
	code, class, subject, detail := 550, 5, 7, 23
	if o.Result == spf.TempError || o.Result == spf.PermError {
		detail = 24
	}
	if a == Defer {
		code, class = 451, 4
		if o.Result == spf.TempError {
			subject, detail = 4, 3 // the trouble is the DNS: directory server failure
		}
	}
	text := fmt.Sprintf("SPF says %s for %s and %s", o.Result, ip, nameOf(o))
	switch {
	case o.Explanation != "":
		text = fmt.Sprintf("SPF %s; %s explains: %s", o.Result, nameOf(o), o.Explanation)
	case o.Result != spf.Fail && o.Reason != "":
		text += ": " + o.Reason
	}
	return reply(code, class, subject, detail, text)
}

// nameOf is the checked domain, fit for a reply.
func nameOf(o spf.Outcome) string {
	if envelope.CheckDomain(o.Domain) != nil {
		return "the sender's domain"
	}
	return oneLine(o.Domain)
}

// oneLine is s as one printable line of bounded length.
func oneLine(s string) string {
	const most = 350
	if len(s) > most {
		s = s[:most] + "..."
	}
	return printable(strings.ReplaceAll(s, "\n", " "))
}

// An outcomes is a bounded cache of SPF outcomes. It has two generations: when
// the young one is full it becomes the old one, and what was old is forgotten
// unless it has been asked for since.
type outcomes struct {
	mu         sync.Mutex
	young, old map[outcomeKey]kept
}

const outcomesKept = 4096

type outcomeKey struct {
	ip     netip.Addr
	helo   bool // the HELO name, not the reverse-path
	domain string
}

type kept struct {
	outcome spf.Outcome
	until   time.Time
}

func (c *outcomes) get(k outcomeKey, now time.Time) (spf.Outcome, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.young[k]
	if !ok {
		if e, ok = c.old[k]; ok {
			c.keep(k, e)
		}
	}
	if !ok || !now.Before(e.until) {
		return spf.Outcome{}, false
	}
	return e.outcome, true
}

func (c *outcomes) put(k outcomeKey, o spf.Outcome, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(k, kept{o, until})
}

func (c *outcomes) keep(k outcomeKey, e kept) {
	if len(c.young) >= outcomesKept {
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = make(map[outcomeKey]kept)
	}
	c.young[k] = e
}
