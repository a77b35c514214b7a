package deliver

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"srsd/envelope"
)

// The modes of delivery.
const (
	CutThrough = "cut-through" // the target's answer is ours; only what is deferred is queued
	QueueFirst = "queue"       // everything is on disk before the client hears 250
)

// A Policy is what may change while srsd runs. A Deliverer swaps it whole:
// every attempt keeps the one that it began with. The zero value of a field is
// the default named beside it.
type Policy struct {
	Mode              string              // CutThrough or QueueFirst; CutThrough
	Budget            time.Duration       // how long the client waits for the targets; 20 s
	Smarthost         string              // "host:port" that takes everything; none
	SmarthostFallback []string            // tried in order where the smarthost does not answer
	Auth              Credentials         // for the smarthosts, only over TLS; none
	Port              int                 // of MX hosts; 25
	Source            []netip.Addr        // local addresses to connect from, at most one a family is used; the system's choice
	AllowNetworks     []netip.Prefix      // may be connected to although they are loopback, private or the like
	ConnectionsPerHop int                 // at one time; 20
	Timeout           time.Duration       // of every phase but the final dot; those of RFC 5321, section 4.5.3.2
	DotTimeout        time.Duration       // for the reply to the final dot; 10 min
	Retry             []time.Duration     // from one attempt to the next, the last one repeats; 5 min to 8 h
	Lifetime          time.Duration       // then srsd gives up; 5 days
	DelayWarning      time.Duration       // age at which the sender is told about a delay; 0 for never
	ListenAddrs       []netip.AddrPort    // what this process listens on: a target there is a loop
	OwnNames          []string            // names of this host beside Config.Hostname: an MX of that name is a loop
	TLS               map[string]Security // by next-hop domain, or "host:port" of a smarthost; Opportunistic
}

// Credentials log in to a smarthost.
type Credentials struct{ Username, Password string }

// String names the user only.
func (c Credentials) String() string { return c.Username }

// GoString names the user only.
func (c Credentials) GoString() string { return c.Username }

// Security is what a connection to a next hop must offer.
type Security string

// The levels of Security. Opportunistic uses whatever TLS there is, without
// asking who answers, and speaks in clear where that fails (RFC 7435); Required
// is Opportunistic without clear text; Verified wants a valid certificate for
// the host's name too; None never starts TLS.
const (
	Opportunistic Security = "opportunistic"
	Required      Security = "required"
	Verified      Security = "verified"
	None          Security = "none"
)

// maxRecipients are named in one transaction: every server takes so many (RFC
// 5321, section 4.5.3.1.8).
const maxRecipients = 100

// withDefaults fills in the defaults.
func (p Policy) withDefaults() *Policy {
	setDefault(&p.Mode, CutThrough)
	setDefault(&p.Budget, 20*time.Second)
	setDefault(&p.Port, 25)
	setDefault(&p.ConnectionsPerHop, 20)
	setDefault(&p.DotTimeout, 10*time.Minute)
	setDefault(&p.Lifetime, 5*24*time.Hour)
	if len(p.Retry) == 0 {
		p.Retry = []time.Duration{5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour}
	}
	return &p
}

func setDefault[T comparable](v *T, to T) {
	if *v == *new(T) {
		*v = to
	}
}

// phases are the time limits of one dialogue.
type phases struct{ dial, greeting, command, data, block, dot time.Duration }

// phases are those of RFC 5321, section 4.5.3.2, where the policy has none. The
// RFC leaves the time for a connection open; half a minute is what a host in
// reach needs at the worst.
func (p *Policy) phases() phases {
	t := phases{dial: 30 * time.Second, greeting: 5 * time.Minute, command: 5 * time.Minute, data: 2 * time.Minute, block: 3 * time.Minute, dot: p.DotTimeout}
	if p.Timeout > 0 {
		t.dial = min(t.dial, p.Timeout)
		t.greeting, t.command, t.data, t.block = p.Timeout, p.Timeout, p.Timeout, p.Timeout
	}
	return t
}

// wait is the time from the n-th attempt (from 1) to the next, without jitter.
func (p *Policy) wait(n int) time.Duration {
	return p.Retry[min(max(n, 1), len(p.Retry))-1]
}

// waited is the age that a delivery has after n attempts on schedule.
func (p *Policy) waited(n int) (d time.Duration) {
	steps := min(n, len(p.Retry))
	for _, r := range p.Retry[:steps] {
		d += r
	}
	return d + time.Duration(n-steps)*p.Retry[len(p.Retry)-1]
}

// ripe says whether a delivery has seen so much time: by the clock, and by the
// number of its attempts. The second keeps a clock that jumps from ending
// everything at once; the jitter may have shortened each wait by a fifth.
func (p *Policy) ripe(limit time.Duration, received, now time.Time, tries int) bool {
	return now.Sub(received) >= limit && p.waited(tries) >= limit*4/5-p.wait(tries)
}

// security of a next hop.
func (p *Policy) security(hop string) Security {
	if s := p.TLS[hop]; s != "" {
		return s
	}
	return Opportunistic
}

// hop is the name of the next hop for a target: the smarthost, or the target's
// domain, in lower case, as the DNS knows it.
func (p *Policy) hop(target envelope.Address) string {
	if p.Smarthost != "" {
		return p.Smarthost
	}
	return queueDomain(target)
}

// queueDomain is the target's domain in lower case and, where it can be, in
// A-labels (RFC 5890).
func queueDomain(target envelope.Address) string {
	domain := strings.ToLower(target.Domain())
	if target.IsASCII() {
		return domain
	}
	if a, err := idna.Lookup.ToASCII(domain); err == nil {
		return a
	}
	return domain
}

// forbidden says whether the policy keeps srsd from connecting to an address.
// An IPv4 address in IPv6 clothes is judged as what it is.
func (p *Policy) forbidden(ip netip.Addr) bool {
	ip = plain(ip)
	in := func(n netip.Prefix) bool { return n.Contains(ip) }
	if slices.ContainsFunc(p.AllowNetworks, in) {
		return false
	}
	return !ip.IsGlobalUnicast() || ip.IsPrivate() || slices.ContainsFunc(special, in)
}

// listensAt says whether this process itself listens at an address.
func (p *Policy) listensAt(a netip.AddrPort) bool {
	return slices.ContainsFunc(p.ListenAddrs, func(l netip.AddrPort) bool {
		return l.Port() == a.Port() && plain(l.Addr()) == plain(a.Addr())
	})
}

// source is the local address for connections to ip; ok is false where the
// policy has sources but none of that family.
func (p *Policy) source(ip netip.Addr) (src netip.Addr, ok bool) {
	for _, s := range p.Source {
		if s.Is4() == ip.Is4() {
			return s, true
		}
	}
	return netip.Addr{}, len(p.Source) == 0
}

// plain is ip without a zone and without IPv6 around an IPv4 address: mapped
// (RFC 4291, section 2.5.5), NAT64 (RFC 6052) or 6to4 (RFC 3056).
func plain(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip
	}
	b := ip.As16()
	switch {
	case nat64.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case compatible.Contains(ip) && b[12] != 0:
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)

// special are the networks of the IANA special-purpose registries (RFC 6890)
// where no mail host of the Internet lives, beside those that netip knows.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // shared, RFC 6598; also some clouds' metadata
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), // link-local; the metadata of most clouds
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64, RFC 8215
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("fec0::/10"), // site-local, RFC 3879
}
