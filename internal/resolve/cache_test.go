package resolve

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"srsd/spf"
)

// A clock is moved by hand.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func TestCache(t *testing.T) {
	soa := "example. 900 SOA ns.example. root.example. 1 1 1 1 20"
	s := serve(t, func(_ string, q *dns.Msg) [][]byte {
		switch name := q.Question[0].Name; name {
		case "yes.example.":
			return packed(reply(q, dns.RcodeSuccess, name+" 60 TXT x"))
		case "long.example.":
			return packed(reply(q, dns.RcodeSuccess, name+" 4000000 TXT x"))
		case "mad.example.":
			return packed(reply(q, dns.RcodeSuccess, name+" 4294967295 TXT x"))
		case "no.example.":
			return packed(reply(q, dns.RcodeNameError, soa))
		case "empty.example.":
			return packed(reply(q, dns.RcodeSuccess, soa))
		case "nosoa.example.":
			return packed(reply(q, dns.RcodeNameError))
		}
		return packed(reply(q, dns.RcodeServerFailure))
	})
	for _, c := range []struct {
		name string
		kept time.Duration
	}{
		{"yes.example", time.Minute}, {"YES.example.", time.Minute}, {"long.example", maxTTL}, {"mad.example", 0},
		{"no.example", 20 * time.Second}, {"empty.example", 20 * time.Second}, {"nosoa.example", 0}, {"trouble.example", 0},
	} {
		now := &clock{time.Now()}
		r := New(Config{Servers: []string{s.addr}, Now: now.now})
		asked := func() int {
			before := strings.Count(s.queries(), "TXT")
			r.TXT(t.Context(), c.name)
			return strings.Count(s.queries(), "TXT") - before
		}
		check(t, c.name+": the first time", asked(), 1, nil)
		if c.kept == 0 {
			check(t, c.name+": not kept", asked(), 1, nil)
			continue
		}
		now.Time = now.Add(c.kept - time.Second)
		check(t, c.name+": kept", asked(), 0, nil)
		_, meta, err := r.TXT(t.Context(), c.name)
		check(t, c.name+": what is left", meta.TTL, time.Second, err)
		now.Time = now.Add(-24 * time.Hour)
		_, meta, err = r.TXT(t.Context(), c.name)
		check(t, c.name+": the clock set back", meta.TTL, c.kept, err)
		now.Time = now.Add(24*time.Hour + time.Second)
		check(t, c.name+": expired", asked(), 1, nil)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(10_000, nil)
	keep := func(name string, octets int) {
		c.put(question{name, dns.TypeTXT}, answer{strings: []string{strings.Repeat("x", octets)}, meta: spf.Meta{TTL: time.Hour}})
	}
	for i := range 1000 {
		c.get(question{"0", dns.TypeTXT})
		keep(fmt.Sprint(i), 100)
	}
	if c.size > c.max || len(c.m) != c.used.Len() || len(c.m) < 20 {
		t.Errorf("%d octets of %d in %d answers, %d in the list", c.size, c.max, len(c.m), c.used.Len())
	}
	if _, ok := c.get(question{"0", dns.TypeTXT}); !ok {
		t.Error("what was used all the time has gone")
	}
	if _, ok := c.get(question{"1", dns.TypeTXT}); ok {
		t.Error("what was not used for longest is still there")
	}
	keep("huge", 5000)
	if _, ok := c.get(question{"huge", dns.TypeTXT}); ok {
		t.Error("one answer fills half of the cache")
	}
	n := len(c.m)
	keep("999", 100)
	check(t, "the same again", len(c.m), n, nil)
}

// A caller may do with an answer what it likes.
func TestAnswersAreCopies(t *testing.T) {
	s := serve(t, says(dns.RcodeSuccess, "d.example. 60 TXT a", "d.example. 60 TXT b"))
	r := New(Config{Servers: []string{s.addr}})
	first, _, err := r.TXT(t.Context(), "d.example")
	check(t, "TXT", first, []string{"a", "b"}, err)
	first[0] = "spoilt"
	second, _, err := r.TXT(t.Context(), "d.example")
	check(t, "TXT again", second, []string{"a", "b"}, err)
}

func BenchmarkCached(b *testing.B) {
	s := serve(b, says(dns.RcodeSuccess, `spf.target.example. 600 TXT "v=spf1 -all"`))
	r := New(Config{Servers: []string{s.addr}})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.TXT(b.Context(), "spf.target.example"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAsked(b *testing.B) {
	s := serve(b, says(dns.RcodeSuccess, `spf.target.example. 0 TXT "v=spf1 -all"`))
	r := New(Config{Servers: []string{s.addr}})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.TXT(b.Context(), "spf.target.example"); err != nil {
			b.Fatal(err)
		}
	}
}
