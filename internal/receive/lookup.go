package receive

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"srsd/envelope"
)

// lookupTimeout bounds what a session asks the DNS beside SPF. Whoever does not
// answer by then does not list, and gives no name.
const lookupTimeout = 3 * time.Second

// A listing is what the lists say about a client.
type listing struct {
	zones  []string // block lists that it is on, and whose action let it pass
	action Action   // the gravest; "" where it is on none
}

// checkLists looks the client up, once a session and before its first message:
// its name, where Received is to have it, and the lists. The reply is for its
// recipients; the zero reply lets them pass.
func (s *session) checkLists(p *Policy) envelope.Reply {
	r := s.server.resolver
	if r == nil {
		return envelope.Reply{}
	}
	if p.ReverseNames && !s.named {
		ctx, cancel := context.WithTimeout(s.server.context, lookupTimeout)
		s.name, s.named = reverseName(ctx, r, s.conn.ip), true
		cancel()
	}
	if len(p.BlockLists) == 0 {
		return envelope.Reply{}
	}
	if s.listed == nil {
		ctx, cancel := context.WithTimeout(s.server.context, lookupTimeout)
		l := lookUp(ctx, r, s.conn.ip, p)
		s.listed = &l
		cancel()
	}
	switch s.listed.action {
	case Reject:
		return replyListed
	case Defer:
		return replyListedLater
	default:
		return envelope.Reply{}
	}
}

// lookUp asks the lists, all of them at once.
func lookUp(ctx context.Context, r Resolver, ip netip.Addr, p *Policy) listing {
	zones := make([]string, 0, len(p.AllowLists)+len(p.BlockLists))
	zones = append(zones, p.AllowLists...)
	for _, l := range p.BlockLists {
		zones = append(zones, l.Zone)
	}
	type answer struct {
		place int
		on    bool
	}
	answers := make(chan answer, len(zones))
	for i, zone := range zones {
		go func() { answers <- answer{i, isListed(ctx, r, ip, zone)} }()
	}
	on := make([]bool, len(zones))
	for range zones {
		a := <-answers
		on[a.place] = a.on
	}
	for i := range p.AllowLists {
		if on[i] {
			return listing{}
		}
	}
	var l listing
	for i, list := range p.BlockLists {
		if !on[len(p.AllowLists)+i] {
			continue
		}
		switch {
		case list.Action == Mark:
			l.zones = append(l.zones, list.Zone)
		case list.Action == Defer:
			if l.action == "" {
				l.action = Defer
			}
		default:
			l.action = Reject
		}
	}
	return l
}

// isListed follows RFC 5782, section 2: an address in 127.0.0.0/8 lists. Lists
// say with 127.255.255.0/24 that they do not like the question.
func isListed(ctx context.Context, r Resolver, ip netip.Addr, zone string) bool {
	addrs, _, err := r.Addr(ctx, reversed(ip)+"."+zone, false)
	if err != nil {
		return false
	}
	for _, a := range addrs {
		a = a.Unmap()
		if b := a.As4(); a.Is4() && b[0] == 127 && (b[1] != 255 || b[2] != 255) {
			return true
		}
	}
	return false
}

// reversed is the address as lists and reverse zones spell it.
func reversed(ip netip.Addr) string {
	var b strings.Builder
	if ip.Is4() {
		a := ip.As4()
		for i := 3; i >= 0; i-- {
			b.WriteString(strconv.Itoa(int(a[i])))
			if i > 0 {
				b.WriteByte('.')
			}
		}
		return b.String()
	}
	a := ip.As16()
	digits := hex.EncodeToString(a[:])
	for i := len(digits) - 1; i >= 0; i-- {
		b.WriteByte(digits[i])
		if i > 0 {
			b.WriteByte('.')
		}
	}
	return b.String()
}

// reverseName is a name of the client that leads back to its address, "" where
// it has none that may stand in a header.
func reverseName(ctx context.Context, r Resolver, ip netip.Addr) string {
	const most = 5
	names, _, err := r.PTR(ctx, ip)
	if err != nil {
		return ""
	}
	for _, name := range names[:min(len(names), most)] {
		name = strings.TrimSuffix(name, ".")
		if strings.HasPrefix(name, "[") || !isPrintable(name) || envelope.CheckDomain(name) != nil {
			continue
		}
		addrs, _, err := r.Addr(ctx, name, ip.Is6())
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if a.Unmap() == ip {
				return name
			}
		}
	}
	return ""
}
