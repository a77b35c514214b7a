package resolve

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// Whatever comes before the true answer is passed over.
func TestHostileAnswersCostOnlyThemselves(t *testing.T) {
	forged := func(q *dns.Msg, change func(*dns.Msg)) *dns.Msg {
		m := reply(q, dns.RcodeSuccess, "d.example. 60 TXT forged")
		change(m)
		return m
	}
	s := serve(t, func(_ string, q *dns.Msg) [][]byte {
		return append([][]byte{nil, {0}, []byte("no DNS message at all")}, packed(
			forged(q, func(m *dns.Msg) { m.Id++ }),
			forged(q, func(m *dns.Msg) { m.Response = false }),
			forged(q, func(m *dns.Msg) { m.Question[0].Name = "other.example." }),
			forged(q, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }),
			forged(q, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
			forged(q, func(m *dns.Msg) { m.Question = nil }),
			forged(q, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
			forged(q, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
			reply(q, dns.RcodeSuccess, "other.example. 60 TXT stray", "d.example. 60 A 192.0.2.66", "D.example. 60 TXT true",
				"d.example. 60 CH TXT chaos", "evil.example. 60 CNAME d.example."))...)
	})
	txt, _, err := New(Config{Servers: []string{s.addr}}).TXT(t.Context(), "d.example")
	check(t, "TXT", txt, []string{"true"}, err)
}

func TestMalformedAnswers(t *testing.T) {
	header := func(q *dns.Msg, rest string) []byte {
		return append([]byte{byte(q.Id >> 8), byte(q.Id), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}, rest...)
	}
	question := "\x01d\x07example\x00\x00\x10\x00\x01"
	for what, rest := range map[string]string{
		"a pointer to itself":     question + "\xc0\x1b\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x02\x01x",
		"pointers in a circle":    question + "\xc0\x1d\xc0\x1b\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x02\x01x",
		"a string beyond the end": question + "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x02\xffx",
		"a record beyond the end": question + "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\xff\xff\x01x",
	} {
		s := serve(t, func(_ string, q *dns.Msg) [][]byte { return [][]byte{header(q, rest)} })
		start := time.Now()
		_, _, err := New(Config{Servers: []string{s.addr}}).TXT(t.Context(), "d.example")
		if err == nil || !strings.Contains(err.Error(), "malformed answer") {
			t.Errorf("%s: %v", what, err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("%s cost %v", what, d)
		}
	}
}

func TestMoreThanWeTake(t *testing.T) {
	s := serve(t, func(network string, q *dns.Msg) [][]byte {
		m := reply(q, dns.RcodeSuccess)
		for range 100 {
			rr, _ := dns.NewRR("d.example. 60 TXT a-record-of-some-length")
			m.Answer = append(m.Answer, rr)
		}
		return packed(m)
	})
	txt, _, err := New(Config{Servers: []string{s.addr}}).TXT(t.Context(), "d.example")
	check(t, "TXT", len(txt), 100, err)
	check(t, "queries", s.queries(), "udp TXT d.example.\ntcp TXT d.example.", nil)
}

func FuzzParse(f *testing.F) {
	q := new(dns.Msg).SetQuestion("d.example.", dns.TypeTXT)
	q.Id = 7
	for _, rrs := range [][]string{
		{`d.example. 60 TXT "v=spf1 -all" "\000\"\\x"`}, {"d.example. 60 CNAME e.example.", "e.example. 1 TXT x"},
		{"d.example. 60 CNAME d.example."}, {"d.example. 60 MX 10 a.example.", "d.example. 60 A 192.0.2.1", `d.example. 60 PTR a\.b\000.`},
		{"example. 60 SOA a. b. 1 1 1 1 60"}, {"example. 60 NS a."},
	} {
		f.Add(packed(reply(q, dns.RcodeSuccess, rrs...))[0], dns.TypeTXT)
	}
	f.Add(packed(reply(q, dns.RcodeFormatError))[0], dns.TypeMX)
	f.Fuzz(func(t *testing.T, raw []byte, qtype uint16) {
		a, err := parse(raw, 7, question{"d.example.", qtype})
		if err != nil {
			if d := cmp.Diff(answer{}, a, cmp.AllowUnexported(answer{})); d != "" {
				t.Errorf("an answer beside the error %v: %s", err, d)
			}
			return
		}
		if a.meta.TTL < 0 || a.meta.TTL > maxTTL {
			t.Errorf("TTL %v", a.meta.TTL)
		}
		if a.alias != "" {
			if c, ok := canonical(a.alias); !ok || c != a.alias {
				t.Errorf("the alias %q is not canonical", a.alias)
			}
		}
		names := []string{}
		for _, m := range a.mx {
			names = append(names, m.Host)
		}
		if qtype == dns.TypePTR {
			names = append(names, a.strings...)
		}
		for _, name := range names {
			for i := range len(name) {
				if name[i] <= ' ' || name[i] > '~' {
					t.Fatalf("raw octet %#x in the name %q", name[i], name)
				}
			}
			if c, ok := canonical(name); !ok || !strings.EqualFold(display(c), name) {
				t.Errorf("%q does not survive being asked for: %q", name, c)
			}
		}
	})
}

// A name has one canonical spelling, and every spelling of it leads there.
func FuzzCanonical(f *testing.F) {
	for _, name := range []string{"", ".", "a.EXAMPLE", `a\.b\064\\.example.`, "a@b\x00\xff", `\`, `a\25`, "a..b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		c, ok := canonical(name)
		if !ok {
			return
		}
		for _, again := range []string{c, display(c), strings.ToUpper(c)} {
			if got, ok := canonical(again); !ok || got != c {
				t.Errorf("%q: %q, but %q gives %q", name, c, again, got)
			}
		}
	})
}
