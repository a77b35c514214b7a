package receive_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"srsd/internal/receive"
	"srsd/internal/sender"
	"srsd/spf"
)

// Each result is answered as the policy says.
func TestSenderPolicy(t *testing.T) {
	results := map[spf.Result]string{ // the codes of a refusal, RFC 7372
		spf.Fail: "7.23", spf.SoftFail: "7.23", spf.Neutral: "7.23", spf.None: "7.23", spf.PermError: "7.24", spf.TempError: "7.24",
	}
	byDefault := map[spf.Result]string{
		spf.Fail: "550 5.7.23", spf.TempError: "451 4.4.3", spf.SoftFail: "250", spf.Neutral: "250", spf.None: "250", spf.PermError: "250", spf.Pass: "250",
	}
	for action, class := range map[sender.Action]string{"": "", sender.Reject: "550 5.", sender.Defer: "451 4.", sender.Mark: "250"} {
		actions := map[spf.Result]sender.Action{}
		for r := range results {
			if action != "" {
				actions[r] = action
			}
		}
		b := start(t, func(c *receive.Config) { c.Policy.Sender.Actions = actions })
		for r, want := range byDefault {
			b.spf[string(r)+".example"] = spf.Outcome{Result: r, Reason: "because"}
			if code := results[r]; action != "" && r != spf.Pass {
				want = class
				switch {
				case r == spf.TempError && action == sender.Defer:
					want += "4.3"
				case action != sender.Mark:
					want += code
				}
			}
			p := b.open(t)
			p.do("MAIL FROM:<x@"+string(r)+".example>", want)
			p.Close()
		}
	}
}

func TestTheDomainExplainsItsFail(t *testing.T) {
	b := start(t)
	b.spf["deny.example"] = spf.Outcome{Result: spf.Fail, Explanation: "127.0.0.1 may not\r\nX-Injected: yes\x00" + strings.Repeat("!", 600)}
	got := b.open(t).do("MAIL FROM:<x@deny.example>", "550 5.7.23 SPF fail; deny.example explains: 127.0.0.1 may not")
	if strings.Contains(got, "\n") || len(got) > 510 {
		t.Errorf("%d octets: %q", len(got), got)
	}
}

// What passes is marked.
func TestResultsAreMarked(t *testing.T) {
	b := start(t)
	b.spf["soft.example"] = spf.Outcome{Result: spf.SoftFail, Reason: "because"}
	p := b.open(t)
	p.envelope("x@soft.example", "jo@alumni.example")
	p.data(hello)
	m := b.last(t)
	if head := m.header(hello); m.SPF != "softfail" || !strings.Contains(head, "Received-SPF: softfail ") || !strings.Contains(head, "spf=softfail smtp.mailfrom=x@soft.example") {
		t.Errorf("%s: %s", m.SPF, head)
	}
}

// The null reverse-path is judged by the HELO name.
func TestHELOStandsForTheNullReversePath(t *testing.T) {
	b := start(t)
	b.spf["bad.example"] = spf.Outcome{Result: spf.Fail}
	p := dial(t, b.addr, "")
	p.want("220")
	p.do("EHLO bad.example", "250")
	p.do("MAIL FROM:<ann@sender.example>", "250") // not checked where there is a reverse-path
	p.do("RSET", "250")
	p.do("MAIL FROM:<>", "550 5.7.23")
	p.do("EHLO good.example", "250")
	p.do("MAIL FROM:<>", "250")
	p.do("RCPT TO:<jo@alumni.example>", "250")
	p.data(hello)
	if head := b.last(t).header(hello); !strings.Contains(head, "spf=pass smtp.helo=good.example") || !strings.Contains(head, "identity=helo") {
		t.Error(head)
	}

	b = start(t, func(c *receive.Config) { c.Policy.Sender.AlwaysHELO = true })
	b.spf["bad.example"] = spf.Outcome{Result: spf.Fail}
	p = dial(t, b.addr, "")
	p.want("220")
	p.do("EHLO bad.example", "250")
	p.do("MAIL FROM:<ann@sender.example>", "550 5.7.23")
}

// An address literal is no pvalue of RFC 8601 unless it is quoted.
func TestAddressLiteralsAreQuotedInResults(t *testing.T) {
	b := start(t)
	p := dial(t, b.addr, "")
	p.want("220")
	p.do("EHLO [127.0.0.1]", "250")
	p.envelope("", "jo@alumni.example")
	p.data(hello)
	if head := b.last(t).header(hello); !strings.Contains(head, ` smtp.helo="[127.0.0.1]"`) {
		t.Error(head)
	}
	p.envelope(`"a\"b"@[192.0.2.1]`, "jo@alumni.example")
	p.data(hello)
	if head := b.last(t).header(hello); !strings.Contains(head, ` smtp.mailfrom="\"a\\\"b\"@[192.0.2.1]"`) {
		t.Error(head)
	}
}

// Networks that are skipped; and with it the shape of a trace that judges nothing.
func TestSkippedNetworksAreNotChecked(t *testing.T) {
	b := start(t, func(c *receive.Config) {
		c.Policy.Sender.SkipNetworks = []netip.Prefix{netip.MustParsePrefix("127.77.5.0/24")}
	})
	b.spf["deny.example"] = spf.Outcome{Result: spf.Fail}
	p := b.openFrom(t, "127.77.5.1")
	p.envelope("x@deny.example", "jo@alumni.example")
	p.data(hello)
	if m := b.last(t); m.SPF != "none" || !strings.HasPrefix(m.text, "Authentication-Results: mx.alumni.example; none\r\nReceived: ") {
		t.Errorf("%s: %s", m.SPF, m.header(hello))
	}
	b.openFrom(t, "127.77.6.1").do("MAIL FROM:<x@deny.example>", "550")
}

func TestTrustedForwardersBringAnybodysMail(t *testing.T) {
	b := start(t, func(c *receive.Config) {
		c.Policy.Sender.TrustedForwarders = []string{"other.example", "forwarder.example"}
	})
	b.spf["deny.example"] = spf.Outcome{Result: spf.Fail}
	b.spf["other.example"] = spf.Outcome{Result: spf.Fail}
	p := b.open(t)
	p.envelope("x@deny.example", "jo@alumni.example")
	p.data(hello)
	if m := b.last(t); m.SPF != "none" || !strings.Contains(m.text, "spf=none (fail, but brought by a trusted forwarder, forwarder.example)") {
		t.Errorf("%s: %s", m.SPF, m.header(hello))
	}
	b.spf["forwarder.example"] = spf.Outcome{Result: spf.SoftFail}
	p.do("MAIL FROM:<x@deny.example>", "550")
}

// What is said about the reverse-path is not said about the HELO name.
func TestTheNoteStandsAtItsCheck(t *testing.T) {
	b := start(t, func(c *receive.Config) {
		c.Policy.Sender.TrustedForwarders = []string{"forwarder.example"}
		c.Policy.Sender.AlwaysHELO = true
	})
	b.spf["deny.example"] = spf.Outcome{Result: spf.Fail}
	p := b.open(t)
	p.envelope("x@deny.example", "jo@alumni.example")
	p.data(hello)
	if head := b.last(t).header(hello); !strings.Contains(head, "spf=pass smtp.helo=client.example") || strings.Count(head, "spf=none (fail, but brought") != 1 {
		t.Error(head)
	}
}

// The first message of a session does not decide about the next.
func TestEachMessageIsChecked(t *testing.T) {
	b := start(t)
	b.spf["deny.example"] = spf.Outcome{Result: spf.Fail}
	p := b.open(t)
	p.send(hello)
	p.do("MAIL FROM:<x@deny.example>", "550")
	if got := p.send(hello); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
}

func TestOutcomesAreCachedWhileTheyHold(t *testing.T) {
	now := time.Now()
	b := start(t, func(c *receive.Config) { c.Now = func() time.Time { return now } })
	b.spf["kept.example"] = spf.Outcome{Result: spf.Pass, TTL: time.Minute}
	b.spf["personal.example"] = spf.Outcome{Result: spf.Pass, TTL: time.Minute, Personal: true}
	b.spf["fleeting.example"] = spf.Outcome{Result: spf.Pass}
	ask := func(domain string, want int32) {
		t.Helper()
		before := b.checks.Load()
		p := b.open(t)
		for range 3 {
			p.do("MAIL FROM:<x@"+domain+">", "250")
			p.do("RSET", "250")
		}
		if n := b.checks.Load() - before; n != want {
			t.Errorf("%s: %d checks, want %d", domain, n, want)
		}
		p.Close()
	}
	ask("kept.example", 1)
	ask("KEPT.example", 0)
	ask("personal.example", 3)
	ask("fleeting.example", 3)
	now = now.Add(2 * time.Minute)
	ask("kept.example", 1)
}

// zone is a Resolver that knows a few names.
type zone struct {
	addrs map[string][]string
	ptr   []string
	err   error
}

func (z zone) Addr(_ context.Context, name string, v6 bool) ([]netip.Addr, spf.Meta, error) {
	var out []netip.Addr
	for _, a := range z.addrs[name] {
		if ip := netip.MustParseAddr(a); ip.Is6() == v6 {
			out = append(out, ip)
		}
	}
	return out, spf.Meta{NXDomain: len(out) == 0}, z.err
}

func (z zone) PTR(context.Context, netip.Addr) ([]string, spf.Meta, error) {
	return z.ptr, spf.Meta{}, z.err
}

func TestBlockLists(t *testing.T) {
	for what, c := range map[string]struct {
		addrs  map[string][]string
		err    error
		action sender.Action
		want   string
	}{
		"listed":              {map[string][]string{"9.0.77.127.bl.example": {"127.0.0.2"}}, nil, "", "554 5.7.1"},
		"listed, defer":       {map[string][]string{"9.0.77.127.bl.example": {"127.0.0.2"}}, nil, sender.Defer, "451 4.7.1"},
		"listed, mark":        {map[string][]string{"9.0.77.127.bl.example": {"127.0.0.2"}}, nil, sender.Mark, "250"},
		"listed, allowed":     {map[string][]string{"9.0.77.127.bl.example": {"127.0.0.2"}, "9.0.77.127.wl.example": {"127.0.5.1"}}, nil, "", "250"},
		"not listed":          {nil, nil, "", "250"},
		"the list is sulking": {map[string][]string{"9.0.77.127.bl.example": {"127.255.255.254"}}, nil, "", "250"},
		"a parked domain":     {map[string][]string{"9.0.77.127.bl.example": {"192.0.2.1"}}, nil, "", "250"},
		"DNS trouble":         {map[string][]string{"9.0.77.127.bl.example": {"127.0.0.2"}}, errors.New("SERVFAIL"), "", "250"},
	} {
		b := start(t, func(cfg *receive.Config) {
			cfg.Resolver = zone{addrs: c.addrs, err: c.err}
			cfg.Policy.BlockLists = []receive.List{{Zone: "bl.example", Action: c.action}}
			cfg.Policy.AllowLists = []string{"wl.example"}
		})
		p := b.openFrom(t, "127.77.0.9")
		p.envelope("ann@sender.example", "postmaster")
		p.say("RCPT TO:<jo@alumni.example>")
		if got := p.reply(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s", what, got)
		}
		if c.action == sender.Mark {
			p.data(hello)
			if head := b.last(t).header(hello); !strings.Contains(head, "dnsbl=fail dns.zone=bl.example") {
				t.Errorf("%s: %s", what, head)
			}
		}
	}
}

func TestReverseNamesAreConfirmed(t *testing.T) {
	forged := []string{"a)\r\nX: y.example.", "[127.77.0.9]", "other.example.", "bücher.example."}
	for what, c := range map[string]struct {
		z    zone
		want string
	}{
		"confirmed": {zone{ptr: []string{"host.example."}, addrs: map[string][]string{"host.example": {"127.77.0.9"}}}, "(host.example [127.77.0.9])"},
		"the third": {zone{ptr: []string{"a.example", "b.example", "host.example"}, addrs: map[string][]string{"host.example": {"127.77.0.9"}}}, "(host.example [127.77.0.9])"},
		"another's": {zone{ptr: []string{"host.example."}, addrs: map[string][]string{"host.example": {"127.77.0.10"}}}, "([127.77.0.9])"},
		"hostile":   {zone{ptr: forged, addrs: map[string][]string{"a)\r\nX: y.example": {"127.77.0.9"}, "bücher.example": {"127.77.0.9"}, "[127.77.0.9]": {"127.77.0.9"}}}, "([127.77.0.9])"},
		"trouble":   {zone{err: errors.New("SERVFAIL")}, "([127.77.0.9])"},
	} {
		b := start(t, func(cfg *receive.Config) { cfg.Resolver, cfg.Policy.ReverseNames = c.z, true })
		p := b.openFrom(t, "127.77.0.9")
		p.send(hello)
		if head := b.last(t).header(hello); !strings.Contains(head, "from client.example "+c.want+"\r\n") {
			t.Errorf("%s: %s", what, head)
		}
	}
}
