// Package spf_test measures SPF checks beside blitiri.com.ar/go/spf, both on
// resolvers that have their answers ready.
package spf_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	peer "blitiri.com.ar/go/spf"

	"srsd/spf"
)

// The four cases: a network in the record itself; an include tree of six
// lookups, seven records and thirty networks; hosts; a macro.
var cases = []struct{ name, zone, from string }{
	{"ip4", "d.example TXT v=spf1 ip4:203.0.113.0/24 ip4:192.0.2.0/24 -all", "user@d.example"},
	{"include", `
		d.example TXT v=spf1 include:_spf.a.example include:_spf.b.example ~all
		_spf.a.example TXT v=spf1 include:_n1.a.example include:_n2.a.example include:_n3.a.example ~all
		_n1.a.example TXT v=spf1 ip4:35.190.247.0/24 ip4:64.233.160.0/19 ip4:66.102.0.0/20 ip4:66.249.80.0/20 ip4:72.14.192.0/18 ip4:74.125.0.0/16 ip4:108.177.8.0/21 ip4:173.194.0.0/16 ip4:209.85.128.0/17 ~all
		_n2.a.example TXT v=spf1 ip6:2001:4860:4000::/36 ip6:2404:6800:4000::/36 ip6:2607:f8b0:4000::/36 ip6:2800:3f0:4000::/36 ip6:2a00:1450:4000::/36 ip6:2c0f:fb50:4000::/36 ~all
		_n3.a.example TXT v=spf1 ip4:172.217.0.0/19 ip4:172.217.32.0/20 ip4:172.217.128.0/19 ip4:172.217.160.0/20 ip4:172.217.192.0/19 ip4:172.253.56.0/21 ip4:108.177.96.0/19 ip4:35.191.0.0/16 ip4:130.211.0.0/22 ~all
		_spf.b.example TXT v=spf1 include:_n4.b.example -all
		_n4.b.example TXT v=spf1 ip4:198.51.100.0/25 ip4:198.51.100.128/26 ip4:203.0.113.0/24 ip4:203.0.112.0/24 ip4:203.0.111.0/24 ip4:192.0.2.0/24 -all`, "user@d.example"},
	{"a-mx", `
		d.example TXT v=spf1 a mx -all
		d.example A 203.0.113.1
		d.example MX m1.example
		d.example MX m2.example
		m1.example A 203.0.113.2
		m2.example A 192.0.2.1`, "user@d.example"},
	{"macro", `
		d.example TXT v=spf1 exists:%{ir}.%{l1r-}._spf.%{d2} -all
		1.2.0.192.user._spf.d.example A 127.0.0.2`, "user-list@d.example"},
}

func BenchmarkCheck(b *testing.B) {
	for _, c := range cases {
		z := load(c.zone)
		b.Run(c.name+"/srsd", func(b *testing.B) {
			b.ReportAllocs()
			checker := spf.Checker{Resolver: z}
			ip := netip.MustParseAddr("192.0.2.1")
			for b.Loop() {
				if o := checker.Check(context.Background(), ip, "helo.example", c.from); o.Result != spf.Pass {
					b.Fatal(o)
				}
			}
		})
		b.Run(c.name+"/blitiri", func(b *testing.B) {
			b.ReportAllocs()
			ip := net.ParseIP("192.0.2.1")
			for b.Loop() {
				if r, err := peer.CheckHostWithSender(ip, "helo.example", c.from, peer.WithResolver(peerZone{z}), peer.WithContext(context.Background())); r != peer.Pass {
					b.Fatal(r, err)
				}
			}
		})
	}
}

// A zone has its answers ready, in the form that each engine wants.
type zone struct {
	txt    map[string][]string
	a      map[string][]netip.Addr
	mx     map[string][]spf.MX
	peerA  map[string][]net.IPAddr
	peerMX map[string][]*net.MX
}

func load(text string) *zone {
	z := &zone{map[string][]string{}, map[string][]netip.Addr{}, map[string][]spf.MX{}, map[string][]net.IPAddr{}, map[string][]*net.MX{}}
	for line := range strings.Lines(text) {
		part := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(part) < 3 {
			continue
		}
		name, data := part[0], part[2]
		switch part[1] {
		case "TXT":
			z.txt[name] = append(z.txt[name], data)
		case "A":
			ip := netip.MustParseAddr(data)
			z.a[name] = append(z.a[name], ip)
			z.peerA[name] = append(z.peerA[name], net.IPAddr{IP: ip.AsSlice()})
		case "MX":
			z.mx[name] = append(z.mx[name], spf.MX{Host: data})
			z.peerMX[name] = append(z.peerMX[name], &net.MX{Host: data})
		}
	}
	return z
}

var known = spf.Meta{TTL: time.Hour}

func (z *zone) TXT(_ context.Context, name string) ([]string, spf.Meta, error) {
	return z.txt[name], known, nil
}

func (z *zone) Addr(_ context.Context, name string, v6 bool) ([]netip.Addr, spf.Meta, error) {
	return z.a[name], known, nil
}

func (z *zone) MX(_ context.Context, name string) ([]spf.MX, spf.Meta, error) {
	return z.mx[name], known, nil
}

func (z *zone) PTR(context.Context, netip.Addr) ([]string, spf.Meta, error) { return nil, known, nil }

type peerZone struct{ *zone }

func (z peerZone) LookupTXT(_ context.Context, name string) ([]string, error) {
	return z.txt[name], nil
}

func (z peerZone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return z.peerMX[name], nil
}

func (z peerZone) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	return z.peerA[name], nil
}

func (z peerZone) LookupAddr(context.Context, string) ([]string, error) { return nil, nil }
