package receive

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/internal/sender"
)

// lookupTimeout bounds each thing that a session asks the DNS beside SPF. A list
// that does not answer by then does not list, and a name that does not is none.
const lookupTimeout = 2 * time.Second

// A listing is what the lists say about a client.
type listing struct {
	zones  []string      // block lists that it is on, and whose action let it pass
	action sender.Action // the gravest; "" where it is on none
}

// checkLists looks the client up, once a session and before its first message:
// its name, where Received is to have it, and the lists. The reply is for its
// recipients; the zero reply lets them pass.
func (s *session) checkLists(p *Policy) envelope.Reply {
	r := s.server.resolver
	if r == nil || !s.conn.ip.IsValid() {
		return envelope.Reply{}
	}
	if p.ReverseNames && !s.named {
		s.name, s.named = reverseName(s.server.context, r, s.conn.ip), true
	}
	if len(p.BlockLists) == 0 {
		return envelope.Reply{}
	}
	if s.listed == nil {
		l := lookUp(s.server.context, r, s.conn.ip, p)
		s.listed = &l
	}
	switch s.listed.action {
	case sender.Reject:
		return replyListed
	case sender.Defer:
		return replyListedLater
	default:
		return envelope.Reply{}
	}
}

// lookUp asks the lists, one after the other and only as long as their answer
// matters.
func lookUp(ctx context.Context, r Resolver, ip netip.Addr, p *Policy) (l listing) {
	for _, zone := range p.AllowLists {
		if isListed(ctx, r, ip, zone) {
			return listing{}
		}
	}
	for _, list := range p.BlockLists {
		if !isListed(ctx, r, ip, list.Zone) {
			continue
		}
		switch list.Action {
		case sender.Mark:
			l.zones = append(l.zones, list.Zone)
		case sender.Defer:
			l.action = sender.Defer
		default:
			l.action = sender.Reject
			return l
		}
	}
	return l
}

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	sulking  = netip.MustParsePrefix("127.255.255.0/24")
)

// isListed follows RFC 5782, section 2: an address in 127.0.0.0/8 lists. Lists
// say with 127.255.255.0/24 that they do not like the question.
func isListed(ctx context.Context, r Resolver, ip netip.Addr, zone string) bool {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, _, err := r.Addr(ctx, reversed(ip)+"."+zone, false)
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if loopback.Contains(a.Unmap()) && !sulking.Contains(a.Unmap()) {
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
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
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
