package spf_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"srsd/spf"
)

var client = netip.MustParseAddr("192.0.2.1")

func TestStrictVoid(t *testing.T) {
	zone := `
		d.example TXT v=spf1 a:h1.example a:h2.example a:h3.example ip6:2001:db8::/32 -all
		h1.example A 192.0.2.1
		h2.example A 192.0.2.1
		h3.example A 192.0.2.1`
	ip := netip.MustParseAddr("2001:db8::1")
	f := newFake(zone)
	o := (&spf.Checker{Resolver: f}).Check(t.Context(), ip, "", "u@d.example")
	if o.Result != spf.Pass || o.VoidLookups != 2 {
		t.Errorf("%+v", o)
	}
	// One question for A records is enough: it is asked when the third void would end the check.
	if n := len(f.asked); n != 5 {
		t.Errorf("%d questions: %s", n, f.asked)
	}
	o = (&spf.Checker{Resolver: newFake(zone), StrictVoid: true}).Check(t.Context(), ip, "", "u@d.example")
	if o.Result != spf.PermError || !strings.Contains(o.Reason, "void lookup limit exceeded") {
		t.Errorf("strict: %+v", o)
	}
}

// What does not exist has no other addresses: nobody asks.
func TestVoidCostsNothing(t *testing.T) {
	f := newFake("d.example TXT v=spf1 a:n1.example a:n2.example a:n3.example -all")
	o := (&spf.Checker{Resolver: f}).Check(t.Context(), netip.MustParseAddr("2001:db8::1"), "", "u@d.example")
	if o.Result != spf.PermError || len(f.asked) != 4 {
		t.Errorf("%+v, asked %s", o, f.asked)
	}
}

func TestLimitsCanBeChanged(t *testing.T) {
	zone := "d.example TXT v=spf1" + repeat(12, " a:n%d.example") + " +all"
	for _, test := range []struct {
		lookups, voids int
		want           spf.Result
	}{{0, 0, spf.PermError}, {12, 0, spf.PermError}, {0, -1, spf.PermError}, {12, -1, spf.Pass}, {12, 12, spf.Pass}, {12, 11, spf.PermError}, {-1, -1, spf.PermError}} {
		c := spf.Checker{Resolver: newFake(zone), LookupLimit: test.lookups, VoidLimit: test.voids}
		if o := c.Check(t.Context(), client, "", "u@d.example"); o.Result != test.want {
			t.Errorf("%+v: %s, %s", test, o.Result, o.Reason)
		}
	}
}

func TestClientNamesAreAskedOnce(t *testing.T) {
	f := newFake("d.example TXT v=spf1" + repeat(6, " exists:%%{p}.e%d.example") + " ptr:x.example -all\n192.0.2.1 PTR x.example\nx.example A 192.0.2.1")
	o := (&spf.Checker{Resolver: f, VoidLimit: -1}).Check(t.Context(), client, "", "u@d.example")
	if o.Result != spf.Pass || o.Lookups != 8 { // 6 exists, 1 for all %{p}, 1 ptr
		t.Errorf("%+v", o)
	}
	for _, q := range []string{"PTR 192.0.2.1", "A x.example"} {
		if n := strings.Count(strings.Join(f.asked, "\n")+"\n", q+"\n"); n != 1 {
			t.Errorf("%s was asked %d times", q, n)
		}
	}
}

// A slow resolver, as it may be anywhere: three seconds for each answer.
type slow struct{ spf.Resolver }

func (s slow) wait(ctx context.Context) error {
	select {
	case <-time.After(3 * time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slow) TXT(ctx context.Context, name string) ([]string, spf.Meta, error) {
	if err := s.wait(ctx); err != nil {
		return nil, spf.Meta{}, err
	}
	return s.Resolver.TXT(ctx, name)
}

func (s slow) Addr(ctx context.Context, name string, v6 bool) ([]netip.Addr, spf.Meta, error) {
	if err := s.wait(ctx); err != nil {
		return nil, spf.Meta{}, err
	}
	return s.Resolver.Addr(ctx, name, v6)
}

// RFC 7208, section 4.6.4: a limit of at least 20 s for the whole check, and then temperror.
func TestTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := spf.Checker{Resolver: slow{newFake("d.example TXT v=spf1" + repeat(9, " a:h.example") + " +all\nh.example A 192.0.2.9")}}
		start := time.Now()
		o := c.Check(t.Context(), client, "", "u@d.example")
		if d := time.Since(start); o.Result != spf.TempError || d != 20*time.Second || o.TTL != 0 {
			t.Errorf("%+v after %s", o, d)
		}
		if !strings.Contains(o.Reason, "time limit") {
			t.Errorf("reason %q", o.Reason)
		}
		c.Timeout = time.Minute
		if o := c.Check(t.Context(), client, "", "u@d.example"); o.Result != spf.Pass {
			t.Errorf("with more time: %+v", o)
		}
	})
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := newFake("d.example TXT v=spf1 +all")
	o := (&spf.Checker{Resolver: f}).Check(ctx, client, "", "u@d.example")
	if o.Result != spf.TempError || len(f.asked) != 0 {
		t.Errorf("%+v, asked %s", o, f.asked)
	}
}

// RFC 7208, section 6.2.
func TestExplanations(t *testing.T) {
	for name, test := range map[string]struct{ zone, want string }{
		"plain":                {"d.example TXT v=spf1 -all exp=e.example\ne.example TXT No %{i} at %{d}. See %_%{h}%%", "No 192.0.2.1 at d.example. See  helo.example%"},
		"c, r and t":           {"d.example TXT v=spf1 -all exp=e.example\ne.example TXT %{c} %{r} %{t}", "192.0.2.1 mx.example 1000000000"},
		"p":                    {"d.example TXT v=spf1 -all exp=e.example\ne.example TXT %{p}\n192.0.2.1 PTR n.d.example\nn.d.example A 192.0.2.1", "n.d.example"},
		"the target's":         {"d.example TXT v=spf1 redirect=r.example exp=e.example\nr.example TXT v=spf1 -all exp=f.example\ne.example TXT e\nf.example TXT %{d} %{o}", "r.example d.example"},
		"not the included":     {"d.example TXT v=spf1 include:r.example -all exp=e.example\nr.example TXT v=spf1 -all exp=f.example\ne.example TXT e\nf.example TXT f", "e"},
		"after 10 lookups":     {"d.example TXT v=spf1" + repeat(10, " a:h.example") + " -all exp=e.example\nh.example A 192.0.2.9\ne.example TXT e %{p}", "e unknown"},
		"two records":          {"d.example TXT v=spf1 -all exp=e.example\ne.example TXT a\ne.example TXT b", ""},
		"DNS trouble":          {"d.example TXT v=spf1 -all exp=e.example\ne.example SERVFAIL", ""},
		"not ASCII":            {"d.example TXT v=spf1 -all exp=e.example\ne.example TXT é", ""},
		"a control character":  {"d.example TXT v=spf1 -all exp=e.example\ne.example TXT a\x01b", ""},
		"a bad macro":          {"d.example TXT v=spf1 -all exp=e.example\ne.example TXT %{q}", ""},
		"too long":             {"d.example TXT v=spf1 -all exp=e.example\ne.example TXT " + strings.Repeat("%{s}", 1500), ""},
		"a name nobody can be": {"d.example TXT v=spf1 -all exp=%{l}..e.example", ""},
		"softfail":             {"d.example TXT v=spf1 ~all exp=e.example\ne.example TXT e", ""},
		"pass":                 {"d.example TXT v=spf1 +all exp=e.example\ne.example TXT e", ""},
	} {
		c := spf.Checker{Resolver: newFake(test.zone), Receiver: "mx.example", Now: func() time.Time { return time.Unix(1e9, 0) }}
		if o := c.Check(t.Context(), client, "helo.example", "u@d.example"); o.Explanation != test.want {
			t.Errorf("%s: %q; want %q (%s, %s)", name, o.Explanation, test.want, o.Result, o.Reason)
		}
	}
}

// A local part cannot bring a line break into an explanation.
func TestExplanationIsPrintable(t *testing.T) {
	c := spf.Checker{Resolver: newFake("d.example TXT v=spf1 -all exp=e.example\ne.example TXT %{l}")}
	for _, local := range []string{"a\r\nb", "a\x00", "é"} {
		if o := c.Check(t.Context(), client, "", local+"@d.example"); o.Result != spf.Fail || o.Explanation != "" {
			t.Errorf("%q: %+v", local, o)
		}
	}
}

func TestOutcome(t *testing.T) {
	f := newFake(`
		d.example TXT v=spf1 include:i.example -all
		i.example TXT v=spf1 a:h.example ~all
		h.example A 192.0.2.1
		p.example TXT v=spf1 exists:%{l}.e.example ?all
		bad.example TXT v=spf1 include:worse.example -all
		worse.example TXT v=spf1 ip4:1.2.3 -all`)
	f.ttl["i.example"] = time.Minute
	for from, want := range map[string]spf.Outcome{
		"u@d.example": {Result: spf.Pass, Identity: spf.MailFrom, Domain: "d.example", Mechanism: "include:i.example",
			Reason: "a:h.example of i.example matches", Lookups: 2, TTL: time.Minute},
		"": {Result: spf.None, Identity: spf.HELO, Domain: "helo.example", Reason: "helo.example does not exist", TTL: time.Hour},
		"u@p.example": {Result: spf.Neutral, Identity: spf.MailFrom, Domain: "p.example", Mechanism: "?all",
			Reason: "?all of p.example matches", Lookups: 1, VoidLookups: 1, TTL: time.Hour, Personal: true},
		"u@h.example": {Result: spf.None, Identity: spf.MailFrom, Domain: "h.example", Reason: "h.example has no SPF record", TTL: time.Hour},
		"u@bad.example": {Result: spf.PermError, Identity: spf.MailFrom, Domain: "bad.example", Mechanism: "include:worse.example",
			Reason: "syntax error in ip4:1.2.3 of worse.example: 1.2.3 is no IPv4 address", Lookups: 1, TTL: time.Hour},
	} {
		got := (&spf.Checker{Resolver: f}).Check(t.Context(), client, "helo.example", from)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", from, d)
		}
	}
}

func TestTrace(t *testing.T) {
	f := newFake(`
		d.example TXT v=spf1 ip4:203.0.113.1 include:%{d1r}.i.example -all
		d.i.example TXT v=spf1 a:h.example -all
		h.example A 192.0.2.1`)
	var got []string
	c := spf.Checker{Resolver: f, Trace: func(ev spf.Event) {
		got = append(got, strings.Join(slices.DeleteFunc([]string{strings.Repeat(">", ev.Depth), ev.Step, ev.Term, ev.Target,
			ev.Type, ev.Name, ev.Verdict}, func(s string) bool { return s == "" }), " "))
	}}
	c.Check(t.Context(), client, "", "u@d.example")
	want := []string{
		"query TXT d.example", "record",
		"term ip4:203.0.113.1", "match ip4:203.0.113.1 no match",
		"term include:%{d1r}.i.example d.i.example",
		"> query TXT d.i.example", "> record",
		"> term a:h.example h.example", "> query A h.example", "> match a:h.example pass",
		"> result a:h.example pass",
		"match include:%{d1r}.i.example pass", "result include:%{d1r}.i.example pass",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseFindsAllErrors(t *testing.T) {
	r, err := spf.Parse("v=spf1 a:localhost ip4:1.2.3 mx +all exp=a.b exp=c.d")
	if err == nil {
		t.Fatal("no error")
	}
	want := "spf: \"a:localhost\": the domain has one label only\n" +
		"spf: \"ip4:1.2.3\": 1.2.3 is no IPv4 address\n" +
		"spf: \"exp=c.d\": a record has one exp= at most"
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Error(d)
	}
	if len(r.Terms) != 3 || r.Terms[0].Text != "mx" || r.Exp != "a.b" {
		t.Errorf("%+v", r)
	}
}

// However long a record, what is said about it is short.
func TestWordsAreShort(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, term := range []string{"a:" + long + ".example", "ip4:" + long, long, "a:" + long + "é.example", long + "=%"} {
		c := spf.Checker{Resolver: newFake("d.example TXT v=spf1 " + term + " " + term + " " + term + " exists:e.example -all\ne.example SERVFAIL")}
		if o := c.Check(t.Context(), client, "", "u@d.example"); len(o.Reason) > 2000 || len(o.Mechanism) > 1000 {
			t.Errorf("%d octets of reason, %d of mechanism for %.20s", len(o.Reason), len(o.Mechanism), term)
		}
	}
}
