package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"srsd/envelope"
	"srsd/internal/mailtest"
	"srsd/spf"
)

func TestDialogue(t *testing.T) {
	full := func(m *envelope.Message) {
		m.EightBit, m.Return, m.EnvelopeID = true, "HDRS", "id+1"
		m.Routes[0].Notify = envelope.NotifyFailure | envelope.NotifyDelay
		m.Routes[0].Original = "rfc822;jo@alumni.example"
	}
	const from, to = "MAIL FROM:<SRS0=h=t=sender.example=ann@srs.alumni.example>", "RCPT TO:<jo.private@target.example>"
	size := fmt.Sprintf(" SIZE=%d", len("Delivered-To: jo@alumni.example\r\n"+text))
	for _, c := range []struct {
		name   string
		extend []string
		answer func(string, string) string
		want   []string
	}{
		{"everything", nil, nil, []string{"EHLO mx.alumni.example", from + size + " BODY=8BITMIME RET=HDRS ENVID=id+2B1", to + " NOTIFY=FAILURE,DELAY ORCPT=rfc822;jo@alumni.example", "DATA", "QUIT"}},
		{"lower case", []string{"pipelining", "size", "8bitmime"}, nil, []string{"EHLO mx.alumni.example", from + size + " BODY=8BITMIME", to, "DATA", "QUIT"}},
		{"nothing", []string{"X-ODD=1 2"}, nil, []string{"EHLO mx.alumni.example", from, to, "DATA", "QUIT"}},
		{"HELO", nil, always("ehlo", "502 5.5.1 what?"), []string{"EHLO mx.alumni.example", "HELO mx.alumni.example", from, to, "DATA", "QUIT"}},
		{"refused, without PIPELINING", []string{"X"}, always("rcpt", "550 no"), []string{"EHLO mx.alumni.example", from, to, "QUIT"}},
		{"refused, with PIPELINING", nil, always("mail", "550 no"), []string{"EHLO mx.alumni.example", from + size + " BODY=8BITMIME RET=HDRS ENVID=id+2B1", to + " NOTIFY=FAILURE,DELAY ORCPT=rfc822;jo@alumni.example", "DATA", "QUIT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				s := w.target()
				s.extend, s.answer = c.extend, c.answer
				m := message("jo.private@target.example")
				full(&m)
				w.deliver(m)
				synctest.Wait()
				if d := cmp.Diff(c.want, s.said()); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// Nothing that an address holds can end its command.
func TestAddressesAreQuoted(t *testing.T) {
	w := newWorld(t, nil)
	m := message("jo@target.example")
	m.Routes[0].Target, _ = envelope.NewAddress("u> NOTIFY=NEVER <x", "target.example")
	m.Routes[0].Original = "rfc822;x NOTIFY=NEVER"
	w.deliver(m)
	if !slices.Contains(w.target().said(), `RCPT TO:<"u> NOTIFY=NEVER <x"@target.example>`) {
		t.Errorf("%q", w.target().said())
	}
}

func TestInternationalized(t *testing.T) {
	utf8 := []string{"PIPELINING", "8BITMIME", "SMTPUTF8"}
	for _, c := range []struct {
		name, target, body string
		utf8               bool
		extend             []string
		code               int
		rcpt               string
	}{
		{"local part, known", "jö@target.example", text, true, utf8, 250, "jö@target.example"},
		{"local part, unknown", "jö@target.example", text, true, nil, 553, ""},
		{"domain, unknown", "jo@bücher.example", text, true, nil, 250, "jo@xn--bcher-kva.example"},
		{"header, unknown", "jo@target.example", "Subject: ö\r\n\r\n", true, nil, 553, ""},
		{"header, known", "jo@target.example", "Subject: ö\r\n\r\n", true, utf8, 250, "jo@target.example"},
		{"needs nothing, unknown", "jo@target.example", "Subject: o\r\n\r\nö\r\n", true, nil, 250, "jo@target.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.dns["MX xn--bcher-kva.example"] = w.dns["MX target.example"]
			w.target().extend = c.extend
			m := message("jo@target.example")
			m.Routes[0].Target, m.UTF8 = envelope.MustParse(c.target), c.utf8
			r := w.Deliver(context.Background(), m, bytes.NewReader([]byte(c.body)))
			if r.Code != c.code || c.code == 553 && r.Enhanced.String() != "5.6.7" {
				t.Fatal(r)
			}
			got := w.target().got()
			if c.rcpt != "" && (len(got) != 1 || got[0].to[0] != c.rcpt) {
				t.Errorf("%+v", got)
			}
			for _, line := range w.target().said() {
				if c.extend == nil && !isASCII(line) {
					t.Errorf("8-bit octets on the wire: %q", line)
				}
				if strings.HasPrefix(line, "MAIL") && strings.Contains(line, "SMTPUTF8") != (c.extend != nil) {
					t.Errorf("%q", line)
				}
			}
		})
	}
}

// An alias that a server cannot read is not named to it.
func TestDeliveredToNeedsUTF8(t *testing.T) {
	for _, extend := range [][]string{nil, {"SMTPUTF8"}} {
		w := newWorld(t, nil)
		w.target().extend = extend
		m := message("jo@target.example")
		m.Routes[0].Alias, m.UTF8 = envelope.MustParse("jö@alumni.example"), true
		if r := w.deliver(m); r.Code != 250 {
			t.Fatal(r)
		}
		if got := w.target().got()[0].text; (got == text) != (extend == nil) {
			t.Errorf("%v: %q", extend, got)
		}
	}
}

func TestMixedAnswersStayApart(t *testing.T) {
	w := newWorld(t, nil)
	w.target().answer = func(stage, arg string) string {
		switch {
		case stage == "rcpt" && strings.HasPrefix(arg, "no"):
			return "550 5.1.1 unknown"
		case stage == "rcpt" && strings.HasPrefix(arg, "later"):
			return "450 4.2.0 greylisted"
		}
		return ""
	}
	m := message("yes@target.example", "no@target.example", "later@target.example")
	m.SPF = "none"
	if r := w.deliver(m); r.Code != 250 {
		t.Fatal(r)
	}
	if got := w.target().got(); len(got) != 1 || len(got[0].to) != 1 || got[0].to[0] != "yes@target.example" {
		t.Errorf("%+v", got)
	}
	x := w.queue.only(t).Deliveries
	if len(x) != 2 || spent(x[0]) || !spent(x[1]) || lastReply(x[0], m.Routes[2]).Reply.Code != 450 || x[1].Routes[0].Target != m.Routes[1].Target {
		t.Errorf("%+v", x)
	}
}

func TestKeptConnection(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 5 {
		m := message("jo.private@target.example")
		m.ID = fmt.Sprint(i)
		if r := w.deliver(m); r.Code != 250 {
			t.Fatal(r)
		}
	}
	if n := w.target().dialled(); n != 2 { // the first one is not kept: there was no sign of more
		t.Errorf("%d connections for 5 messages", n)
	}
}

// A transaction that ended before its data needs RSET before the next.
func TestResetAfterRefusal(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver(message("jo.private@target.example"))
	w.target().set(func() { w.target().answer = always("rcpt", "550 5.1.1 no") })
	if r := w.deliver(message("jo.private@target.example")); r.Code != 550 {
		t.Fatal(r)
	}
	w.target().set(func() { w.target().answer = nil })
	if r := w.deliver(message("jo.private@target.example")); r.Code != 250 {
		t.Fatal(r)
	}
	if !slices.Contains(w.target().said(), "RSET") || w.target().dialled() != 2 {
		t.Errorf("%d connections, %q", w.target().dialled(), w.target().said())
	}
}

// A kept connection that has died costs nobody anything; one that dies after
// the dot is a deferral, and not sent again at once.
func TestDeadConnection(t *testing.T) {
	for _, c := range []struct {
		name, stage, reply string
		queued             int
	}{
		{"at MAIL", "mail", "drop", 0},
		{"421 at MAIL", "mail", "421 4.4.2 idle", 0},
		{"after the dot", "dot", "drop", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.deliver(message("jo.private@target.example"))
			w.deliver(message("jo.private@target.example"))
			once := false
			w.target().set(func() {
				w.target().answer = func(stage, _ string) string {
					if stage == c.stage && !once {
						once = true
						return c.reply
					}
					return ""
				}
			})
			if r := w.deliver(message("jo.private@target.example")); r.Code != 250 {
				t.Fatal(r)
			}
			n, _ := w.queue.Count(t.Context())
			if n != c.queued || len(w.target().got()) != 3-c.queued {
				t.Errorf("%d queued, %d messages", n, len(w.target().got()))
			}
		})
	}
}

func TestNextHost(t *testing.T) {
	for _, c := range []struct {
		name, stage, reply string
		second             bool // the second host gets it
	}{
		{"421 banner", "banner", "421 4.3.2 busy", true},
		{"554 banner", "banner", "554 5.3.2 closed", true},
		{"no banner", "banner", "drop", true},
		{"no hello", "ehlo", "421 4.3.2 no", true},
		{"4yz at RCPT", "rcpt", "451 4.3.0 no", true},
		{"5yz at RCPT", "rcpt", "550 5.1.1 no", false},
		{"lost at MAIL", "mail", "drop", true},
		{"4yz at the dot", "dot", "451 4.3.0 no", false},
		{"lost at the dot", "dot", "drop", false},
		{"nonsense", "mail", "hello", true},
		{"3yz at MAIL", "mail", "354 what", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.dns["MX target.example"] = []spf.MX{{Host: "mx.target.example", Pref: 10}, {Host: "mx.other.example", Pref: 20}}
			w.target().answer = always(c.stage, c.reply)
			w.deliver(message("jo.private@target.example"))
			if n := len(w.other().got()); n == 1 != c.second {
				t.Errorf("%d messages at the second host", n)
			}
		})
	}
}

func TestSilence(t *testing.T) {
	for stage, want := range map[string]time.Duration{"banner": 5 * time.Minute, "ehlo": 5 * time.Minute, "mail": 5 * time.Minute, "rcpt": 5 * time.Minute, "data": 2 * time.Minute, "dot": 10 * time.Minute} {
		t.Run(stage, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.target().answer = always(stage, "hang")
				began := time.Now()
				g := groups(w.policy.Load(), message("jo.private@target.example").Routes)[0]
				m := message("jo.private@target.example")
				w.hops.acquire(t.Context(), g.hop, 20, began)
				w.attempt(w.policy.Load(), &m, g, bytes.NewReader([]byte(text)))
				if r := g.rcpts[0].reply; !r.Temporary() || time.Since(began) != want {
					t.Errorf("%v after %v", r, time.Since(began))
				}
			})
		})
	}
}

func TestTooBig(t *testing.T) {
	w := newWorld(t, nil)
	w.target().extend = []string{"PIPELINING", "SIZE 20"}
	if r := w.deliver(message("jo.private@target.example")); r.Code != 552 || r.Enhanced.String() != "5.3.4" {
		t.Error(r)
	}
}

// broken is a body that cannot be read to its end.
type broken struct{}

func (broken) Size() int64 { return 100_000 }
func (broken) ReadAt(p []byte, off int64) (int, error) {
	if off > 50_000 {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(p, strings.Repeat("x", len(p))), nil
}

func TestBrokenBodyIsNotSent(t *testing.T) {
	w := newWorld(t, nil)
	m := message("jo.private@target.example")
	g := groups(w.policy.Load(), m.Routes)[0]
	w.hops.acquire(t.Context(), g.hop, 20, time.Now())
	w.attempt(w.policy.Load(), &m, g, broken{})
	if r := g.rcpts[0].reply; !r.Temporary() || len(w.target().got()) != 0 {
		t.Error(r)
	}
}

func TestExplainNamesNobody(t *testing.T) {
	w := newWorld(t, nil)
	w.target().refuse = fmt.Errorf("dial tcp 192.88.99.10:25: %w", syscall.ECONNREFUSED)
	w.deliver(message("jo.private@target.example"))
	r := w.queue.only(t).Deliveries[0].Attempts[0].Reply
	if r.Text != "the next server did not answer: connection refused" {
		t.Errorf("%q", r.Text)
	}
}

// onLoopback makes a world with a server of mailtest behind target.example.
func onLoopback(t *testing.T, c mailtest.MXConfig, change func(*Config)) (*world, *mailtest.MX) {
	mx, err := mailtest.NewMX(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mx.Close() })
	addr := netip.MustParseAddrPort(mx.Addr())
	w := newWorld(t, func(c *Config) {
		c.Dial = nil
		c.Policy.Port = int(addr.Port())
		c.Policy.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Policy.Source = []netip.Addr{netip.MustParseAddr("127.0.0.2")}
		if change != nil {
			change(c)
		}
	})
	w.dns["A mx.target.example"] = addr.Addr().String()
	return w, mx
}

func TestTLS(t *testing.T) {
	pair, err := mailtest.Certificate("mx.target.example")
	if err != nil {
		t.Fatal(err)
	}
	other, err := mailtest.Certificate("mx.other.example")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	for _, c := range []tls.Certificate{pair, other} {
		leaf, _ := x509.ParseCertificate(c.Certificate[0])
		roots.AddCert(leaf)
	}
	for _, c := range []struct {
		name     string
		security Security
		offer    *tls.Certificate
		script   string
		sent     bool
		tls      bool
	}{
		{"used where offered", Opportunistic, &pair, "", true, true},
		{"not offered", Opportunistic, nil, "", true, false},
		{"refused", Opportunistic, &pair, "starttls 454 4.7.0 not now", true, false},
		{"broken", Opportunistic, &pair, "handshake 220 no handshake", true, false},
		{"hung up", Opportunistic, &pair, "handshake drop", true, false},
		{"another name", Opportunistic, &other, "", true, true},
		{"none", None, &pair, "", true, false},
		{"required", Required, &other, "", true, true},
		{"required, not offered", Required, nil, "", false, false},
		{"required, broken", Required, &pair, "handshake drop", false, false},
		{"verified", Verified, &pair, "", true, true},
		{"verified, another name", Verified, &other, "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := mailtest.MXConfig{}
			if c.offer != nil {
				conf.TLS = &tls.Config{Certificates: []tls.Certificate{*c.offer}}
			}
			w, mx := onLoopback(t, conf, func(conf *Config) {
				conf.TLS = &tls.Config{RootCAs: roots}
				conf.Policy.TLS = map[string]Security{"target.example": c.security}
			})
			if err := mx.Script(c.script); err != nil {
				t.Fatal(err)
			}
			if r := w.deliver(message("jo.private@target.example")); r.Code != 250 {
				t.Fatal(r)
			}
			got := mx.Messages()
			if len(got) == 1 != c.sent || c.sent && got[0].TLS != c.tls {
				t.Fatalf("%+v", got)
			}
			if c.sent && (got[0].Client != "127.0.0.2" || string(got[0].Data) != "Delivered-To: jo@alumni.example\r\n"+text) {
				t.Errorf("from %s: %q", got[0].Client, got[0].Data)
			}
			if n, _ := w.queue.Count(t.Context()); n == 0 != c.sent {
				t.Errorf("%d queued", n)
			}
			for _, line := range mx.Commands() {
				if !c.sent && strings.HasPrefix(line, "MAIL") {
					t.Errorf("in clear: %q", line)
				}
			}
		})
	}
}

func TestPasswordOnlyOverTLS(t *testing.T) {
	w, mx := onLoopback(t, mailtest.MXConfig{}, nil)
	p := *w.policy.Load()
	p.Smarthost, p.Auth = mx.Addr(), Credentials{"user", "secret"}
	w.SetPolicy(p)
	w.deliver(message("jo.private@target.example"))
	if a := w.queue.only(t).Deliveries[0].Attempts; len(a) != 1 || a[0].Reply.Status().String() != "4.7.10" {
		t.Errorf("%+v", a)
	}
	for _, line := range mx.Commands() {
		if strings.HasPrefix(line, "AUTH") {
			t.Errorf("%q", line)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v", p.Auth, p.Auth, p.Auth); strings.Contains(s, "secret") {
		t.Errorf("printed as %s", s)
	}
}
