package postfix

import (
	"strings"
	"testing"
)

// request asks the policy service and returns its action.
func (c *client) request(attributes ...string) string {
	c.t.Helper()
	c.write("request=smtpd_access_policy\n" + strings.Join(attributes, "\n") + "\n\n")
	action := c.line()
	if empty := c.line(); empty != "" && action != "(closed)" {
		c.t.Errorf("behind %q stands %q", action, empty)
	}
	return action
}

func TestPolicy(t *testing.T) {
	_, addr := serve(t, settings(t), Policy)
	c := dial(t, addr)
	ann := rewritten(t, srsDomain, "ann@sender.example")
	rcpt := func(sender, recipient string, more ...string) []string {
		return append([]string{"protocol_state=RCPT", "client_address=192.0.2.1", "helo_name=mx.sender.example",
			"sender=" + sender, "recipient=" + recipient, "unknown_attribute=x=y"}, more...)
	}
	for _, x := range []struct {
		name string
		ask  []string
		want string // the beginning
	}{
		{"pass", rcpt("pass@sender.example", "jo@alumni.example", "instance=1"), "action=PREPEND Received-SPF: pass ("},
		{"its next recipient", rcpt("pass@sender.example", "mix@alumni.example", "instance=1"), "action=DUNNO"},
		{"the next message", rcpt("pass@sender.example", "jo@alumni.example", "instance=2"), "action=PREPEND Received-SPF: pass ("},
		{"no instance", rcpt("pass@sender.example", "jo@alumni.example"), "action=PREPEND Received-SPF: pass ("},
		{"none", rcpt("ann@sender.example", "jo@alumni.example", "instance=3"), "action=PREPEND Received-SPF: none ("},
		{"fail", rcpt("fail@sender.example", "jo@alumni.example", "instance=4"), "action=550 5.7.23 SPF fail; sender.example explains: see 100% of it"},
		{"fail, again", rcpt("fail@sender.example", "mix@alumni.example", "instance=4"), "action=550 5.7.23 SPF fail"},
		{"temperror", rcpt("temperror@sender.example", "jo@alumni.example", "instance=5"), "action=451 4.4.3 SPF says temperror for 192.0.2.1 and sender.example"},
		{"logged in", rcpt("fail@sender.example", "jo@alumni.example", "instance=6", "sasl_username=jo"), "action=DUNNO"},
		{"at DATA", []string{"protocol_state=DATA", "sender=fail@sender.example"}, "action=DUNNO"},
		{"at MAIL", []string{"protocol_state=MAIL", "client_address=192.0.2.1", "sender=fail@sender.example"}, "action=550 5.7.23"},
		{"no address", []string{"protocol_state=RCPT", "client_address=unknown", "sender=fail@sender.example"}, "action=DUNNO"},
		{"a bounce", rcpt("", ann, "instance=7"), "action=PREPEND Received-SPF: none ("},
		{"a probe", rcpt("probe@remote.example", ann, "instance=8"), "action=PREPEND"},
		{"forged", rcpt("", strings.Replace(ann, "ann", "bob", 1)), "action=550 5.1.1 "},
		{"harvested", rcpt("spam@spam.example", ann), "action=550 5.7.1 this address takes only bounces"},
		{"harvested, logged in", rcpt("jo@alumni.example", ann, "sasl_username=jo"), "action=550 5.7.1 "},
		{"harvested, odd sender", rcpt("a b", ann), "action=550 5.7.1 "},
		{"another's SRS address", rcpt("ann@sender.example", "SRS0=a=b=c=d@hop.example", "instance=9"), "action=PREPEND"},
		{"postmaster there", rcpt("ann@sender.example", "postmaster@"+srsDomain, "instance=10"), "action=PREPEND"},
	} {
		if got := c.request(x.ask...); !strings.HasPrefix(got, x.want) {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
	}
}

// TestSenderPolicy shows the settings of SPF that need more than one check.
func TestSenderPolicy(t *testing.T) {
	s := settings(t)
	s.Sender.AlwaysHELO = true
	s.Sender.TrustedForwarders = []string{"trusted.example"}
	s.Sender.SkipNetworks = networks("192.0.2.128/25")
	_, addr := serve(t, s, Policy)
	c := dial(t, addr)
	for _, x := range [][4]string{
		{"192.0.2.1", "fail.example", "pass@sender.example", "action=550 5.7.23 SPF fail; fail.example"},
		{"192.0.2.1", "mx.example", "pass@sender.example", "action=PREPEND Received-SPF: pass"},
		{"192.0.2.200", "fail.example", "fail@sender.example", "action=DUNNO"},
		{"192.0.2.77", "mx.example", "fail@sender.example", "action=PREPEND Received-SPF: none"},
		{"192.0.2.78", "mx.example", "softfail@sender.example", "action=PREPEND Received-SPF: softfail"},
		{"::ffff:192.0.2.200", "mx.example", "fail@sender.example", "action=DUNNO"},
	} {
		got := c.request("protocol_state=RCPT", "client_address="+x[0], "helo_name="+x[1], "sender="+x[2], "recipient=jo@alumni.example")
		if !strings.HasPrefix(got, x[3]) {
			t.Errorf("%v: %q", x, got)
		}
	}
}
