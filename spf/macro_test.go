package spf

import (
	"context"
	"net/netip"
	"strings"
	"testing"
)

func evaluationFor(ip, local, sender, helo string) *evaluation {
	return &evaluation{checker: &Checker{}, ctx: context.Background(), ip: netip.MustParseAddr(ip), local: local, sender: sender, helo: helo, clientDone: true}
}

// The examples of RFC 7208, section 7.4.
func TestMacros(t *testing.T) {
	const domain = "email.example.com"
	for spec, want := range map[string]string{
		"%{s}":                              "strong-bad@email.example.com",
		"%{o}":                              "email.example.com",
		"%{d}":                              "email.example.com",
		"%{d4}":                             "email.example.com",
		"%{d3}":                             "email.example.com",
		"%{d2}":                             "example.com",
		"%{d1}":                             "com",
		"%{dr}":                             "com.example.email",
		"%{d2r}":                            "example.email",
		"%{l}":                              "strong-bad",
		"%{l-}":                             "strong.bad",
		"%{lr}":                             "strong-bad",
		"%{lr-}":                            "bad.strong",
		"%{l1r-}":                           "strong",
		"%{ir}.%{v}._spf.%{d2}":             "3.2.0.192.in-addr._spf.example.com",
		"%{lr-}.lp._spf.%{d2}":              "bad.strong.lp._spf.example.com",
		"%{lr-}.lp.%{ir}.%{v}._spf.%{d2}":   "bad.strong.lp.3.2.0.192.in-addr._spf.example.com",
		"%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}":  "3.2.0.192.in-addr.strong.lp._spf.example.com",
		"%{d2}.trusted-domains.example.net": "example.com.trusted-domains.example.net",
		"%{S}%%%_%-":                        "strong-bad%40email.example.com% %20",
		"%{h}.%{p}":                         "mx.example.org.unknown",
	} {
		got, ok, bad := evaluationFor("192.0.2.3", "strong-bad", domain, "mx.example.org").expand(spec, domain)
		if got != want || !ok || bad != nil {
			t.Errorf("%s: %q; want %q", spec, got, want)
		}
	}
	got, _, _ := evaluationFor("2001:db8::cb01", "strong-bad", domain, "").expand("%{ir}.%{v}._spf.%{d2}", domain)
	if want := "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"; !strings.EqualFold(got, want) {
		t.Errorf("IPv6: %s", got)
	}
}

func TestBadMacros(t *testing.T) {
	for _, s := range []string{"%", "a%", "%{", "%{}", "%{s", "%{q}", "%{1}", "%{s0}", "%{s00r}", "%{sx}", "%{s-r}", "%{rr1}", "%(s)", "%s", "%{c}", "%{R}", "%{t}", "%{d.2}"} {
		if _, cause := checkMacros(s, false); cause == "" {
			t.Errorf("%s is accepted", s)
		}
	}
	for _, s := range []string{"", ".", "com", "com.", "a.123", "a.-b", "a.b-", "a..", "a.b_c", "%{d}.", "%{d}.1", "%{d}x"} {
		if cause := checkDomainSpec(s); cause == "" {
			t.Errorf("%q is accepted", s)
		}
	}
	for _, s := range []string{"a.b", "a.b.", ".b", "%{d}", "a%%", "a b%_", "..com", "a.1-2", "%{d}.xn--p1ai", "/a:b/.c9"} {
		if cause := checkDomainSpec(s); cause != "" {
			t.Errorf("%q: %s", s, cause)
		}
	}
}

func TestNames(t *testing.T) {
	label := strings.Repeat("x", 63)
	name := strings.Repeat(label+".", 3) + strings.Repeat("x", 61) // 253 octets
	for s, want := range map[string]bool{"": false, ".": false, "a": true, "a.": true, "a..b": false, ".a": false, "a..": false,
		label + ".a": true, label + "x.a": false, "a." + label + "x": false, name: true, name + ".": true, name + "x": false} {
		if isName(s) != want {
			t.Errorf("%q: %t", s, !want)
		}
	}
	if got := shorten("a." + name); got != name {
		t.Errorf("%d octets", len(got))
	}
	for raw, shown := range map[string]string{"a.b": "a.b", "a b\\.\x00\xff": `a\032b\092.\000\255`, "foo:bar/baz": "foo:bar/baz"} {
		back, ok := unpresent(present(raw) + ".")
		if present(raw) != shown || back != raw || !ok {
			t.Errorf("%q: %s, %q", raw, present(raw), back)
		}
	}
	for _, s := range []string{`a\.b`, `a\046b`, `a\256`, `a\`} {
		if _, ok := unpresent(s); ok {
			t.Errorf("%s is taken", s)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("%{ir}.%{v}._spf.%{d2}", "strong-bad", "email.example.com", "2001:db8::1")
	f.Add("%{l1r+-}%%%_%-%{S}", "a+b-c", "example.com", "192.0.2.1")
	f.Add("%{d9999999r./}", "", "..", "192.0.2.1")
	f.Fuzz(func(t *testing.T, spec, local, domain, client string) {
		ip, err := netip.ParseAddr(client)
		if err != nil {
			return
		}
		e := evaluationFor(ip.Unmap().WithZone("").String(), local, domain, domain)
		text, ok, bad := e.expand(spec, domain)
		if _, cause := checkMacros(spec, true); (cause != "") && bad == nil && ok {
			t.Errorf("%q expands to %q, but it is not valid: %s", spec, text, cause)
		} else if cause == "" && bad != nil {
			t.Errorf("%q is valid, but: %s", spec, bad.reason)
		}
		if len(text) > maxExpansion+len(spec)+3*64*(len(local)+len(domain)+8) {
			t.Errorf("%d octets of %d", len(text), len(spec))
		}
		name := shorten(text)
		if isName(name) && len(name) > maxName+1 {
			t.Errorf("a name of %d octets", len(name))
		}
		if back, ok := unpresent(present(name)); ok && back != strings.TrimSuffix(name, ".") {
			t.Errorf("%q comes back as %q", name, back)
		}
	})
}
