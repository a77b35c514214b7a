package spf_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// A zone is what the test server knows: records by name, in lower case and
// presentation form, with a final dot.
type zone map[string]*node

type node struct {
	rrs     []dns.RR
	silent  bool // does not answer questions of types it has no records of
	failing bool // SERVFAIL for those
}

// A dnsServer answers from a zone, over UDP or, because it truncates every UDP
// answer, over TCP.
type dnsServer struct {
	addr    string
	zone    zone
	queries atomic.Int64
	tcpOnly bool
	done    sync.WaitGroup
}

func serveDNS(t testing.TB, tcpOnly bool, z zone) *dnsServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{addr: l.Addr().String(), zone: z, tcpOnly: tcpOnly}
	s.done.Add(2)
	go s.udp(pc)
	go s.tcp(l)
	t.Cleanup(func() {
		l.Close()
		pc.Close()
		s.done.Wait()
	})
	return s
}

func (s *dnsServer) udp(pc net.PacketConn) {
	defer s.done.Done()
	buf := make([]byte, 4096)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		m := s.answer(buf[:n])
		if m == nil {
			continue
		}
		if s.tcpOnly {
			m.Truncated, m.Answer = true, nil
		} else {
			m.Truncate(dns.MinMsgSize)
		}
		if raw, err := m.Pack(); err == nil {
			pc.WriteTo(raw, from)
		}
	}
}

func (s *dnsServer) tcp(l net.Listener) {
	defer s.done.Done()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.done.Add(1)
		go func() {
			defer s.done.Done()
			defer c.Close()
			var n uint16
			for binary.Read(c, binary.BigEndian, &n) == nil {
				buf := make([]byte, n)
				if _, err := io.ReadFull(c, buf); err != nil {
					return
				}
				m := s.answer(buf)
				if m == nil {
					return
				}
				raw, err := m.Pack()
				if err != nil {
					panic(err)
				}
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...))
			}
		}()
	}
}

// answer is nil for silence.
func (s *dnsServer) answer(raw []byte) *dns.Msg {
	q := new(dns.Msg)
	if q.Unpack(raw) != nil || len(q.Question) != 1 {
		return nil
	}
	s.queries.Add(1)
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable, m.Compress = true, true
	name := strings.ToLower(q.Question[0].Name)
	for range 8 {
		n := s.zone[name]
		if n == nil {
			m.Rcode = dns.RcodeNameError
			return m
		}
		alias := ""
		for _, rr := range n.rrs {
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				m.Answer = append(m.Answer, rr)
				alias = strings.ToLower(c.Target)
			}
		}
		switch {
		case alias != "":
			name = alias
			continue
		case len(m.Answer) == 0 && n.silent:
			return nil
		case len(m.Answer) == 0 && n.failing:
			m.Rcode = dns.RcodeServerFailure
		}
		return m
	}
	return m // a loop of aliases, as it is
}

// add puts a record into the zone, made of its type and its data.
func (z zone) add(name string, rr dns.RR) {
	n := z.node(name)
	*rr.Header() = dns.RR_Header{Name: dnsName(name), Rrtype: rr.Header().Rrtype, Class: dns.ClassINET, Ttl: 300}
	n.rrs = append(n.rrs, rr)
}

func (z zone) node(name string) *node {
	// The spelling that miekg/dns gives the name when it comes off the wire.
	var wire [256]byte
	if _, err := dns.PackDomainName(dnsName(name), wire[:], 0, nil, false); err != nil {
		panic(err)
	}
	key, _, _ := dns.UnpackDomainName(wire[:], 0)
	key = strings.ToLower(key)
	if z[key] == nil {
		z[key] = new(node)
	}
	return z[key]
}

// dnsName is a name of octets in presentation form.
func dnsName(s string) string {
	if s == "" {
		return "."
	}
	var b strings.Builder
	for _, c := range []byte(strings.TrimSuffix(s, ".")) {
		switch {
		case c <= ' ' || c > '~':
			fmt.Fprintf(&b, "\\%03d", c)
		case strings.IndexByte(`\"().;@$`, c) >= 0 && c != '.':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + "."
}

// characterStrings splits text into strings of 255 octets, escaped for miekg/dns.
func characterStrings(texts []string) []string {
	var out []string
	for _, s := range texts {
		for {
			n := min(len(s), 255)
			var b strings.Builder
			for _, c := range []byte(s[:n]) {
				if c < ' ' || c > '~' || c == '\\' || c == '"' {
					fmt.Fprintf(&b, "\\%03d", c)
				} else {
					b.WriteByte(c)
				}
			}
			out = append(out, b.String())
			if s = s[n:]; s == "" {
				break
			}
		}
	}
	if len(out) == 0 {
		out = []string{""}
	}
	return out
}

func rrHeader(t uint16) dns.RR_Header { return dns.RR_Header{Rrtype: t} }
