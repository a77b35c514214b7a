package resolve

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"srsd/spf"
)

func TestRecords(t *testing.T) {
	s := serve(t, zone(map[string][]string{
		"TXT d.example.": {`d.example. 60 TXT "v=spf1 " "-all"`, `d.example. 60 TXT "v=spf1 " "-all"`, `d.example. 30 TXT ""`,
			`d.example. 60 TXT "\000\255\"\\;"`},
		"MX d.example.":   {`d.example. 60 MX 20 b.example.`, `d.example. 60 MX 10 A.example.`},
		"MX n.example.":   {`n.example. 60 MX 0 .`},
		"A d.example.":    {`d.example. 60 A 192.0.2.1`},
		"AAAA d.example.": {`d.example. 60 AAAA 2001:db8::1`, `d.example. 60 AAAA ::ffff:127.0.0.1`},
		"PTR 1.2.0.192.in-addr.arpa.": {
			`1.2.0.192.in-addr.arpa. 60 PTR mx.example.`, `1.2.0.192.in-addr.arpa. 60 PTR a\.b\032\@\013\010c.example.`},
		"PTR 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.": {
			`1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 PTR six.example.`},
		`TXT a\@b\009\000c.example.`: {`a\@b\009\000c.example. 60 TXT odd`},
	}))
	r := New(Config{Servers: []string{s.addr}})
	ctx := t.Context()
	txt, meta, err := r.TXT(ctx, "D.Example")
	check(t, "TXT", txt, []string{"v=spf1 -all", "v=spf1 -all", "", "\x00\xff\"\\;"}, err)
	check(t, "TTL, the shortest", meta.TTL.Round(time.Second), 30*time.Second, nil)
	mx, _, err := r.MX(ctx, "d.example.")
	check(t, "MX", mx, []spf.MX{{Host: "b.example", Pref: 20}, {Host: "A.example", Pref: 10}}, err)
	mx, _, err = r.MX(ctx, "n.example.")
	check(t, "null MX", mx, []spf.MX{{Host: ".", Pref: 0}}, err)
	ips, _, err := r.Addr(ctx, "d.example.", false)
	check(t, "A", fmt.Sprint(ips), "[192.0.2.1]", err)
	ips, _, err = r.Addr(ctx, "d.example.", true)
	check(t, "AAAA", fmt.Sprint(ips), "[2001:db8::1 127.0.0.1]", err)
	ptr, _, err := r.PTR(ctx, netip.MustParseAddr("192.0.2.1"))
	check(t, "PTR", ptr, []string{"mx.example", `a\046b\032\064\013\010c.example`}, err)
	ptr, _, err = r.PTR(ctx, netip.MustParseAddr("::ffff:192.0.2.1"))
	check(t, "PTR of a mapped address", len(ptr), 2, err)
	ptr, _, err = r.PTR(ctx, netip.MustParseAddr("2001:db8::1%eth0"))
	check(t, "PTR of IPv6", ptr, []string{"six.example"}, err)
	for _, name := range []string{`a\@b\009\000c.example`, `a\064b\009\000c.example`, "a@b\t\x00c.EXAMPLE."} {
		txt, _, err = r.TXT(ctx, name)
		check(t, "odd name", txt, []string{"odd"}, err)
	}
}

func check(t *testing.T, what string, got, want any, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestAbsence(t *testing.T) {
	s := serve(t, func(_ string, q *dns.Msg) [][]byte {
		if q.Question[0].Name == "no.example." {
			return packed(reply(q, dns.RcodeNameError, "no.example. 60 A 192.0.2.66"))
		}
		return packed(reply(q, dns.RcodeSuccess))
	})
	r := New(Config{Servers: []string{s.addr}})
	ips, meta, err := r.Addr(t.Context(), "no.example", false)
	check(t, "NXDOMAIN, whatever comes with it", len(ips), 0, err)
	check(t, "NXDOMAIN", meta.NXDomain, true, nil)
	_, meta, err = r.Addr(t.Context(), "empty.example", false)
	check(t, "empty answer", meta.NXDomain, false, err)
}

func TestImpossibleNames(t *testing.T) {
	s := serve(t, says(dns.RcodeSuccess))
	r := New(Config{Servers: []string{s.addr}})
	for _, name := range []string{strings.Repeat("a", 64) + ".example", "a..example", ".example", strings.Repeat("abcdefg.", 32) + "x"} {
		_, meta, err := r.TXT(t.Context(), name)
		check(t, name, meta.NXDomain, true, err)
	}
	_, meta, err := r.PTR(t.Context(), netip.Addr{})
	check(t, "no address", meta.NXDomain, true, err)
	check(t, "queries", s.queries(), "", nil)
}

func TestAliases(t *testing.T) {
	s := serve(t, zone(map[string][]string{
		"A whole.example.":    {"b.example. 60 A 192.0.2.1", "a.example. 40 CNAME B.example.", "whole.example. 50 CNAME a.example."},
		"A dangling.example.": {"dangling.example. 20 CNAME end.example."},
		"A end.example.":      {"end.example. 60 A 192.0.2.2", "elsewhere.example. 60 A 192.0.2.66"},
		"A self.example.":     {"self.example. 60 CNAME self.example."},
		"A ping.example.":     {"ping.example. 60 CNAME pong.example."},
		"A pong.example.":     {"pong.example. 60 CNAME ping.example."},
		"A nowhere.example.":  {"nowhere.example. 60 CNAME absent.example."},
		"A none.example.":     {"none.example. 60 CNAME void.example.", "example. 60 SOA a. b. 1 1 1 1 60"},
	}))
	r := New(Config{Servers: []string{s.addr}, CacheSize: -1})
	for name, want := range map[string]string{
		"whole.example": "[192.0.2.1] 40s false", "dangling.example": "[192.0.2.2] 20s false",
		"nowhere.example": "[] 0s true", "none.example": "[] 1m0s false",
	} {
		ips, meta, err := r.Addr(t.Context(), name, false)
		check(t, name, fmt.Sprint(ips, meta.TTL, meta.NXDomain), want, err)
	}
	for _, name := range []string{"self.example", "ping.example"} {
		_, _, err := r.Addr(t.Context(), name, false)
		if err == nil || !strings.Contains(err.Error(), "loop") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrouble(t *testing.T) {
	for rcode, word := range map[int]string{dns.RcodeServerFailure: "SERVFAIL", dns.RcodeRefused: "REFUSED",
		dns.RcodeNotImplemented: "NOTIMP", dns.RcodeFormatError: "FORMERR", 14: "rcode 14"} {
		s := serve(t, says(rcode))
		r := New(Config{Servers: []string{s.addr}})
		for range 2 { // trouble is not remembered
			_, _, err := r.TXT(t.Context(), "d.example")
			want := fmt.Sprintf("resolve: TXT d.example: %s, from %s", word, s.addr)
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
		if n := strings.Count(s.queries(), "\n"); rcode != dns.RcodeFormatError && n != 1 {
			t.Errorf("%s: %d queries: the server was asked again at once", word, n+1)
		}
	}
	s := serve(t, says(dns.RcodeSuccess, "example. 60 NS ns.example."))
	_, _, err := New(Config{Servers: []string{s.addr}}).TXT(t.Context(), "d.example")
	if err == nil || !strings.Contains(err.Error(), "not recursive") {
		t.Errorf("referral: %v", err)
	}
}

func TestSilence(t *testing.T) {
	s := serve(t, func(string, *dns.Msg) [][]byte { return nil })
	r := New(Config{Servers: []string{s.addr}, Timeout: 20 * time.Millisecond, Retries: 2})
	_, _, err := r.TXT(t.Context(), "d.example")
	if want := "resolve: TXT d.example: no answer within 20ms, from " + s.addr; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	check(t, "queries", strings.Count(s.queries(), "d.example"), 3, nil)
}

func TestNextServer(t *testing.T) {
	silent := serve(t, func(string, *dns.Msg) [][]byte { return nil })
	broken := serve(t, says(dns.RcodeServerFailure))
	good := serve(t, func(_ string, q *dns.Msg) [][]byte {
		return packed(reply(q, dns.RcodeSuccess, q.Question[0].Name+" 60 TXT yes"))
	})
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	r := New(Config{Servers: []string{gone.Addr().String(), silent.addr, broken.addr, good.addr}, Timeout: 20 * time.Millisecond})
	for i := range 3 {
		txt, _, err := r.TXT(t.Context(), fmt.Sprintf("%d.example", i))
		check(t, "TXT", txt, []string{"yes"}, err)
	}
	check(t, "the silent server is asked once only", strings.Count(silent.queries(), "TXT"), 1, nil)
}

func TestTruncation(t *testing.T) {
	long := fmt.Sprintf("d.example. 60 TXT %s", strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 250))
	s := serve(t, func(network string, q *dns.Msg) [][]byte {
		m := reply(q, dns.RcodeSuccess, long)
		if q.Question[0].Name != "d.example." {
			m = reply(q, dns.RcodeSuccess)
			m.Truncated = true
		} else if network == "udp" {
			m.Truncate(int(q.IsEdns0().UDPSize()))
		}
		return packed(m)
	})
	r := New(Config{Servers: []string{s.addr}})
	txt, _, err := r.TXT(t.Context(), "d.example")
	if err != nil || len(txt) != 1 || len(txt[0]) != 250*250 {
		t.Errorf("%d records, %v", len(txt), err)
	}
	_, _, err = r.TXT(t.Context(), "never.example")
	if err == nil || !strings.Contains(err.Error(), "truncated over UDP, and over TCP: truncated answer") {
		t.Error(err)
	}
}

func TestTruncatedAndNoTCP(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q, dns.RcodeSuccess)
		m.Truncated = true
		w.WriteMsg(m)
	})}
	done := make(chan error)
	go func() { done <- srv.ActivateAndServe() }()
	_, _, err = New(Config{Servers: []string{pc.LocalAddr().String()}}).TXT(t.Context(), "d.example")
	if err == nil || !strings.Contains(err.Error(), "truncated over UDP, and over TCP: connect: connection refused") {
		t.Error(err)
	}
	pc.Close()
	<-done
}

func TestOldServerWithoutEDNS(t *testing.T) {
	for _, question := range []bool{true, false} {
		s := serve(t, func(_ string, q *dns.Msg) [][]byte {
			if q.IsEdns0() != nil {
				m := reply(q, dns.RcodeFormatError)
				if !question {
					m.Question = nil
				}
				return packed(m)
			}
			return packed(reply(q, dns.RcodeSuccess, "d.example. 60 TXT old"))
		})
		txt, _, err := New(Config{Servers: []string{s.addr}}).TXT(t.Context(), "d.example")
		check(t, "TXT", txt, []string{"old"}, err)
	}
}

func TestAuthentic(t *testing.T) {
	s := serve(t, func(_ string, q *dns.Msg) [][]byte {
		m := reply(q, dns.RcodeSuccess, q.Question[0].Name+" 60 TXT x")
		m.AuthenticatedData = q.AuthenticatedData && q.Question[0].Name != "plain.example."
		return packed(m)
	})
	local := New(Config{Servers: []string{s.addr}})
	distant := New(Config{Servers: []string{"192.0.2.1:53"}, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.addr)
	}})
	_, meta, err := local.TXT(t.Context(), "signed.example")
	check(t, "signed, on loopback", meta.Authentic, true, err)
	_, meta, err = local.TXT(t.Context(), "plain.example")
	check(t, "unsigned", meta.Authentic, false, err)
	_, meta, err = distant.TXT(t.Context(), "signed.example")
	check(t, "signed, but anybody may be in between", meta.Authentic, false, err)
}

func TestSystemServers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 192.0.2.53\nnameserver ::1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(systemServers(file), systemServers(file+".absent"), newServer("[2001:db8::1]"), newServer("localhost"))
	check(t, "servers", got, "[{192.0.2.53:53 false} {[::1]:53 true}] [{127.0.0.1:53 true}] {[2001:db8::1]:53 false} {localhost:53 true}", nil)
}
