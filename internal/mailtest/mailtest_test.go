package mailtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func newMX(t *testing.T, c MXConfig, script string) *MX {
	t.Helper()
	m, err := NewMX(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := m.Script(script); err != nil {
		t.Fatal(err)
	}
	return m
}

func talk(t *testing.T, m *MX, dialogue string) error {
	t.Helper()
	c, err := Dial(t.Context(), m.Addr(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Patience = time.Second
	return c.Run(dialogue)
}

func TestMessageIsRecordedToTheOctet(t *testing.T) {
	m := newMX(t, MXConfig{}, "")
	err := talk(t, m, `
S: 220 mx.target.example
C: EHLO origin.example
S: 250-SIZE
S: 250-PIPELINING
S: 250 mx.target.example
# pipelined
C: MAIL FROM:<"a>b"@origin.example> SIZE=100 BODY=8BITMIME
C: RCPT TO:<kim@target.example> NOTIFY=NEVER
C: RCPT TO:<lee@target.example>
C: DATA
S: 250
S: 250
S: 250
S: 354
| Subject: dots
|
| .one
| ..two
C> bare\nLF \x00\xff "quoted"\r\n
C: .
S: 250 2.0.0
C: QUIT
S: 221
S: closed
`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Wait(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "messages", got, []Message{{
		Client: "127.0.0.1", HELO: "origin.example",
		Mail:  `MAIL FROM:<"a>b"@origin.example> SIZE=100 BODY=8BITMIME`,
		Rcpts: []string{"RCPT TO:<kim@target.example> NOTIFY=NEVER", "RCPT TO:<lee@target.example>"},
		Data:  []byte("Subject: dots\r\n\r\n.one\r\n..two\r\nbare\nLF \x00\xff \"quoted\"\r\n"),
		Reply: "250 2.0.0 taken",
	}})
	check(t, "From", got[0].From(), `"a>b"@origin.example`)
	check(t, "To", got[0].To(), []string{"kim@target.example", "lee@target.example"})
	check(t, "sessions", m.Sessions(), 1)
	check(t, "commands", len(m.Commands()), 6)
}

const envelope = "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<a@b.example>\nS: 250\nC: RCPT TO:<kim@target.example>\nS: 250\nC: DATA\nS: 354\n| text\nC: .\n"

func TestScript(t *testing.T) {
	for _, c := range []struct{ what, script, dialogue string }{
		{"banner", "banner 554 5.3.2 closed", "S: 554 5.3.2 closed\nC: QUIT\nS: 221"},
		{"banner 421", "banner 421 4.3.2 busy", "S: 421\nS: closed"},
		{"drop", "ehlo drop", "S: 220\nC: EHLO x\nS: closed"},
		{"many lines", `ehlo 250 one\ntwo`, "S: 220\nC: EHLO x\nS: 250-one\nS: 250 two"},
		{"defer once, then accept", "dot 451 4.3.0 later\ndot 250 2.0.0 now",
			envelope + "S: 451 4.3.0\n" + strings.TrimPrefix(envelope, "S: 220\n") + "S: 250 2.0.0 now"},
		{"by address", "rcpt KIM@target.example 550 5.1.1 who\nrcpt 452 4.5.3 full", `S: 220
C: HELO x
S: 250
C: MAIL FROM:<>
S: 250
C: RCPT TO:<kim@target.example>
S: 550 5.1.1
C: RCPT TO:<lee@target.example>
S: 452`},
		{"the null reverse-path", "mail <> 550 5.7.1 no bounces", "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<>\nS: 550\nC: MAIL FROM:<a@b.example>\nS: 250"},
		{"delay", "mail wait 1ms 250 slowly\nmail wait 1ms", "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<>\nS: 250 slowly"},
		{"order of commands", "", "S: 220\nC: MAIL FROM:<>\nS: 503\nC: EHLO x\nS: 250\nC: RCPT TO:<x@y.example>\nS: 503\nC: DATA\nS: 503\nC: WHAT\nS: 500\nC: RSET\nS: 250\nC: NOOP\nS: 250"},
	} {
		if err := talk(t, newMX(t, MXConfig{}, c.script), c.dialogue); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestHang(t *testing.T) {
	m := newMX(t, MXConfig{}, "dot hang")
	c, err := Dial(t.Context(), m.Addr(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Patience = 50 * time.Millisecond
	if err := c.Run(envelope + "S: 250"); err == nil || !strings.Contains(err.Error(), "no reply within 50ms") {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if got, err := m.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || len(got) != 0 {
		t.Errorf("%d messages, %v", len(got), err)
	}
}

func TestRefusedAtTheDot(t *testing.T) {
	m := newMX(t, MXConfig{}, "dot 550 5.7.1 spam")
	if err := talk(t, m, envelope+"S: 550 5.7.1"); err != nil {
		t.Fatal(err)
	}
	check(t, "taken", len(m.Messages()), 0)
	check(t, "seen", len(m.All()), 1)
}

func TestSTARTTLS(t *testing.T) {
	cert, err := Certificate("mx.target.example", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	config := MXConfig{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}
	m := newMX(t, config, "")
	hello := "S: 220\nC: EHLO x\nS: 250-STARTTLS\nS: 250\nC: STARTTLS\nS: 220\n"
	if err := talk(t, m, hello+"TLS\n"+strings.TrimPrefix(envelope, "S: 220\n")+"S: 250"); err != nil {
		t.Fatal(err)
	}
	check(t, "encrypted", m.Messages()[0].TLS, true)
	m = newMX(t, config, "handshake drop")
	if err := talk(t, m, hello+"TLS"); err == nil {
		t.Error("a handshake with nobody")
	}
}

// A dialogue that does not go as written must say so.
func TestDialogueFails(t *testing.T) {
	m := newMX(t, MXConfig{}, "")
	for dialogue, want := range map[string]string{
		"S: 221":                            "line 1 of the dialogue: \"S: 221\": the server says \"220 mx.target.example ESMTP\"",
		"S: 220\nC: EHLO x\nS: 250-UNHEARD": "the server says",
		"S: 220\nC: QUIT\nS: 221\nS: 250":   "instead of a reply: EOF",
		"S: closed":                         "the server says",
		"HELO":                              "no step begins so",
		" S: 220":                           "no step begins so",
		"C> \\q":                            "no text in Go's syntax",
	} {
		if err := talk(t, m, dialogue); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", dialogue, err, want)
		}
	}
	for _, script := range []string{"dinner 250 ok", "rcpt", "rcpt a@b.example", "dot 99 x", "dot wait long 250 ok", "dot please"} {
		if err := m.Script(script); err == nil {
			t.Errorf("script %q is taken", script)
		}
	}
}

func ask(t *testing.T, d *DNS, network string, edns uint16, qtype uint16, name string) string {
	t.Helper()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	if edns > 0 {
		q.SetEdns0(edns, false)
	}
	c := dns.Client{Net: network, Timeout: 100 * time.Millisecond}
	m, _, err := c.Exchange(q, d.Addr())
	if err != nil {
		return "no answer"
	}
	var b bytes.Buffer
	fmt.Fprint(&b, dns.RcodeToString[m.Rcode])
	if m.Truncated {
		fmt.Fprint(&b, " truncated")
	}
	for _, rr := range append(m.Answer, m.Ns...) {
		fmt.Fprintf(&b, " %s %d %s", rr.Header().Name, rr.Header().Ttl, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return b.String()
}

func TestDNS(t *testing.T) {
	d, err := NewDNS(`
# comment
target.example    MX    10 mx.target.example
mx.target.example A     127.0.0.2
mx.target.example AAAA  ::1
o.example         TXT   v=spf1 -all; and so on
odd.example       TXT   "\x00\""
alias.example     CNAME O.example
loop.example      CNAME loop.example
2.0.0.127.in-addr.arpa PTR mx.target.example
half.example      SERVFAIL TXT
half.example      A     127.0.0.3
broken.example    REFUSED
gone.example      NXDOMAIN
silent.example    TIMEOUT A
deep.down.example A     127.0.0.4
$TTL 60
kept.example      A     127.0.0.5
long.example      TXT   ` + strings.Repeat("x", 700) + "\n")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	soa := " . 60 . . 0 0 0 0 60"
	for _, c := range []struct {
		qtype uint16
		name  string
		want  string
	}{
		{dns.TypeMX, "target.example", "NOERROR target.example. 0 10 mx.target.example."},
		{dns.TypeA, "MX.target.example", "NOERROR MX.target.example. 0 127.0.0.2"},
		{dns.TypeAAAA, "mx.target.example", "NOERROR mx.target.example. 0 ::1"},
		{dns.TypeTXT, "odd.example", `NOERROR odd.example. 0 "\000\""`},
		{dns.TypeTXT, "alias.example", `NOERROR alias.example. 0 O.example. O.example. 0 "v=spf1 -all; and so on"`},
		{dns.TypeCNAME, "alias.example", "NOERROR alias.example. 0 O.example."},
		{dns.TypeA, "loop.example", "SERVFAIL"},
		{dns.TypePTR, "2.0.0.127.in-addr.arpa", "NOERROR 2.0.0.127.in-addr.arpa. 0 mx.target.example."},
		{dns.TypeTXT, "half.example", "SERVFAIL"},
		{dns.TypeA, "half.example", "NOERROR half.example. 0 127.0.0.3"},
		{dns.TypeMX, "broken.example", "REFUSED"},
		{dns.TypeMX, "gone.example", "NXDOMAIN"},
		{dns.TypeA, "silent.example", "no answer"},
		{dns.TypeMX, "silent.example", "NOERROR" + soa},
		{dns.TypeA, "down.example", "NOERROR" + soa},
		{dns.TypeA, "kept.example", "NOERROR kept.example. 60 127.0.0.5"},
		{dns.TypeA, "absent.example", "NXDOMAIN" + soa},
	} {
		check(t, c.name, ask(t, d, "udp", 1232, c.qtype, c.name), c.want)
	}
	check(t, "UDP without EDNS0", ask(t, d, "udp", 0, dns.TypeTXT, "long.example"), "NOERROR truncated")
	check(t, "TCP", len(ask(t, d, "tcp", 0, dns.TypeTXT, "long.example")) > 700, true)
	check(t, "count", d.Count("A", "mx.target.example"), 1)
	check(t, "queries", len(d.Queries()), 19)
	if err := d.SetZone("target.example A 127.0.0.9"); err != nil {
		t.Fatal(err)
	}
	check(t, "a new zone", ask(t, d, "udp", 0, dns.TypeMX, "target.example"), "NOERROR")
	for _, bad := range []string{"x", "x WKS y", "x A y", "x A ::1", "x MX y", `x TXT "`, "$TTL -1"} {
		if d.SetZone(bad) == nil {
			t.Errorf("zone %q is taken", bad)
		}
	}
}
