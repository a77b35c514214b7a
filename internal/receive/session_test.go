package receive_test

import (
	"context"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"srsd/envelope"
	"srsd/internal/receive"
	"srsd/spf"
)

func TestAMessagePasses(t *testing.T) {
	b := start(t)
	p := b.open(t)
	if got := p.send(hello); !strings.HasPrefix(got, "250 2.0.0") {
		t.Fatal(got)
	}
	m := b.last(t)
	if !strings.HasSuffix(m.text, hello) {
		t.Errorf("the text changed: %q", m.text)
	}
	if m.Size != int64(len(m.text)) || !m.Received.After(m.Received.Add(-1)) || len(m.ID) != 15 {
		t.Errorf("envelope: %+v", m.Message)
	}
	want := []envelope.Route{{
		Alias: envelope.MustParse("jo@alumni.example"), Target: envelope.MustParse("jo@target.example"),
		ReversePath: envelope.MustParse("ann@sender.example"),
	}}
	if d := cmp.Diff(want, m.Routes, cmp.Comparer(func(a, b envelope.Address) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if m.ReversePath.String() != "ann@sender.example" || m.SPF != "pass" || m.Client.HELO != "client.example" || !m.Client.IP.IsLoopback() {
		t.Errorf("envelope: %+v", m.Message)
	}
	p.do("QUIT", "221")
}

func TestTheTraceStandsOnTop(t *testing.T) {
	b := start(t)
	p := b.openFrom(t, "127.77.0.9")
	p.send(hello)
	head := b.last(t).header(hello)
	for _, want := range []string{
		`\r\nReceived: from client\.example \(\[127\.77\.0\.9\]\)\r\n\tby mx\.alumni\.example with ESMTP id [0-9A-V]{15}\r\n\tfor <jo@alumni\.example>;\r\n\t\w{3}, \d\d \w{3} \d{4} `,
		`\r\nReceived-SPF: pass \(`,
		`^Authentication-Results: mx\.alumni\.example;\r\n\tspf=pass smtp\.mailfrom=ann@sender\.example\r\n`,
	} {
		if !regexp.MustCompile(want).MatchString(head) {
			t.Errorf("%s does not match\n%s", want, head)
		}
	}
	p.envelope("ann@sender.example", "jo@alumni.example", "two@alumni.example")
	p.data(hello)
	if head := b.last(t).header(hello); strings.Contains(head, "for <") {
		t.Errorf("several recipients are told of one another: %s", head)
	}
	p.do("HELO client.example", "250")
	p.send(hello)
	if head := b.last(t).header(hello); !strings.Contains(head, "with SMTP id") {
		t.Errorf("HELO: %s", head)
	}
}

func TestTheTraceOverTLS(t *testing.T) {
	config := certificate(t)
	b := start(t, func(c *receive.Config) { c.TLS = tlsFunc(config) })
	p := b.open(t)
	p.do("STARTTLS", "220")
	p.secure()
	p.do("MAIL FROM:<ann@sender.example>", "503")
	ehlo := p.do("EHLO client.example", "250")
	if strings.Contains(ehlo, "STARTTLS") || strings.Contains(ehlo, "CHUNKING") {
		t.Error(ehlo)
	}
	p.send(hello)
	if head := b.last(t).header(hello); !strings.Contains(head, "with ESMTPS (TLS 1.3 TLS_") {
		t.Errorf("trace: %s", head)
	}

	addr := b.listen(t, b.server.ServeTLS)
	p = dial(t, addr, "")
	p.secure()
	p.want("220")
	p.do("EHLO client.example", "250")
	p.send(hello)
	if head := b.last(t).header(hello); !strings.Contains(head, "with ESMTPS (TLS 1.3 TLS_") {
		t.Errorf("implicit TLS: %s", head)
	}
}

func TestTheTraceOverIPv6(t *testing.T) {
	b := start(t)
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("needs IPv6 on loopback")
	}
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(l) }()
	t.Cleanup(func() { l.Close(); <-done })
	b.addr = l.Addr().String()
	b.open(t).send(hello)
	if head := b.last(t).header(hello); !strings.Contains(head, "from client.example ([IPv6:::1])\r\n") || !strings.Contains(head, "client-ip=") {
		t.Error(head)
	}
}

// A sender that was checked is the sender that is sent.
func TestNestedMAILIsRefused(t *testing.T) {
	b := start(t)
	b.spf["deny.example"] = spf.Outcome{Result: spf.Fail}
	p := b.open(t)
	p.envelope("ann@sender.example", "jo@alumni.example")
	p.do("MAIL FROM:<x@deny.example>", "503")
	p.data(hello)
	if from := b.last(t).ReversePath.String(); from != "ann@sender.example" {
		t.Errorf("sent as %s", from)
	}
	p.do("MAIL FROM:<x@deny.example>", "550 5.7.23")
	p.do("RCPT TO:<jo@alumni.example>", "503")
}

func TestBarePostmaster(t *testing.T) {
	b := start(t)
	p := b.open(t)
	for _, to := range []string{"postmaster", "PostMaster", "postmaster@mx.alumni.example", "postmaster@alumni.example"} {
		p.envelope("ann@sender.example", to)
		p.data(hello)
		if m := b.last(t); m.Routes[0].Target.String() != "root@target.example" {
			t.Errorf("%s went to %s", to, m.Routes[0].Target)
		}
	}
	p.do("MAIL FROM:<>", "250")
	for _, to := range []string{"", "jo", "postmaster@evil.example"} {
		p.do("RCPT TO:<"+to+">", "5")
	}
}

func TestQuotingSurvives(t *testing.T) {
	b := start(t)
	p := b.open(t)
	p.envelope(`"x@y.example> SIZE=1 "@sender.example`, `"u> NOTIFY=NEVER "@alumni.example`)
	p.data(hello)
	m := b.last(t)
	if got := m.ReversePath.String(); got != `"x@y.example> SIZE=1 "@sender.example` {
		t.Errorf("reverse-path %s", got)
	}
	if got := m.Routes[0].Alias.String(); got != `"u> NOTIFY=NEVER "@alumni.example` || m.Routes[0].Notify != 0 {
		t.Errorf("recipient %s, notify %v", got, m.Routes[0].Notify)
	}
}

// What is not ASCII needs SMTPUTF8.
func TestSMTPUTF8(t *testing.T) {
	b := start(t)
	p := b.open(t)
	p.do("MAIL FROM:<jörg@sender.example>", "553 5.6.7")
	p.do("MAIL FROM:<a@sender.example>", "250")
	p.do("RCPT TO:<jö@alumni.example>", "553 5.6.7")
	p.do("RSET", "250")
	p.do("MAIL FROM:<jörg@sender.example> SMTPUTF8 BODY=8BITMIME", "250")
	p.do("RCPT TO:<jö@alumni.example>", "250")
	p.data(hello)
	m := b.last(t)
	if !m.UTF8 || !m.EightBit || m.Routes[0].Alias.Local() != "jö" {
		t.Errorf("%+v", m.Message)
	}
	if !strings.Contains(m.header(hello), "with UTF8SMTP ") {
		t.Error(m.header(hello))
	}
}

func TestDSNParametersTravel(t *testing.T) {
	b := start(t)
	p := b.open(t)
	p.do("MAIL FROM:<ann@sender.example> RET=HDRS ENVID=QQ314159+2B", "250")
	p.do("RCPT TO:<jo@alumni.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Btag@x.example", "250")
	p.data(hello)
	m := b.last(t)
	if m.Return != "HDRS" || m.EnvelopeID != "QQ314159+" {
		t.Errorf("%+v", m.Message)
	}
	if r := m.Routes[0]; r.Notify != envelope.NotifySuccess|envelope.NotifyDelay || r.Original != "rfc822;Bob+2Btag@x.example" {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{"NOTIFY=NEVER,SUCCESS", "NOTIFY=", "ORCPT=rfc822;a+00b", "ORCPT=x", "NOTIFY=NEVER NOTIFY=NEVER"} {
		p.do("MAIL FROM:<ann@sender.example>", "250")
		p.do("RCPT TO:<jo@alumni.example> "+bad, "501")
		p.do("RSET", "250")
	}
}

// A target that two recipients reach gets one copy.
func TestOneCopyForATarget(t *testing.T) {
	b := start(t)
	p := b.open(t)
	p.envelope("ann@sender.example", "jo@alumni.example", "JO@alumni.example", "two@alumni.example", "jo@alumni.example")
	p.data(hello)
	if m := b.last(t); len(m.Routes) != 2 {
		t.Errorf("%d routes: %v", len(m.Routes), m.Routes)
	}
}

func TestDiscardedIsAccepted(t *testing.T) {
	b := start(t)
	p := b.open(t)
	p.envelope("ann@sender.example", "hole@alumni.example")
	if got := p.data(hello); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	if len(b.all()) != 0 {
		t.Error("it was delivered")
	}
}

func TestTheAnswerIsTheDeliverers(t *testing.T) {
	b := start(t)
	answers := []envelope.Reply{
		envelope.NewReply(552, envelope.EnhancedCode{5, 2, 2}, "jo@alumni.example is full\nreally"),
		envelope.NewReply(451, envelope.EnhancedCode{}, "later \x1b[31m\xff"),
		{},
	}
	b.deliver = func(context.Context, envelope.Message, envelope.Body) envelope.Reply {
		r := answers[0]
		answers = answers[1:]
		return r
	}
	p := b.open(t)
	for _, want := range []string{"552-5.2.2 jo@alumni.example is full\r\n552 5.2.2 really", "451 4.0.0 later ?[31m?", "451 4.3.0"} {
		if got := p.send(hello); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAPanicEndsOneSessionOnly(t *testing.T) {
	b := start(t)
	b.deliver = func(context.Context, envelope.Message, envelope.Body) envelope.Reply { panic("a bug") }
	other, p := b.open(t), b.open(t)
	if got := p.send(hello); !strings.HasPrefix(got, "421") {
		t.Error(got)
	}
	if got := p.reply(); got != "" {
		t.Errorf("still open: %s", got)
	}
	b.deliver = nil
	if got := other.send(hello); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	eventually(t, "the panic is not in the log", func() bool { return strings.Contains(b.log.String(), "a bug") })
}
