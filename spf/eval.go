package spf

import (
	"context"
	"net/netip"
	"strconv"
	"time"
)

// An evaluation is one check under way.
type evaluation struct {
	checker *Checker
	ctx     context.Context
	ip      netip.Addr // unmapped
	local   string     // of the reverse-path
	sender  string     // the domain of the reverse-path
	helo    string

	lookups  int      // terms that looked something up
	voids    int      // terms that found nothing
	doubtful []string // hosts without addresses of the client's family, not yet asked for others
	ttl      time.Duration
	personal bool
	depth    int // of includes and redirects

	client     []clientName // the names of ip, once they were asked for
	clientDone bool
	explaining bool // the result is known: nothing counts any more
}

// A trouble ends a check with temperror or permerror.
type trouble struct {
	result Result
	reason string
}

// A verdict is the result of check_host() for one domain, and how it came about.
type verdict struct {
	result    Result
	mechanism string // of this record
	reason    string // where there is more to say than which term of which domain matched
	term, of  string // the innermost term that decided, and the domain of its record
	exp       string // the domain-spec of exp= that holds for it
	expDomain string // the domain of that record
}

// words says why.
func (v verdict) words() string {
	of := present(v.of)
	switch {
	case v.reason != "" && v.term != "":
		return v.reason + ", at " + shown(v.term) + " of " + of
	case v.reason != "":
		return v.reason
	case v.term == "":
		return "no mechanism of " + of + " matches"
	}
	return shown(v.term) + " of " + of + " matches"
}

// checkHost is check_host() of RFC 7208, section 4, for one domain.
func (e *evaluation) checkHost(domain string) verdict {
	v := e.evaluate(domain)
	if e.checker.Trace != nil {
		e.trace(Event{Step: StepResult, Domain: domain, Verdict: string(v.result), Term: v.mechanism, Reason: v.words()})
	}
	return v
}

func (e *evaluation) evaluate(domain string) verdict {
	if cause := checkDomain(domain); cause != "" {
		return verdict{result: None, reason: cause}
	}
	text, v := e.record(domain)
	if v.result != "" {
		return v
	}
	if e.checker.Trace != nil {
		e.trace(Event{Step: StepRecord, Domain: domain, Answer: []string{text}})
	}
	// Section 4.6: syntax errors anywhere in the record are detected at once.
	r, err := Parse(text)
	if err != nil {
		return verdict{result: PermError, reason: syntaxWords(err, domain), of: domain}
	}
	for i := range r.Terms {
		t := &r.Terms[i]
		if t.Modifier() {
			continue // Section 6: modifiers have no place in the order.
		}
		if v := e.try(t, domain); v.result != "" {
			v.exp, v.expDomain = r.Exp, domain
			return v
		}
	}
	if r.Redirect != "" {
		// Section 6.1: only where no mechanism has matched, so never beside "all".
		return e.redirect(&r, domain)
	}
	return verdict{result: Neutral, mechanism: "default", of: domain} // Section 4.7.
}

// record fetches the one SPF record of a domain, or the verdict where there is
// none, or there are several. RFC 7208, sections 4.4 and 4.5. Type SPF (99) is
// never asked for (section 3.1).
func (e *evaluation) record(domain string) (string, verdict) {
	txt, meta, bad := e.txt(domain)
	if bad != nil {
		return "", verdict{result: bad.result, reason: bad.reason}
	}
	found, n := "", 0
	for _, s := range txt {
		if isRecord(s) {
			found = s
			n++
		}
	}
	switch {
	case n == 1:
		return found, verdict{}
	case n > 1:
		return "", verdict{result: PermError, reason: present(domain) + " has " + strconv.Itoa(n) + " SPF records"}
	case meta.NXDomain:
		return "", verdict{result: None, reason: present(domain) + " does not exist"}
	}
	return "", verdict{result: None, reason: present(domain) + " has no SPF record"}
}

// try evaluates one mechanism; the zero verdict means that it does not match.
func (e *evaluation) try(t *Term, domain string) verdict {
	matched, inner, bad := e.match(t, domain)
	v := verdict{mechanism: t.Text, term: t.Text, of: domain}
	switch {
	case bad != nil && inner.reason != "":
		v.result, v.reason, v.term, v.of = bad.result, inner.reason, inner.term, inner.of
	case bad != nil:
		v.result, v.reason = bad.result, bad.reason
	case !matched:
		v = verdict{}
	default:
		v.result = t.result()
		if inner.term != "" {
			v.term, v.of = inner.term, inner.of
		}
	}
	if e.checker.Trace != nil {
		ev := Event{Step: StepMatch, Domain: domain, Term: t.Text, Verdict: "no match", Reason: v.reason}
		if v.result != "" {
			ev.Verdict = string(v.result)
		}
		e.trace(ev)
	}
	return v
}

// redirect evaluates redirect=, RFC 7208, section 6.1. The target's exp holds,
// the redirecting record's does not (section 6.2).
func (e *evaluation) redirect(r *Record, domain string) verdict {
	bad := verdict{mechanism: "redirect=" + r.Redirect, term: "redirect=" + r.Redirect, of: domain}
	target, usable, err := e.target(r.Redirect, domain)
	if err == nil {
		e.traceTerm(bad.term, domain, target)
		err = e.count()
	}
	if err != nil {
		bad.result, bad.reason = err.result, err.reason
		return bad
	}
	if target == "" { // RFC 8616, section 4: as if there were no redirect.
		return verdict{result: Neutral, mechanism: "default", of: domain}
	}
	v := verdict{result: None, reason: "the domain is malformed"}
	if usable {
		e.depth++
		v = e.checkHost(target)
		e.depth--
	}
	if v.result == None {
		// Section 6.1: a target without a record, or a malformed one, is an error.
		bad.result, bad.reason = PermError, v.reason
		return bad
	}
	return v
}

// target expands a domain-spec to a name; "" in it means the record's own
// domain (RFC 7208, section 4.8). The target is "" where RFC 8616 lets the term
// match nothing, and not usable where it cannot be asked for.
func (e *evaluation) target(spec, domain string) (name string, usable bool, err *trouble) {
	if spec == "" {
		return domain, true, nil
	}
	name, ok, err := e.expand(spec, domain)
	if !ok || err != nil {
		return "", false, err
	}
	// Section 7.3: what is too long loses labels on the left.
	if name = shorten(name); name == "" {
		name = "."
	}
	return name, isName(name), nil
}

// count counts a term that looks something up. RFC 7208, section 4.6.4: ten
// in a whole check, includes and redirects together; the first record, MX
// hosts, PTR names and explanations are not among them.
func (e *evaluation) count() *trouble {
	if e.explaining {
		return nil
	}
	limit := e.checker.LookupLimit
	if limit == 0 {
		limit = defaultLookups
	}
	if e.lookups >= limit { // a negative limit allows none: includes could go on for ever
		return &trouble{PermError, "lookup limit exceeded: more than " + strconv.Itoa(max(limit, 0)) + " terms need DNS"}
	}
	e.lookups++
	return nil
}

// void counts a term that found nothing, RFC 7208, section 4.6.4. A host that
// exists without addresses of the client's family is doubtful: whether it has
// others is asked only when the limit would end the check.
func (e *evaluation) void(name string, meta Meta, host bool) *trouble {
	limit := e.checker.VoidLimit
	switch {
	case limit < 0:
		limit = int(^uint(0) >> 1)
	case limit == 0:
		limit = defaultVoids
	}
	if host && !meta.NXDomain && !e.checker.StrictVoid {
		e.doubtful = append(e.doubtful, name)
	} else {
		e.voids++
	}
	for e.voids+len(e.doubtful) > limit {
		last := len(e.doubtful) - 1
		if last < 0 {
			return &trouble{PermError, "void lookup limit exceeded: more than " + strconv.Itoa(limit) + " terms found nothing in DNS"}
		}
		ips, _, bad := e.addr(e.doubtful[last], e.ip.Is4())
		e.doubtful = e.doubtful[:last]
		if bad == nil && len(ips) == 0 {
			e.voids++
		}
	}
	return nil
}
