package spf

import (
	"net/netip"
	"strconv"
	"strings"
)

// match evaluates one mechanism, RFC 7208, section 5. The inner verdict is that
// of an included record.
func (e *evaluation) match(t *Term, domain string) (matched bool, inner verdict, bad *trouble) {
	switch t.Name {
	case "all": // section 5.1
		e.traceTerm(t.Text, domain, "")
		return true, inner, nil
	case "ip4", "ip6":
		e.traceTerm(t.Text, domain, "")
		// Section 5.6. Contains never matches one family with the other.
		return t.Prefix.Contains(e.ip), inner, nil
	}
	target, usable, bad := e.target(t.Domain, domain)
	e.traceTerm(t.Text, domain, target)
	if bad == nil {
		bad = e.count()
	}
	if bad != nil || target == "" {
		return false, inner, bad
	}
	if t.Name == "include" {
		return e.include(target)
	}
	// Section 4.8 leaves open what a name is that cannot be asked for; section
	// 4.3 would treat it as one that does not exist.
	if !usable {
		return false, inner, nil
	}
	switch t.Name {
	case "a":
		matched, bad = e.matchA(t, target)
	case "mx":
		matched, bad = e.matchMX(t, target)
	case "ptr":
		matched, bad = e.matchPTR(target)
	case "exists":
		matched, bad = e.matchExists(target)
	}
	return matched, inner, bad
}

// include is RFC 7208, section 5.2, with its table of results.
func (e *evaluation) include(target string) (bool, verdict, *trouble) {
	e.depth++
	v := e.checkHost(target)
	e.depth--
	switch v.result {
	case Pass:
		return true, v, nil
	case Fail, SoftFail, Neutral:
		return false, verdict{}, nil
	case TempError, PermError:
		return false, v, &trouble{v.result, v.reason}
	}
	return false, verdict{}, &trouble{PermError, v.reason}
}

// within says whether an address, cut to the term's prefix length, is the
// client's. RFC 7208, section 5.3: each family has its own length, and Contains
// is false where the families differ.
func (e *evaluation) within(t *Term, ip netip.Addr) bool {
	bits := t.Bits4
	if !e.ip.Is4() {
		bits = t.Bits6
	}
	return netip.PrefixFrom(ip, bits).Contains(e.ip)
}

// matchA is RFC 7208, section 5.3.
func (e *evaluation) matchA(t *Term, target string) (bool, *trouble) {
	ips, meta, bad := e.addr(target, e.ip.Is6())
	if bad != nil {
		return false, bad
	}
	if len(ips) == 0 {
		return false, e.void(target, meta, true)
	}
	for _, ip := range ips {
		if e.within(t, ip) {
			return true, nil
		}
	}
	return false, nil
}

// matchMX is RFC 7208, section 5.4: no MX record means no match, never the name
// itself.
func (e *evaluation) matchMX(t *Term, target string) (bool, *trouble) {
	mxs, meta, bad := e.mx(target)
	if bad != nil {
		return false, bad
	}
	if len(mxs) == 0 {
		return false, e.void(target, meta, false)
	}
	// Section 4.6.4: more than ten are an error, whichever of them would match.
	if len(mxs) > maxMX {
		return false, &trouble{PermError, "mx limit exceeded: " + present(target) + " has " + strconv.Itoa(len(mxs)) + " MX records, 10 are allowed"}
	}
	for _, mx := range mxs {
		host, ok := unpresent(mx.Host)
		if !ok || !isName(host) {
			continue // a null MX (RFC 7505), or a name nobody can ask for
		}
		ips, _, bad := e.addr(host, e.ip.Is6())
		if bad != nil {
			return false, bad
		}
		for _, ip := range ips {
			if e.within(t, ip) {
				return true, nil
			}
		}
	}
	return false, nil
}

// matchExists is RFC 7208, section 5.7: A records, whatever the client is.
func (e *evaluation) matchExists(target string) (bool, *trouble) {
	ips, meta, bad := e.addr(target, false)
	if bad != nil {
		return false, bad
	}
	if len(ips) == 0 {
		return false, e.void(target, meta, false)
	}
	return true, nil
}

// A clientName is a name that the client's address has by its PTR records. It
// is validated when it matters.
type clientName struct {
	name         string
	asked, valid bool
}

// clientNames are the first ten names of the client; trouble with them means
// that there are none. RFC 7208, sections 4.6.4 and 5.5.
func (e *evaluation) clientNames() (names []clientName, bad *trouble) {
	if e.clientDone {
		return e.client, nil
	}
	e.clientDone = true
	ptr, meta, bad := e.ptr()
	if bad != nil {
		return nil, e.expired()
	}
	if len(ptr) == 0 && !e.explaining {
		return nil, e.void("", meta, false)
	}
	for _, s := range ptr[:min(len(ptr), maxPTR)] {
		if name, ok := unpresent(s); ok && isName(name) {
			e.client = append(e.client, clientName{name: name})
		}
	}
	return e.client, nil
}

// validate says whether a name leads back to the client. RFC 7208, section 5.5:
// a name whose lookup fails is skipped.
func (e *evaluation) validate(n *clientName) bool {
	if n.asked {
		return n.valid
	}
	n.asked = true
	ips, _, bad := e.addr(n.name, e.ip.Is6())
	if bad == nil {
		for _, ip := range ips {
			n.valid = n.valid || ip == e.ip
		}
	}
	return n.valid
}

// matchPTR is RFC 7208, section 5.5.
func (e *evaluation) matchPTR(target string) (bool, *trouble) {
	names, bad := e.clientNames()
	if bad != nil {
		return false, bad
	}
	target = strings.TrimSuffix(target, ".")
	for i := range names {
		if isSubdomain(names[i].name, target) && e.validate(&names[i]) {
			return true, nil
		}
	}
	return false, e.expired()
}

// clientName is %{p}: the domain itself if the client has that name, else a
// subdomain, else any valid name, else "unknown". RFC 7208, section 7.3. Its PTR
// query counts (section 4.6.4), once a check.
func (e *evaluation) clientName(domain string) (string, *trouble) {
	if !e.clientDone {
		if bad := e.count(); bad != nil {
			return "", bad
		}
	}
	names, bad := e.clientNames()
	if bad != nil {
		return "", bad
	}
	domain = strings.TrimSuffix(domain, ".")
	for _, fits := range []func(string) bool{
		func(name string) bool { return equalFold(name, domain) },
		func(name string) bool { return isSubdomain(name, domain) },
		func(string) bool { return true },
	} {
		for i := range names {
			if fits(names[i].name) && e.validate(&names[i]) {
				return names[i].name, nil
			}
		}
	}
	return "unknown", e.expired()
}
