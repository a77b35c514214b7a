package spf

import (
	"cmp"
	"context"
	"net/netip"
	"strings"
	"time"
)

// The limits of RFC 7208, section 4.6.4.
const (
	defaultLookups = 10
	defaultVoids   = 2
	maxMX          = 10 // MX records of one mx term
	maxPTR         = 10 // PTR records of the client that are looked at
	defaultTimeout = 20 * time.Second
)

// A Checker checks clients. Only Resolver must be set; a Checker may be used by
// many goroutines at once if its Resolver may.
type Checker struct {
	Resolver    Resolver
	LookupLimit int              // terms that look something up; 0 means 10, the standard's limit, negative means none
	VoidLimit   int              // of those, how many may find nothing; 0 means 2, negative means any number
	StrictVoid  bool             // count a host without addresses of the client's family as void although it has others
	Timeout     time.Duration    // for a whole check, then it is a temperror; 0 means 20 s
	Receiver    string           // who checks, for %{r} in explanations; "" means "unknown"
	Now         func() time.Time // nil means time.Now
	Trace       func(Event)      // told every step of a check, in order; nil means nobody
}

// Check is check_host() of RFC 7208, section 4, for the reverse-path from or,
// where that is empty, for the HELO name. An IPv4-mapped address is an IPv4
// address. It asks at most 10 terms, 10 hosts for each mx and 10 names of the
// client, and returns within Timeout if the Resolver obeys its context.
func (c *Checker) Check(ctx context.Context, ip netip.Addr, helo, from string) Outcome {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, defaultTimeout))
	defer cancel()
	// Section 5: an IPv4-mapped client is an IPv4 client.
	e := evaluation{checker: c, ctx: ctx, ip: ip.Unmap().WithZone(""), ttl: -1, helo: helo}
	if ascii, ok := toASCII(helo); ok {
		e.helo = ascii // RFC 8616, section 4.
	}
	o := Outcome{Identity: MailFrom}
	var ok bool
	if from == "" {
		// Section 2.4: postmaster at the HELO name stands for the null reverse-path.
		o.Identity, from = HELO, "postmaster@"+helo
	}
	e.local, e.sender, ok = splitSender(from)
	o.Domain = e.sender
	v := verdict{result: None, reason: "the client has no address"}
	switch {
	case !ok:
		v.reason = "the domain is no valid internationalised name"
	case ip.IsValid():
		v = e.checkHost(e.sender)
	}
	o.Result, o.Mechanism, o.Reason = v.result, shown(v.mechanism), v.words()
	o.Explanation = e.explanation(v)
	o.Lookups, o.VoidLookups, o.Personal = e.lookups, e.voids+len(e.doubtful), e.personal
	if o.Result != TempError {
		o.TTL = max(e.ttl, 0)
	}
	return o
}

// splitSender splits a reverse-path at its last @. RFC 7208, section 4.3: a
// missing local part is "postmaster". RFC 8616, section 4: U-labels become
// A-labels before they are used.
func splitSender(from string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(from, '@')
	local, domain = "postmaster", strings.TrimSuffix(from[at+1:], ".")
	if at > 0 {
		local = from[:at]
	}
	ascii, ok := toASCII(domain)
	if !ok {
		return local, domain, false
	}
	return local, ascii, true
}

func (c *Checker) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// checkDomain is the initial processing of RFC 7208, section 4.3.
func checkDomain(domain string) (cause string) {
	switch {
	case domain == "":
		return "there is no domain to check"
	case domain[0] == '[':
		return "an address literal has no policy"
	case !isName(domain):
		return "the domain is malformed"
	case strings.IndexByte(strings.TrimSuffix(domain, "."), '.') < 0:
		return "the domain has one label only"
	}
	return ""
}
