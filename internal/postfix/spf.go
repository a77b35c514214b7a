package postfix

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"srsd/envelope"
	"srsd/spf"
)

// A verdict is what SPF says about a client and its sender.
type verdict struct {
	result spf.Result     // for the reverse-path; None where nothing was checked
	reply  envelope.Reply // zero: the sender may pass
	header string         // the body of Received-SPF, folded with CRLF; "" where nothing was checked
}

// judge asks SPF about the reverse-path, or about the HELO name where that is
// null (RFC 7208, section 2.4), and says what follows, as the relay does.
func (r *rules) judge(ctx context.Context, ip netip.Addr, helo, from string) verdict {
	if r.SPF == nil || !ip.IsValid() || r.skips(ip) {
		return verdict{result: spf.None}
	}
	if r.Sender.AlwaysHELO && from != "" {
		if o := r.SPF.Check(ctx, ip, helo, ""); o.Result == spf.Fail && r.Sender.action(spf.Fail) != Mark {
			return r.verdict(o, ip, helo, from)
		}
	}
	o := r.SPF.Check(ctx, ip, helo, from)
	if o.Result == spf.Fail || o.Result == spf.SoftFail {
		if domain := r.trusted(ctx, ip, helo); domain != "" {
			o.Reason = fmt.Sprintf("%s, but brought by a trusted forwarder, %s", o.Result, domain)
			o.Result = spf.None
		}
	}
	return r.verdict(o, ip, helo, from)
}

func (r *rules) skips(ip netip.Addr) bool {
	for _, n := range r.Sender.SkipNetworks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// trusted is the trusted forwarder whose host the client is, "" where it is
// none's.
func (r *rules) trusted(ctx context.Context, ip netip.Addr, helo string) string {
	for _, domain := range r.Sender.TrustedForwarders {
		if r.SPF.Check(ctx, ip, helo, "postmaster@"+domain).Result == spf.Pass {
			return domain
		}
	}
	return ""
}

func (p SenderPolicy) action(result spf.Result) Action {
	if a, ok := p.Actions[result]; ok {
		return a
	}
	return Mark
}

// verdict adds to an outcome what follows from it, with the codes of RFC 7372,
// section 3.2.
func (r *rules) verdict(o spf.Outcome, ip netip.Addr, helo, from string) verdict {
	v := verdict{result: o.Result, header: o.ReceivedSPF(r.Hostname, ip, helo, from)}
	action := r.Sender.action(o.Result)
	if action == Mark || o.Result == spf.Pass {
		return v
	}
	code, enhanced := 550, envelope.EnhancedCode{5, 7, 23}
	if o.Result == spf.TempError || o.Result == spf.PermError {
		enhanced[2] = 24
	}
	if action == Defer {
		code, enhanced[0] = 451, 4
		if o.Result == spf.TempError {
			enhanced = envelope.EnhancedCode{4, 4, 3} // the trouble is the DNS
		}
	}
	text := fmt.Sprintf("SPF says %s for %s and %s", o.Result, ip, printable(o.Domain))
	switch {
	case o.Explanation != "":
		text = fmt.Sprintf("SPF %s; %s explains: %s", o.Result, printable(o.Domain), printable(o.Explanation))
	case o.Result != spf.Fail && o.Reason != "":
		text += ": " + printable(o.Reason)
	}
	v.reply = envelope.NewReply(code, enhanced, "%s", text)
	return v
}

// printable is a stranger's text as one short line of printable ASCII. Postfix
// hands a milter's % on to a format, and so it may not stand alone there.
func printable(s string) string {
	const most = 350
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// unfolded is a folded header body as one line.
func unfolded(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
