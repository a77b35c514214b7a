package deliver

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"srsd/envelope"
	"srsd/spf"
)

var errServFail = errors.New("SERVFAIL")

// all walks to the end.
func all(p Policy, dns Resolver, hop string, own ...string) (hosts []string, why envelope.Reply) {
	isOwn := func(n string) bool { return len(own) > 0 && n == own[0] }
	w := newWalk(context.Background(), p.withDefaults(), dns, hop, isOwn)
	for {
		h, ok := w.next(context.Background())
		if !ok {
			return hosts, w.why
		}
		for _, a := range h.addrs {
			hosts = append(hosts, h.name+" "+a.String())
		}
	}
}

func TestWalk(t *testing.T) {
	mx := func(names ...string) (out []spf.MX) { // each one preference behind the last
		for i, n := range names {
			out = append(out, spf.MX{Host: n, Pref: uint16(10 * i)})
		}
		return out
	}
	six := "2a00::1"
	for _, c := range []struct {
		name   string
		dns    names
		policy Policy
		own    string
		want   []string
		why    envelope.Reply // where want is empty
	}{
		{"in order", names{"MX d.example": mx("a.example.", "B.example"), "A a.example": "9.0.0.1", "A b.example": "9.0.0.2"}, Policy{}, "", []string{"a.example 9.0.0.1:25", "b.example 9.0.0.2:25"}, replyNoHost},
		{"both families, two addresses", names{"MX d.example": mx("a.example"), "A a.example": "9.0.0.1", "AAAA a.example": six}, Policy{}, "", []string{"a.example 9.0.0.1:25", "a.example [2a00::1]:25"}, replyNoHost},
		{"no source for IPv6", names{"MX d.example": mx("a.example"), "A a.example": "9.0.0.1", "AAAA a.example": six}, Policy{Source: []netip.Addr{netip.MustParseAddr("9.9.9.9")}}, "", []string{"a.example 9.0.0.1:25"}, replyNoHost},
		{"no MX", names{"A d.example": "9.0.0.1"}, Policy{Port: 2525}, "", []string{"d.example 9.0.0.1:2525"}, replyNoHost},
		{"five hosts", names{"MX d.example": mx("a", "b", "c", "d", "e", "f"), "A a": "9.0.0.1", "A b": "9.0.0.2", "A c": "9.0.0.3", "A d": "9.0.0.4", "A e": "9.0.0.5", "A f": "9.0.0.6"}, Policy{}, "", []string{"a 9.0.0.1:25", "b 9.0.0.2:25", "c 9.0.0.3:25", "d 9.0.0.4:25", "e 9.0.0.5:25"}, replyNoHost},
		{"null MX", names{"MX d.example": mx(".")}, Policy{}, "", nil, replyNullMX},
		{"no domain", names{}, Policy{}, "", nil, replyNoDomain},
		{"nothing there", names{"exists d.example": true}, Policy{}, "", nil, replyNoHost},
		{"host without address", names{"MX d.example": mx("a.example"), "exists a.example": true}, Policy{}, "", nil, replyNoHost},
		{"one host without address", names{"MX d.example": mx("a.example", "b.example"), "A b.example": "9.0.0.2"}, Policy{}, "", []string{"b.example 9.0.0.2:25"}, replyNoHost},
		{"MX trouble", names{"MX d.example": errServFail}, Policy{}, "", nil, replyDNS},
		{"address trouble", names{"MX d.example": mx("a.example"), "A a.example": errServFail}, Policy{}, "", nil, replyDNS},
		{"forbidden", names{"MX d.example": mx("a.example"), "A a.example": "127.0.0.1", "AAAA a.example": "::1"}, Policy{}, "", nil, replyNoHost},
		{"forbidden but allowed", names{"MX d.example": mx("a.example"), "A a.example": "127.0.0.1"}, Policy{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, "", []string{"a.example 127.0.0.1:25"}, replyNoHost},
		{"our name first", names{"MX d.example": mx("us.example", "a.example"), "A a.example": "9.0.0.1"}, Policy{}, "us.example", nil, replyLoop},
		{"our name second", names{"MX d.example": mx("a.example", "us.example", "b.example"), "A a.example": "9.0.0.1", "A b.example": "9.0.0.2"}, Policy{}, "us.example", []string{"a.example 9.0.0.1:25"}, replyLoop},
		{"our address", names{"MX d.example": mx("a.example", "b.example"), "A a.example": "9.0.0.1", "A b.example": "9.0.0.2"}, Policy{ListenAddrs: []netip.AddrPort{netip.MustParseAddrPort("9.0.0.1:25")}}, "", nil, replyLoop},
		{"our address, another port", names{"MX d.example": mx("a.example"), "A a.example": "9.0.0.1"}, Policy{ListenAddrs: []netip.AddrPort{netip.MustParseAddrPort("9.0.0.1:587")}}, "", []string{"a.example 9.0.0.1:25"}, replyNoHost},
		{"smarthosts", names{"A smart.example": "9.0.0.1"}, Policy{Smarthost: "smart.example:587", SmarthostFallback: []string{"9.0.0.2:25"}}, "", []string{"smart.example 9.0.0.1:587", "9.0.0.2 9.0.0.2:25"}, replyNoHost},
	} {
		t.Run(c.name, func(t *testing.T) {
			hosts, why := all(c.policy, c.dns, "d.example", c.own)
			if d := cmp.Diff(c.want, hosts); d != "" {
				t.Error(d)
			}
			if why != c.why {
				t.Errorf("because %v, want %v", why, c.why)
			}
		})
	}
}

func TestWalkLiteral(t *testing.T) {
	for hop, want := range map[string]string{"[9.0.0.1]": "9.0.0.1 9.0.0.1:25", "[IPv6:2a00::1]": "2a00::1 [2a00::1]:25"} {
		if hosts, _ := all(Policy{}, names{}, hop, ""); strings.Join(hosts, ";") != want {
			t.Errorf("%s: %v", hop, hosts)
		}
	}
}

// Among equals no host is always the first.
func TestWalkShuffles(t *testing.T) {
	dns := names{"MX d.example": []spf.MX{{Host: "a", Pref: 1}, {Host: "b", Pref: 1}}, "A a": "9.0.0.1", "A b": "9.0.0.2"}
	first := map[string]bool{}
	for range 100 {
		hosts, _ := all(Policy{}, dns, "d.example", "")
		first[hosts[0]] = true
	}
	if len(first) != 2 {
		t.Errorf("always %v", first)
	}
}

func TestForbidden(t *testing.T) {
	p := Policy{}.withDefaults()
	for _, s := range []string{
		"127.0.0.1", "127.0.1.1", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "198.18.0.1",
		"224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "fec0::1", "2001:db8::1",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "::127.0.0.1", "::ffff:0.0.0.0", "100::1",
	} {
		if !p.forbidden(netip.MustParseAddr(s)) {
			t.Errorf("%s is allowed", s)
		}
	}
	for _, s := range []string{"8.8.8.8", "192.88.99.10", "2a00:1450::1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"} {
		if p.forbidden(netip.MustParseAddr(s)) {
			t.Errorf("%s is forbidden", s)
		}
	}
	p.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	if p.forbidden(netip.MustParseAddr("::ffff:10.1.2.3")) || !p.forbidden(netip.MustParseAddr("192.168.0.1")) {
		t.Error("allow_networks")
	}
}

func TestForbiddenAddressIsNotDialled(t *testing.T) {
	w := newWorld(t, nil)
	w.dns["A mx.target.example"] = "127.0.0.1"
	w.servers["127.0.0.1"] = &server{}
	if r := w.deliver(message("jo.private@target.example")); r.Code != 550 || r.Enhanced.String() != "5.4.4" {
		t.Error(r)
	}
	if _, err := w.dial(context.Background(), w.policy.Load(), netip.MustParseAddrPort("127.0.0.1:25")); err == nil {
		t.Error("the last gate is open")
	}
	if n := w.servers["127.0.0.1"].dialled(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
