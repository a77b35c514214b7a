package deliver

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"srsd/envelope"
	"srsd/spf"
)

// A Resolver finds mail hosts; internal/resolve has one. An error is trouble
// with the DNS; that there is nothing is none.
type Resolver interface {
	MX(ctx context.Context, name string) ([]spf.MX, spf.Meta, error)
	Addr(ctx context.Context, name string, v6 bool) ([]netip.Addr, spf.Meta, error)
}

// Limits of one attempt: hosts tried, hosts looked up, addresses of a host.
const (
	maxHosts     = 5
	maxLookups   = 10
	maxAddresses = 2
)

// What we say where there is nobody to deliver to. None of these names the
// target: the text may reach the sender.
var (
	replyNullMX   = envelope.NewReply(556, envelope.EnhancedCode{5, 1, 10}, "the destination does not accept mail")                     // RFC 7505, section 4
	replyNoDomain = envelope.NewReply(550, envelope.EnhancedCode{5, 1, 2}, "the destination's domain does not exist")                   // RFC 3463, section 3.2
	replyNoHost   = envelope.NewReply(550, envelope.EnhancedCode{5, 4, 4}, "the destination has no mail host that may be connected to") // RFC 3463, section 3.5
	replyLoop     = envelope.NewReply(554, envelope.EnhancedCode{5, 4, 6}, "the destination leads back to this host")
	replyDNS      = envelope.NewReply(451, envelope.EnhancedCode{4, 4, 3}, "the destination's mail host could not be looked up")
)

// A host is one mail host of a next hop, with the addresses to try.
type host struct {
	name  string
	addrs []netip.AddrPort
}

// A candidate is a mail host that has not been looked up.
type candidate struct {
	name string
	port int
	pref uint16
}

// A walk goes through the hosts of a next hop in the order of RFC 5321, section
// 5.1. It looks up one level of preference at a time, because an address of
// ours among them ends it.
type walk struct {
	policy   *Policy
	resolver Resolver
	left     []candidate // in order
	ready    []host
	found    int
	why      envelope.Reply // what to say if no host was found
}

// newWalk begins a walk. own says whether a name is one of ours.
func newWalk(ctx context.Context, p *Policy, r Resolver, hop string, own func(string) bool) *walk {
	w := &walk{policy: p, resolver: r, why: replyNoHost}
	switch {
	case p.Smarthost != "":
		for i, s := range append([]string{p.Smarthost}, p.SmarthostFallback...) {
			w.addSmarthost(s, i)
		}
	case strings.HasPrefix(hop, "["): // RFC 5321, section 4.1.3
		literal := strings.TrimPrefix(strings.ToLower(strings.Trim(hop, "[]")), "ipv6:")
		w.left = []candidate{{name: literal, port: p.Port}}
	default:
		w.mx(ctx, hop, own)
	}
	return w
}

func (w *walk) addSmarthost(s string, pref int) {
	name, port, err := net.SplitHostPort(s)
	n, err2 := strconv.Atoi(port)
	if err != nil || err2 != nil {
		name, n = s, w.policy.Port
	}
	w.left = append(w.left, candidate{name: name, port: n, pref: uint16(pref)})
}

// mx looks up the MX records.
func (w *walk) mx(ctx context.Context, domain string, own func(string) bool) {
	records, meta, err := w.resolver.MX(ctx, domain)
	switch {
	case err != nil:
		w.why = replyDNS
		return
	case meta.NXDomain:
		w.why = replyNoDomain
		return
	case len(records) == 1 && strings.TrimSuffix(records[0].Host, ".") == "":
		w.why = replyNullMX
		return
	case len(records) == 0: // the implicit MX; a CNAME has been followed
		w.left = []candidate{{name: domain, port: w.policy.Port}}
	}
	for _, r := range records {
		w.left = append(w.left, candidate{name: strings.ToLower(strings.TrimSuffix(r.Host, ".")), port: w.policy.Port, pref: r.Pref})
	}
	rand.Shuffle(len(w.left), func(i, j int) { w.left[i], w.left[j] = w.left[j], w.left[i] })
	slices.SortStableFunc(w.left, func(a, b candidate) int { return cmp.Compare(a.pref, b.pref) })
	// RFC 5321, section 5.1: whoever finds itself drops its own level and all
	// below.
	if i := slices.IndexFunc(w.left, func(c candidate) bool { return own(c.name) }); i >= 0 {
		w.cut(w.left[i].pref)
	}
	w.left = w.left[:min(len(w.left), maxLookups)]
}

// cut drops the hosts of a preference and all worse ones.
func (w *walk) cut(pref uint16) {
	w.left = slices.DeleteFunc(w.left, func(c candidate) bool { return c.pref >= pref })
	w.why = replyLoop
}

// next is the next host to try.
func (w *walk) next(ctx context.Context) (host, bool) {
	for len(w.ready) == 0 {
		if len(w.left) == 0 || w.found == maxHosts {
			return host{}, false
		}
		w.level(ctx)
	}
	h := w.ready[0]
	w.ready = w.ready[1:]
	w.found++
	return h, true
}

// level looks up the hosts of the best preference left.
func (w *walk) level(ctx context.Context) {
	pref := w.left[0].pref
	for len(w.left) > 0 && w.left[0].pref == pref {
		c := w.left[0]
		w.left = w.left[1:]
		h := host{name: c.name}
		for _, ip := range w.lookup(ctx, c.name) {
			a := netip.AddrPortFrom(ip, uint16(c.port))
			if w.policy.listensAt(a) {
				w.ready = nil
				w.cut(0)
				return
			}
			_, ok := w.policy.source(ip)
			if ok && len(h.addrs) < maxAddresses && !w.policy.forbidden(ip) {
				h.addrs = append(h.addrs, a)
			}
		}
		if len(h.addrs) > 0 {
			w.ready = append(w.ready, h)
		}
	}
}

// lookup returns the addresses of a host, the families in turn, so that a
// family that does not work costs one try.
func (w *walk) lookup(ctx context.Context, name string) []netip.Addr {
	if ip, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{ip.Unmap()}
	}
	four, _, err4 := w.resolver.Addr(ctx, name, false)
	six, _, err6 := w.resolver.Addr(ctx, name, true)
	if len(four)+len(six) == 0 && (err4 != nil || err6 != nil) && w.why != replyLoop {
		w.why = replyDNS
	}
	var all []netip.Addr
	start := rand.IntN(1 + len(four) + len(six))
	for i := range max(len(four), len(six)) {
		if i < len(four) {
			all = append(all, four[(start+i)%len(four)].Unmap())
		}
		if i < len(six) {
			all = append(all, six[(start+i)%len(six)].Unmap())
		}
	}
	return all
}
