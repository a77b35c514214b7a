package forward

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"srsd/envelope"
	"srsd/srs"
)

// A stub rewrites in the open: it shows what was rewritten where.
type stub string

func (d stub) Forward(address string) (string, error) {
	switch {
	case strings.HasPrefix(address, "long"):
		return "", fmt.Errorf("%w: long", srs.ErrTooLong)
	case strings.HasPrefix(address, "broken"):
		return "", srs.ErrConfig
	}
	local, domain, _ := strings.Cut(address, "@")
	return "SRS0=h=tt=" + domain + "=" + local + "@" + string(d), nil
}

func (d stub) Reverse(address string) (string, error) {
	local, _, _ := strings.Cut(address, "@")
	fields := strings.Split(local, "=")
	if !srs.IsSRS(local) {
		return "", srs.ErrNotSRS
	}
	if len(fields) != 5 {
		return "", srs.ErrSyntax
	}
	for word, err := range map[string]error{"bad": srs.ErrHash, "old": srs.ErrExpired, "new": srs.ErrFuture, "token": srs.ErrToken, "odd": srs.ErrConfig} {
		if fields[1] == word {
			return "", fmt.Errorf("%w: for the test", err)
		}
	}
	if fields[1] == "own" {
		return "SRS0=h=tt=sender.example=ann@" + fields[3], nil
	}
	return fields[4] + "@" + fields[3], nil
}

type kept map[string]string

func (k kept) Keep(_ context.Context, domain, sender string) (string, error) {
	if k == nil {
		return "", errors.New("the store is closed")
	}
	address := "SRS0=token=tt=k=1@" + domain
	k[address] = sender
	return address, nil
}

func (k kept) Recall(_ context.Context, address string) (string, error) {
	if k == nil {
		return "", errors.New("the store is closed")
	}
	if sender, ok := k[address]; ok {
		return sender, nil
	}
	return "", srs.ErrExpired
}

func router(t *testing.T, files ...string) *Router {
	return &Router{
		Table: load(t, `jo@alumni.example: jo.private@target.example
club@club.example: jo@alumni.example, kim@target.example
list@alumni.example: m1@target.example
owner-list@alumni.example: jo.private@target.example
gone@alumni.example: :fail: 551 5.1.6 moved
hole@alumni.example: :blackhole:
postmaster@club.example: gone@alumni.example
jump@alumni.example: jo@alumni.example
`, files...),
		SRS: map[string]Rewriter{
			"srs.alumni.example": stub("srs.alumni.example"), "srs.club.example": stub("srs.club.example"), "retired.example": stub("retired.example"),
		},
		SRSDomain: func(domain string) string {
			if domain == "club.example" {
				return "srs.club.example"
			}
			return "srs.alumni.example"
		},
		AllowFrom: []envelope.Address{envelope.MustParse("probe@monitor.example")},
		Keeper:    kept{"SRS0=token=tt=k=9@srs.alumni.example": "a.very.long.sender@sender.example"},
	}
}

// decided is a decision in words.
func decided(d Decision) string {
	if d.Kind == Refused {
		s := d.Reply.String()
		if d.Forged {
			s += " (forged)"
		}
		return s
	}
	s := string(d.Kind)
	for _, r := range d.Routes {
		s += fmt.Sprintf("; %v to %v from %v", r.Alias, r.Target, r.ReversePath.Path())
		if r.Return {
			s += " home"
		}
	}
	return s
}

const ann = "ann@sender.example"

var routes = []struct{ from, rcpt, want string }{
	{ann, "jo@alumni.example", "alias; jo@alumni.example to jo.private@target.example from <SRS0=h=tt=sender.example=ann@srs.alumni.example>"},
	{ann, "JO@Alumni.example", "alias; JO@Alumni.example to jo.private@target.example from <SRS0=h=tt=sender.example=ann@srs.alumni.example>"},
	{ann, "club@club.example", "alias; club@club.example to jo.private@target.example from <SRS0=h=tt=sender.example=ann@srs.club.example>; " +
		"club@club.example to kim@target.example from <SRS0=h=tt=sender.example=ann@srs.club.example>"},
	{"", "jo@alumni.example", "alias; jo@alumni.example to jo.private@target.example from <>"},
	{"kim@CLUB.example", "jo@alumni.example", "alias; jo@alumni.example to jo.private@target.example from <kim@CLUB.example>"},
	{"SRS0=h=tt=sender.example=ann@srs.club.example", "jo@alumni.example", "alias; jo@alumni.example to jo.private@target.example from <SRS0=h=tt=sender.example=ann@srs.club.example>"},
	{"fail@sender.example", "jo@alumni.example", "alias; jo@alumni.example to jo.private@target.example from <fail@sender.example>"},
	{ann, "list@alumni.example", "alias; list@alumni.example to m1@target.example from <owner-list@alumni.example>"},
	{"", "list@alumni.example", "alias; list@alumni.example to m1@target.example from <>"},
	{"long@sender.example", "jo@alumni.example", "alias; jo@alumni.example to jo.private@target.example from <SRS0=token=tt=k=1@srs.alumni.example>"},
	{"broken@sender.example", "jo@alumni.example", "451 4.3.0 temporary failure, try again later"},

	{ann, "nobody@alumni.example", "550 5.1.1 no such address here"},
	{ann, "gone@alumni.example", "551 5.1.6 moved"},
	{ann, "hole@alumni.example", "discard"},
	{ann, "u@evil.example", "550 5.7.1 relaying denied: this domain is not served here"},
	{ann, "jo@sub.alumni.example", "550 5.7.1 relaying denied: this domain is not served here"},
	{ann, "jo@[127.0.0.1]", "550 5.7.1 relaying denied: this domain is not served here"},
	{ann, "u%evil.example@alumni.example", "550 5.1.1 no such address here"},
	{ann, `"u@evil.example"@alumni.example`, "550 5.1.1 no such address here"},
	{"", "SRS0=h=tt=sender.example=ann@alumni.example", "550 5.1.1 no such address here"},
	{"", "SRS0=h=tt=sender.example=ann@srs.elsewhere.example", "550 5.7.1 relaying denied: this domain is not served here"},

	{ann, "postmaster", "postmaster; postmaster to root@target.example from <SRS0=h=tt=sender.example=ann@srs.alumni.example>"},
	{ann, "Postmaster@alumni.example", "postmaster; Postmaster@alumni.example to root@target.example from <SRS0=h=tt=sender.example=ann@srs.alumni.example>"},
	{ann, "postmaster@srs.club.example", "postmaster; postmaster@srs.club.example to root@target.example from <SRS0=h=tt=sender.example=ann@srs.club.example>"},
	{ann, "postmaster@club.example", "postmaster; postmaster@club.example to root@target.example from <SRS0=h=tt=sender.example=ann@srs.club.example>"},
	{ann, "postmaster@evil.example", "550 5.7.1 relaying denied: this domain is not served here"},

	{"", "SRS0=h=tt=sender.example=ann@srs.alumni.example", "srs; SRS0=h=tt=sender.example=ann@srs.alumni.example to ann@sender.example from <> home"},
	{"", "srs0=h=tt=sender.example=ann@SRS.Alumni.Example", "srs; srs0=h=tt=sender.example=ann@SRS.Alumni.Example to ann@sender.example from <> home"},
	{"", "SRS0=h=tt=sender.example=ann@retired.example", "srs; SRS0=h=tt=sender.example=ann@retired.example to ann@sender.example from <> home"},
	{"Probe@monitor.example", "SRS0=h=tt=sender.example=ann@srs.alumni.example", "srs; SRS0=h=tt=sender.example=ann@srs.alumni.example to ann@sender.example from <> home"},
	{ann, "SRS0=h=tt=sender.example=ann@srs.alumni.example", "550 5.7.1 this address takes only bounces, which come from the null reverse-path <>: write to the sender of the message"},
	{"", "SRS0=bad=tt=sender.example=ann@srs.alumni.example", "550 5.1.1 no such address here: it is no bounce address of ours, or it has expired (forged)"},
	{ann, "SRS0=bad=tt=sender.example=ann@srs.alumni.example", "550 5.1.1 no such address here: it is no bounce address of ours, or it has expired (forged)"},
	{"", "SRS0=old=tt=sender.example=ann@srs.alumni.example", "550 5.1.1 no such address here: it is no bounce address of ours, or it has expired (forged)"},
	{"", "SRS0=new=tt=sender.example=ann@srs.alumni.example", "550 5.1.1 no such address here: it is no bounce address of ours, or it has expired (forged)"},
	{"", "SRS0=@srs.alumni.example", "550 5.1.1 no such address here: it is no bounce address of ours, or it has expired (forged)"},
	{"", "SRS0=h=tt=sender.example=@srs.alumni.example", "550 5.1.1 no such address here: it is no bounce address of ours, or it has expired (forged)"},
	{"", "SRS0=odd=tt=sender.example=ann@srs.alumni.example", "451 4.3.0 temporary failure, try again later"},
	{"", "someone@srs.alumni.example", "550 5.1.1 no such address here"},
	{"", "jo@srs.alumni.example", "550 5.1.1 no such address here"},
	{"", "SRS0=token=tt=k=9@srs.alumni.example", "srs; SRS0=token=tt=k=9@srs.alumni.example to a.very.long.sender@sender.example from <> home"},
	{"", "SRS0=token=tt=k=8@srs.alumni.example", "550 5.1.1 no such address here: it is no bounce address of ours, or it has expired (forged)"},

	// Home is here: a sender in a domain of ours, and an address inside another.
	{"", "SRS0=h=tt=alumni.example=jump@srs.club.example", "alias; SRS0=h=tt=alumni.example=jump@srs.club.example to jo.private@target.example from <>"},
	{"probe@monitor.example", "SRS0=h=tt=alumni.example=jump@srs.club.example", "alias; SRS0=h=tt=alumni.example=jump@srs.club.example to jo.private@target.example from <>"},
	{"", "SRS0=h=tt=alumni.example=nobody@srs.club.example", "550 5.1.1 no such address here"},
	{"", "SRS0=own=tt=srs.alumni.example=x@srs.club.example", "srs; SRS0=own=tt=srs.alumni.example=x@srs.club.example to ann@sender.example from <> home"},
}

func TestRoute(t *testing.T) {
	r := router(t)
	for _, c := range routes {
		req := Request{ReversePath: envelope.MustParse(c.from), Recipient: envelope.MustParse(c.rcpt), SPF: "pass"}
		if strings.HasPrefix(c.from, "fail@") {
			req.SPF = "fail"
		}
		got := r.Route(t.Context(), req)
		if diff := cmp.Diff(c.want, decided(got)); diff != "" {
			t.Errorf("%s from <%s> (-want +got)\n%s", c.rcpt, c.from, diff)
		}
		if text := got.Reply.String(); strings.Contains(text, "target.example") {
			t.Errorf("%s: the reply names a target: %s", c.rcpt, text)
		}
	}
}

func TestRouteCarriesTheRequest(t *testing.T) {
	r := router(t)
	req := Request{
		ReversePath: envelope.MustParse(ann), Recipient: envelope.MustParse("club@club.example"), SPF: "none",
		Notify: envelope.NotifyFailure | envelope.NotifyDelay, Original: "rfc822;club@club.example",
	}
	d := r.Route(t.Context(), req)
	if len(d.Routes) != 2 {
		t.Fatal(decided(d))
	}
	for i, route := range d.Routes {
		if route.Notify != req.Notify || route.Original != req.Original {
			t.Errorf("%d: %+v", i, route)
		}
	}
	if via := d.Routes[0].Via; len(via) != 1 || via[0].String() != "jo@alumni.example" {
		t.Errorf("via %v", via)
	}
}

func TestKeeperTrouble(t *testing.T) {
	r := router(t)
	long := Request{ReversePath: envelope.MustParse("long@sender.example"), Recipient: envelope.MustParse("jo@alumni.example")}
	token := Request{Recipient: envelope.MustParse("SRS0=token=tt=k=9@srs.alumni.example")}
	r.Keeper = kept(nil)
	for _, req := range []Request{long, token} {
		if got := decided(r.Route(t.Context(), req)); got != "451 4.3.0 temporary failure, try again later" {
			t.Errorf("a store in trouble: %s", got)
		}
	}
	r.Keeper = nil
	if got := decided(r.Route(t.Context(), long)); !strings.HasSuffix(got, "from <long@sender.example>") {
		t.Errorf("without a keeper: %s", got)
	}
	if got := r.Route(t.Context(), token); got.Kind != Refused || !got.Reply.Temporary() {
		t.Errorf("a token that nobody can look up: %s", decided(got))
	}
}

func TestSRSAddressesInOneAnother(t *testing.T) {
	r := router(t)
	r.SRS = map[string]Rewriter{"a.example": round("b.example"), "b.example": round("a.example")}
	got := r.Route(t.Context(), Request{Recipient: envelope.MustParse("SRS0=x@a.example")})
	if got.Kind != Refused || !got.Forged {
		t.Error(decided(got))
	}
}

// round reverses to the other's domain for ever.
type round string

func (d round) Forward(address string) (string, error) { return address, nil }
func (d round) Reverse(string) (string, error)         { return "SRS0=x@" + string(d), nil }
