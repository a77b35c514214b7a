package spf_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"srsd/spf"
)

// Points on which SPF libraries are known to give different answers, and the
// answer of RFC 7208. A client has the address 192.0.2.1, unless the test says
// otherwise; the reverse-path is user@d.example.
var divergences = []struct {
	name, zone string
	want       spf.Result
	ip, from   string
	helo       string
}{
	// Void lookups, section 4.6.4.
	{name: "two voids, then a lookup that finds something", zone: `
		d.example TXT v=spf1 a:n1.example a:n2.example a:h.example -all
		h.example A 192.0.2.1`, want: spf.Pass},
	{name: "three voids", zone: "d.example TXT v=spf1 a:n1.example a:n2.example a:n3.example ?all", want: spf.PermError},
	{name: "three voids of exists", zone: "d.example TXT v=spf1 exists:n1.example exists:n2.example exists:n3.example ?all", want: spf.PermError},
	{name: "an empty answer is void", zone: `
		d.example TXT v=spf1 a:t.example mx:t.example exists:t.example ?all
		t.example TXT here`, want: spf.PermError},
	{name: "hosts with IPv4 alone are not void for an IPv6 client", zone: `
		d.example TXT v=spf1 a:h.example a:h.example a:h.example ip6:2001:db8::/32 -all
		h.example A 192.0.2.1`, want: spf.Pass, ip: "2001:db8::1"},
	{name: "names without any address are void for an IPv6 client", zone: `
		d.example TXT v=spf1 a:t.example a:t.example a:t.example ip6:2001:db8::/32 -all
		t.example TXT here`, want: spf.PermError, ip: "2001:db8::1"},
	{name: "void MX hosts are not terms", zone: `
		d.example TXT v=spf1 mx -all` + repeat(5, "\nd.example MX m%d.example"), want: spf.Fail},

	// The limit of terms, section 4.6.4.
	{name: "ten lookups", zone: "d.example TXT v=spf1" + repeat(10, " a:h.example") + " ip4:192.0.2.1 -all\nh.example A 192.0.2.9", want: spf.Pass},
	{name: "eleven lookups", zone: "d.example TXT v=spf1" + repeat(11, " a:h.example") + " ip4:192.0.2.1 -all\nh.example A 192.0.2.9", want: spf.PermError},
	{name: "eleven lookups over includes", zone: `
		d.example TXT v=spf1 include:i1.example include:i2.example ip4:192.0.2.1 -all
		i1.example TXT v=spf1 a:h.example a:h.example a:h.example a:h.example -all
		i2.example TXT v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example -all
		h.example A 192.0.2.9`, want: spf.PermError},
	{name: "redirect counts", zone: "d.example TXT v=spf1" + repeat(10, " a:h.example") + " redirect=r.example\nh.example A 192.0.2.9\nr.example TXT v=spf1 +all", want: spf.PermError},
	{name: "redirect to itself", zone: "d.example TXT v=spf1 redirect=d.example", want: spf.PermError},
	{name: "ten MX", zone: "d.example TXT v=spf1 mx -all\nm9.example A 192.0.2.1" + repeat(10, "\nd.example MX m%d.example"), want: spf.Pass},
	{name: "eleven MX, the first matches", zone: "d.example TXT v=spf1 mx -all\nm0.example A 192.0.2.1" + repeat(11, "\nd.example MX m%d.example"), want: spf.PermError},
	{name: "PTR names after the tenth", zone: "d.example TXT v=spf1 ptr -all\nx.d.example A 192.0.2.1" + repeat(10, "\n192.0.2.1 PTR p%d.example") + "\n192.0.2.1 PTR x.d.example", want: spf.Fail},
	{name: "the tenth PTR name", zone: "d.example TXT v=spf1 ptr -all\nx.d.example A 192.0.2.1" + repeat(9, "\n192.0.2.1 PTR p%d.example") + "\n192.0.2.1 PTR x.d.example", want: spf.Pass},

	// ptr and %{p}, sections 5.5 and 7.3.
	{name: "PTR fails", zone: "d.example TXT v=spf1 ptr -all\n192.0.2.1 SERVFAIL", want: spf.Fail},
	{name: "one name of the client fails", zone: "d.example TXT v=spf1 ptr -all\n192.0.2.1 PTR bad.d.example\n192.0.2.1 PTR ok.d.example\nbad.d.example SERVFAIL\nok.d.example A 192.0.2.1", want: spf.Pass},
	{name: "ptr matches whole labels", zone: "d.example TXT v=spf1 ptr:lbl.example -all\n192.0.2.1 PTR xlbl.example\nxlbl.example A 192.0.2.1", want: spf.Fail},
	{name: "ptr ignores case", zone: "d.example TXT v=spf1 ptr:LBL.example -all\n192.0.2.1 PTR x.lbl.EXAMPLE.\nx.lbl.example A 192.0.2.1", want: spf.Pass},
	{name: "p prefers the domain's own name", zone: "d.example TXT v=spf1 exists:%{p}.e.example -all\n192.0.2.1 PTR other.example\n192.0.2.1 PTR x.d.example\n192.0.2.1 PTR d.example\nx.d.example A 192.0.2.1\nother.example A 192.0.2.1\nd.example A 192.0.2.1\nd.example.e.example A 127.0.0.2", want: spf.Pass},
	{name: "p is unknown", zone: "d.example TXT v=spf1 exists:%{p}.e.example -all\nunknown.e.example A 127.0.0.2", want: spf.Pass},
	{name: "p is unknown if DNS fails", zone: "d.example TXT v=spf1 exists:%{p}.e.example -all\n192.0.2.1 SERVFAIL\nunknown.e.example A 127.0.0.2", want: spf.Pass},

	// Macros, sections 7.1 to 7.3.
	{name: "c in a domain", zone: "d.example TXT v=spf1 exists:%{c}.e.example -all", want: spf.PermError},
	{name: "r in a domain", zone: "d.example TXT v=spf1 exists:%{r}.e.example -all", want: spf.PermError},
	{name: "t in a domain", zone: "d.example TXT v=spf1 exists:%{t}.e.example -all", want: spf.PermError},
	{name: "d0", zone: "d.example TXT v=spf1 +all exists:%{d0}.e.example", want: spf.PermError},
	{name: "d127", zone: "d.example TXT v=spf1 exists:%{d127}.e.example -all\nd.example.e.example A 127.0.0.2", want: spf.Pass},
	{name: "d99999999999999999999", zone: "d.example TXT v=spf1 exists:%{d99999999999999999999}.e.example -all\nd.example.e.example A 127.0.0.2", want: spf.Pass},
	{name: "several delimiters", zone: "d.example TXT v=spf1 exists:%{l1r+-}.e.example -all\na.e.example A 127.0.0.2", from: "a-b+c@d.example", want: spf.Pass},
	{name: "empty parts stay", zone: "d.example TXT v=spf1 exists:%{l2r-}.e.example -all\nb.e.example A 127.0.0.2", from: "a--b@d.example", want: spf.Fail},
	{name: "upper case escapes", zone: "d.example TXT v=spf1 exists:%{L}.e.example -all\na%2bb%2f~.e.example A 127.0.0.2", from: "a+b/~@d.example", want: spf.Pass},
	{name: "a name too long loses labels on the left", zone: "d.example TXT v=spf1 exists:" + repeat(6, "%%{l}.") + "e.example -all\n" +
		strings.Repeat("x23456789012345678901234567890123456789012345678.", 4) + "e.example A 127.0.0.2",
		from: "x23456789012345678901234567890123456789012345678@d.example", want: spf.Pass},
	{name: "a label too long", zone: "d.example TXT v=spf1 a:%{l}.e.example -all", from: strings.Repeat("x", 64) + "@d.example", want: spf.Fail},
	{name: "include of a name nobody can ask for", zone: "d.example TXT v=spf1 include:%{l}.e.example -all", from: strings.Repeat("x", 64) + "@d.example", want: spf.PermError},

	{name: "redirect to an empty name", zone: "d.example TXT v=spf1 redirect=%{h}", want: spf.PermError},
	{name: "include of an empty name", zone: "d.example TXT v=spf1 include:%{h} +all", want: spf.PermError},
	{name: "a of an empty name", zone: "d.example TXT v=spf1 a:%{h} -all", want: spf.Fail},

	// Internationalised mail, RFC 8616, section 4.
	{name: "U-labels", zone: "xn--bcher-kva.example TXT v=spf1 exists:%{o}.e.example -all\nxn--bcher-kva.example.e.example A 127.0.0.2", from: "ann@bücher.example", want: spf.Pass},
	{name: "a local part beyond ASCII", zone: "d.example TXT v=spf1 exists:%{l}.e.example exists:%{S}.e.example a:h.example -all\nh.example A 203.0.113.1\nb\\195\\188cher.e.example A 127.0.0.2\nb%c3%bccher%40d.example.e.example A 127.0.0.2", from: "bücher@d.example", want: spf.Fail},
	{name: "redirect with a local part beyond ASCII", zone: "d.example TXT v=spf1 redirect=%{l}.e.example", from: "bücher@d.example", want: spf.Neutral},
	{name: "a domain that is no IDN", zone: "d.example TXT v=spf1 +all", from: "x@\xff\xfe.example", want: spf.None},

	// The client's family, section 5.
	{name: "an IPv4-mapped client", zone: "d.example TXT v=spf1 exists:%{i}.%{v}.e.example -all\n192.0.2.1.in-addr.e.example A 127.0.0.2", ip: "::ffff:192.0.2.1", want: spf.Pass},
	{name: "ip6 never matches it", zone: "d.example TXT v=spf1 ip6:::/0 ip6:::ffff:192.0.2.1 -all", ip: "::ffff:192.0.2.1", want: spf.Fail},
	{name: "loopback gets no free ride", zone: "d.example TXT v=spf1 -all", ip: "127.0.0.1", want: spf.Fail},
	{name: "a zone index is no part of an address", zone: "d.example TXT v=spf1 ip6:fe80::1 -all", ip: "fe80::1%eth0", want: spf.Pass},

	// Initial processing, section 4.3.
	{name: "one label", zone: "localhost TXT v=spf1 +all", from: "u@localhost", want: spf.None},
	{name: "HELO with one label", zone: "localhost TXT v=spf1 +all", from: "<>", helo: "localhost", want: spf.None},
	{name: "HELO literal", from: "<>", helo: "[192.0.2.1]", want: spf.None},
	{name: "no HELO", from: "<>", helo: "<>", want: spf.None},
	{name: "the null reverse-path is postmaster", zone: "h.example TXT v=spf1 exists:%{l}.%{o}.e.example -all\npostmaster.h.example.e.example A 127.0.0.2", from: "<>", helo: "h.example", want: spf.Pass},
	{name: "no local part", zone: "d.example TXT v=spf1 exists:%{l}.e.example -all\npostmaster.e.example A 127.0.0.2", from: "@d.example", want: spf.Pass},
	{name: "no @", zone: "d.example TXT v=spf1 exists:%{s}.e.example -all\npostmaster\\064d.example.e.example A 127.0.0.2", from: "d.example", want: spf.Pass},
	{name: "the last @ splits", zone: "d.example TXT v=spf1 +all\nb@d.example TXT v=spf1 -all", from: "a@b@d.example", want: spf.Pass},
	{name: "a final dot", zone: "d.example TXT v=spf1 exists:%{d}.e.example -all\nd.example.e.example A 127.0.0.2", from: "u@d.example.", want: spf.Pass},
	{name: "upper case and underscore", zone: "_d.example TXT v=spf1 +all", from: "u@_D.EXAMPLE", want: spf.Pass},
	{name: "too long a name", from: "u@" + repeat(32, "abcdefg%d.") + "example", want: spf.None},

	// Order and modifiers, sections 4.6, 5.2 and 6.
	{name: "redirect first", zone: "d.example TXT v=spf1 redirect=r.example ip4:192.0.2.1\nr.example TXT v=spf1 -all", want: spf.Pass},
	{name: "redirect beside all", zone: "d.example TXT v=spf1 redirect=r.example ?all\nr.example TXT v=spf1 -all", want: spf.Neutral},
	{name: "redirect to nothing", zone: "d.example TXT v=spf1 redirect=r.example", want: spf.PermError},
	{name: "include of nothing", zone: "d.example TXT v=spf1 include:r.example ?all", want: spf.PermError},
	{name: "include of a softfail", zone: "d.example TXT v=spf1 include:r.example ?all\nr.example TXT v=spf1 ~all", want: spf.Neutral},
	{name: "-include of a pass", zone: "d.example TXT v=spf1 -include:r.example +all\nr.example TXT v=spf1 +all", want: spf.Fail},
	{name: "an error after all", zone: "d.example TXT v=spf1 +all nonsense", want: spf.PermError},
	{name: "a semicolon", zone: "d.example TXT v=spf1 ip4:192.0.2.1; -all", want: spf.PermError},
	{name: "+redirect", zone: "d.example TXT v=spf1 +all +redirect=r.example", want: spf.PermError},
	{name: "unknown modifiers", zone: "d.example TXT v=spf1 x=1 x=2 y.z-_=%{s} +all", want: spf.Pass},
	{name: "a bad unknown modifier", zone: "d.example TXT v=spf1 +all x=%{q}", want: spf.PermError},
	{name: "any case", zone: "d.example TXT V=sPF1 ReDirect=r.example\nr.example TXT v=spf1 IP4:192.0.2.1 -ALL", want: spf.Pass},
	{name: "a tab", zone: "d.example TXT v=spf1 ip4:192.0.2.1\t-all", want: spf.PermError},
	{name: "spaces", zone: "d.example TXT v=spf1  ip4:192.0.2.1   -all  x=y", want: spf.Pass},
	{name: "a tab after the version", zone: "d.example TXT v=spf1\t-all", want: spf.None},
	{name: "v=spf10", zone: "d.example TXT v=spf10 -all", want: spf.None},
	{name: "a final dot in a record", zone: "d.example TXT v=spf1 a:h.example. -all\nh.example A 192.0.2.1", want: spf.Pass},

	// The grammar of domains and networks, sections 5 and 7.1.
	{name: "slash and prefix", zone: "d.example TXT v=spf1 a:foo/bar.example/24 -all\nfoo/bar.example A 192.0.2.200", want: spf.Pass},
	{name: "no domain but a prefix", zone: "d.example TXT v=spf1 +all a:/24", want: spf.PermError},
	{name: "each family its prefix", zone: "d.example TXT v=spf1 a/24//64 -all\nd.example A 192.0.2.200\nd.example AAAA 2001:db8::9", ip: "2001:db8::1", want: spf.Pass},
	{name: "/0", zone: "d.example TXT v=spf1 ip4:203.0.113.1/0 -all", want: spf.Pass},
	{name: "/032", zone: "d.example TXT v=spf1 ip4:192.0.2.1/032 -all", want: spf.PermError},
	{name: "a leading zero", zone: "d.example TXT v=spf1 ip4:192.0.02.1 -all", want: spf.PermError},
	{name: "/33", zone: "d.example TXT v=spf1 +all a/33", want: spf.PermError},
	{name: "//129", zone: "d.example TXT v=spf1 +all a//129", want: spf.PermError},
	{name: "a zone in ip6", zone: "d.example TXT v=spf1 +all ip6:fe80::1%eth0", want: spf.PermError},
	{name: "ip4 glued to all", zone: "d.example TXT v=spf1 ip4:192.0.2.1~all", want: spf.PermError},
	{name: "two records", zone: "d.example TXT v=spf1 +all\nd.example TXT v=spf1 +all", want: spf.PermError},

	// DNS trouble, sections 2.6.6 and 5.
	{name: "the record fails", zone: "d.example SERVFAIL", want: spf.TempError},
	{name: "a fails", zone: "d.example TXT v=spf1 a:h.example +all\nh.example SERVFAIL", want: spf.TempError},
	{name: "mx fails", zone: "d.example TXT v=spf1 mx:h.example +all\nh.example SERVFAIL", want: spf.TempError},
	{name: "an MX host fails", zone: "d.example TXT v=spf1 mx +all\nd.example MX h.example\nh.example SERVFAIL", want: spf.TempError},
	{name: "exists fails", zone: "d.example TXT v=spf1 exists:h.example +all\nh.example SERVFAIL", want: spf.TempError},
	{name: "include fails", zone: "d.example TXT v=spf1 include:h.example +all\nh.example SERVFAIL", want: spf.TempError},
	{name: "redirect fails", zone: "d.example TXT v=spf1 redirect=h.example\nh.example SERVFAIL", want: spf.TempError},
	{name: "a match before", zone: "d.example TXT v=spf1 ip4:192.0.2.1 a:h.example +all\nh.example SERVFAIL", want: spf.Pass},
	{name: "a null MX", zone: "d.example TXT v=spf1 mx ?all\nd.example MX .", want: spf.Neutral},
	{name: "no MX is not the name itself", zone: "d.example TXT v=spf1 mx -all\nd.example A 192.0.2.1", want: spf.Fail},
}

// repeat formats the same n times, with the count as its argument if it has one.
func repeat(n int, format string) string {
	var b strings.Builder
	for i := range n {
		if strings.Contains(strings.ReplaceAll(format, "%%", ""), "%d") {
			fmt.Fprintf(&b, format, i)
		} else {
			b.WriteString(strings.ReplaceAll(format, "%%", "%"))
		}
	}
	return b.String()
}

func TestDivergences(t *testing.T) {
	for _, test := range divergences {
		t.Run(test.name, func(t *testing.T) {
			ip, from, helo := test.ip, test.from, test.helo
			if ip == "" {
				ip = "192.0.2.1"
			}
			if from == "" {
				from = "user@d.example"
			}
			from, helo = strings.Trim(from, "<>"), strings.Trim(helo, "<>")
			f := newFake(test.zone)
			c := spf.Checker{Resolver: f}
			o := c.Check(t.Context(), netip.MustParseAddr(ip), helo, from)
			if o.Result != test.want {
				t.Errorf("%s: %s; want %s\nasked: %s", o.Result, o.Reason, test.want, strings.Join(f.asked, ", "))
			}
			for _, q := range f.asked {
				if strings.HasPrefix(q, "AAAA ") && o.VoidLookups < 3 && netip.MustParseAddr(ip).Unmap().Is4() {
					t.Errorf("asked %s for an IPv4 client", q)
				}
			}
			if o.Result == spf.None && len(f.asked) > 0 && test.zone == "" {
				t.Errorf("asked %s for nothing", f.asked)
			}
		})
	}
}
