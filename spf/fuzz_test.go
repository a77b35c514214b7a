package spf_test

import (
	"net/netip"
	"strings"
	"testing"

	"srsd/spf"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{"v=spf1", "v=spf1 -all", "v=spf1 a:foo:bar/baz.example.com/24//64 mx//0 ip4:192.0.2.1/8 ip6:::1 x=%{d2r-} -all",
		"V=SPF1 include:%{d}", "v=spf1 a/", "v=spf1 =", "v=spf1 \x00", "v=spf1 redirect=a.b exp=c.d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := spf.Parse(text)
		if r.String() != text {
			t.Errorf("%q is %q", text, r.String())
		}
		rest := text
		for _, term := range r.Terms {
			i := strings.Index(rest, term.Text)
			if i < 0 || term.Text == "" {
				t.Fatalf("%q is not in %q", term.Text, rest)
			}
			rest = rest[i+len(term.Text):]
			if term.Modifier() == (strings.IndexByte("+-~?", term.Qualifier) >= 0) {
				t.Errorf("%q has the qualifier %q", term.Text, term.Qualifier)
			}
		}
		if err != nil {
			return
		}
		// A record is the same in other words: more spaces, the version in capitals.
		again, err := spf.Parse("V=SPF1  " + strings.Join(strings.Split(text[6:], " "), "  "))
		if err != nil || len(again.Terms) != len(r.Terms) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzCheck lets strangers write records, names and clients: no panic, no more
// questions than the limits allow, nothing but printable ASCII for people.
func FuzzCheck(f *testing.F) {
	f.Add("d.example TXT v=spf1 include:d.example mx ptr a -all exp=d.example\nd.example MX d.example\nd.example A 192.0.2.1", "192.0.2.1", "h.example", "u@d.example")
	f.Add("d.example TXT v=spf1 redirect=%{l}.%{h}", "2001:db8::1", "d", "\"a b\"@d.example")
	f.Add("d.example TXT v=spf1 exists:%{p}.%{d2} ?all\n192.0.2.1 PTR \\065.d.example", "::ffff:192.0.2.1", "h\r\n", "")
	f.Fuzz(func(t *testing.T, zone, client, helo, from string) {
		ip, err := netip.ParseAddr(client)
		if err != nil || !validZone(zone) {
			return
		}
		r := newFake(zone)
		c := spf.Checker{Resolver: r, Trace: func(spf.Event) {}}
		o := c.Check(t.Context(), ip, helo, from)
		// Ten terms with a TXT or an MX question each, ten hosts each, ten names
		// of the client, the first record, the explanation, the doubtful voids.
		if n := len(r.asked); n > 10*11+1+10+1+3 {
			t.Errorf("%d questions", n)
		}
		if o.Lookups > 10 || o.VoidLookups > 3 {
			t.Errorf("%+v", o)
		}
		for _, s := range []string{o.Reason, o.Explanation, o.Mechanism} {
			if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("not printable: %q", s)
			}
		}
	})
}

// validZone says whether newFake can read it.
func validZone(zone string) (ok bool) {
	defer func() { ok = recover() == nil }()
	newFake(zone)
	return true
}
