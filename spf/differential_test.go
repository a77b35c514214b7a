package spf_test

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"

	peer "blitiri.com.ar/go/spf"

	"srsd/spf"
)

// FuzzDifferential makes zones and clients out of octets, checks them with this
// package and with blitiri.com.ar/go/spf, and wants the same result, or one of
// the explained differences.
func FuzzDifferential(f *testing.F) {
	for _, seed := range []string{"", "\x01\x02\x03\x04\x05\x06\x07\x08", "include and redirect, mx and ptr, exists"} {
		f.Add([]byte(seed))
	}
	for i := range 30 {
		seed := make([]byte, 40)
		for j := range seed {
			seed[j] = byte(i*j*7 + i*31 + j*j*13)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		zone, ip, from := generate(data)
		both(t, zone, ip, from)
	})
}

// The same with pseudo-random zones, so that every run of the tests compares some.
func TestDifferential(t *testing.T) {
	why := map[string]int{}
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 80)
	for range 3000 {
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		zone, ip, from := generate(data)
		why[both(t, zone, ip, from)]++
	}
	if why[""] < 2000 {
		t.Errorf("only %d of 3000 results are the same", why[""])
	}
	for _, d := range differences {
		t.Logf("%4d: %s", why[d.why], d.why)
	}
}

// both checks with both and returns what explains the difference, "" if there is none.
func both(t *testing.T, zone, ip, from string) string {
	t.Helper()
	ours := (&spf.Checker{Resolver: newFake(zone)}).Check(t.Context(), netip.MustParseAddr(ip), "helo.example", from)
	sender := from
	if from == "" {
		sender = "postmaster@helo.example" // the peer leaves this to its caller
	}
	theirs, err := peer.CheckHostWithSender(net.ParseIP(ip), "helo.example", sender, peer.WithResolver(peerDNS{newFake(zone)}))
	if string(theirs) == string(ours.Result) {
		return ""
	}
	why := explained(zone, ours, theirs)
	if why == "" {
		t.Errorf("ours %s (%s), theirs %s (%v)\nip %s, from %q\n%s", ours.Result, ours.Reason, theirs, err, ip, from, zone)
	}
	return why
}

// differences are where this package gives another answer than the peer, and
// why it stays so.
var differences = []struct {
	why     string
	applies func(zone string, ours spf.Outcome, theirs peer.Result) bool
}{
	{"RFC 7208, section 4.6: the record is parsed whole, and section 7.1: the grammar of domains; the peer sees errors only in terms that it comes to",
		func(_ string, ours spf.Outcome, _ peer.Result) bool {
			return ours.Result == spf.PermError && strings.Contains(ours.Reason, "syntax error")
		}},
	{"section 5.4: MX hosts are compared one by one; the peer asks for all before it compares, and fails if one fails",
		func(zone string, ours spf.Outcome, theirs peer.Result) bool {
			return theirs == peer.TempError && strings.Contains(zone, "MX bad.example")
		}},
	{"section 5.7: exists asks for A records alone, so a name with AAAA records alone is void; the peer asks for both",
		func(zone string, ours spf.Outcome, theirs peer.Result) bool {
			return strings.Contains(ours.Reason, "void lookup limit") && strings.Contains(zone, "exists:")
		}},
	{"section 4.8: a name that cannot be asked for matches nothing; the peer asks for it and counts a void lookup",
		func(zone string, ours spf.Outcome, theirs peer.Result) bool {
			return theirs == peer.PermError && strings.Contains(zone, "..")
		}},
}

func explained(zone string, ours spf.Outcome, theirs peer.Result) string {
	for _, d := range differences {
		if d.applies(zone, ours, theirs) {
			return d.why
		}
	}
	return ""
}

// A source turns octets into choices; where they end, it chooses the first.
type source []byte

func (s *source) pick(choices ...string) string {
	if len(*s) == 0 {
		return choices[0]
	}
	c := (*s)[0]
	*s = (*s)[1:]
	return choices[int(c)%len(choices)]
}

// generate makes a zone of four domains with records, hosts, a domain that
// fails and one that does not exist.
func generate(data []byte) (zone, ip, from string) {
	s := source(data)
	ip = s.pick("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "203.0.113.7")
	from = s.pick("u@d.example", "a-b.c@d.example", "", "u@b.example")
	var b strings.Builder
	b.WriteString("bad.example SERVFAIL\nh4.example A 192.0.2.9\nh6.example AAAA 2001:db8::9\nhost.example A 192.0.2.1\nhost.example AAAA 2001:db8::1\n" +
		"192.0.2.1.h4.example A 127.0.0.2\nu.h4.example A 127.0.0.2\nx.d.example A 192.0.2.1\n")
	for _, line := range []string{"192.0.2.1 PTR x.d.example", "192.0.2.1 PTR gone.example", "2001:db8::1 PTR host.example", "192.0.2.1 SERVFAIL"} {
		if s.pick("no", "yes") == "yes" {
			b.WriteString(line + "\n")
		}
	}
	for _, name := range []string{"d.example", "b.example", "c.example", "helo.example"} {
		b.WriteString(name + " TXT v=spf1")
		for range len(s.pick("..", "", ".", "...", "....", ".....")) {
			b.WriteString(" " + term(&s))
		}
		b.WriteString(s.pick("", " -all", " ~all", " redirect=c.example", " redirect=%{d1r}.example", " exp=host.example", " foo=bar", " foo=%{d} ?all") + "\n")
		for range len(s.pick("", ".", "..")) {
			b.WriteString(name + " " + s.pick("A 192.0.2.1", "MX host.example", "MX h4.example", "MX bad.example", "MX gone.example", "AAAA 2001:db8::1", "MX .", "TXT other") + "\n")
		}
	}
	return b.String(), ip, from
}

func term(s *source) string {
	qualifier := s.pick("", "-", "~", "?", "+")
	name := s.pick("host.example", "h4.example", "h6.example", "b.example", "c.example", "d.example", "gone.example", "bad.example",
		"%{i}.h4.example", "%{l}.h4.example", "%{d}", "%{ir}.%{v}.example", "%{l1r-}.example", "%{o2}", "%{h}", "%{d1r}.example", "one..two.example")
	if s.pick("good", "good", "good", "good", "good", "good", "good", "good", "good", "bad") == "bad" {
		return qualifier + s.pick("ip4:1.2.3", "ip6:1.2.3.4", "a:", "include", "all:x", "a/33", "a//129", "exp=%{c}.example", "redirect:x.example", "moo", "a:com")
	}
	return qualifier + s.pick("a:"+name, "mx:"+name, "include:"+name, "exists:"+name, "ptr:"+name, "a", "mx", "ptr", "all",
		"ip4:192.0.2.1", "ip4:192.0.2.0/24", "ip4:203.0.113.0/30", "ip6:2001:db8::1", "ip6:2001:db8::/32", "a/24", "a:"+name+"/24", "mx/24//64",
		"a:"+name+"//32", "mx:"+name+"/0")
}

// peerDNS is a fake as the peer wants it.
type peerDNS struct{ *fake }

func dnsError(name string, meta spf.Meta, n int, err error) error {
	switch {
	case err != nil:
		return &net.DNSError{Err: err.Error(), Name: name, IsTemporary: true}
	case n == 0:
		return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return nil
}

func (p peerDNS) LookupTXT(ctx context.Context, name string) ([]string, error) {
	txt, meta, err := p.TXT(ctx, name)
	return txt, dnsError(name, meta, len(txt), err)
}

func (p peerDNS) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	mxs, meta, err := p.MX(ctx, name)
	var all []*net.MX
	for _, mx := range mxs {
		all = append(all, &net.MX{Host: mx.Host, Pref: mx.Pref})
	}
	return all, dnsError(name, meta, len(mxs), err)
}

func (p peerDNS) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	var all []net.IPAddr
	var meta spf.Meta
	for _, v6 := range []bool{false, true} {
		ips, m, err := p.Addr(ctx, name, v6)
		if err != nil {
			return nil, dnsError(name, m, 0, err)
		}
		meta = m
		for _, ip := range ips {
			all = append(all, net.IPAddr{IP: ip.AsSlice()})
		}
	}
	return all, dnsError(name, meta, len(all), nil)
}

func (p peerDNS) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	names, meta, err := p.PTR(ctx, netip.MustParseAddr(addr))
	return names, dnsError(addr, meta, len(names), err)
}
