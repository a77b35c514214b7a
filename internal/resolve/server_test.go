package resolve

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A handler answers a question with any number of messages, octet for octet.
type handler func(network string, q *dns.Msg) [][]byte

// A testServer is a DNS server that may misbehave.
type testServer struct {
	addr   string
	handle handler

	mu    sync.Mutex
	asked []string // "udp TXT name."
	conns sync.WaitGroup
}

// serve starts a server on loopback that ends with the test.
func serve(t testing.TB, h handler) *testServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{addr: l.Addr().String(), handle: h}
	s.conns.Add(2)
	go s.udp(pc)
	go s.tcp(l)
	t.Cleanup(func() {
		l.Close()
		pc.Close()
		s.conns.Wait()
	})
	return s
}

func (s *testServer) udp(pc net.PacketConn) {
	defer s.conns.Done()
	buf := make([]byte, 4096)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		for _, raw := range s.answer("udp", buf[:n]) {
			pc.WriteTo(raw, from)
		}
	}
}

func (s *testServer) tcp(l net.Listener) {
	defer s.conns.Done()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		var n uint16
		if binary.Read(c, binary.BigEndian, &n) == nil {
			buf := make([]byte, n)
			io.ReadFull(c, buf)
			for _, raw := range s.answer("tcp", buf) {
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...))
			}
		}
		c.Close()
	}
}

func (s *testServer) answer(network string, raw []byte) [][]byte {
	q := new(dns.Msg)
	if q.Unpack(raw) != nil || len(q.Question) != 1 {
		return nil
	}
	s.mu.Lock()
	s.asked = append(s.asked, network+" "+dns.TypeToString[q.Question[0].Qtype]+" "+q.Question[0].Name)
	s.mu.Unlock()
	return s.handle(network, q)
}

// queries returns what was asked so far.
func (s *testServer) queries() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, "\n")
}

// reply is an answer to q with these records, zone file lines each.
func reply(q *dns.Msg, rcode int, records ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(q, rcode)
	m.RecursionAvailable = true
	for _, line := range records {
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		switch rr.(type) {
		case *dns.SOA, *dns.NS:
			m.Ns = append(m.Ns, rr)
		default:
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

func packed(ms ...*dns.Msg) [][]byte {
	var out [][]byte
	for _, m := range ms {
		m.Compress = true
		raw, err := m.Pack()
		if err != nil {
			panic(err)
		}
		out = append(out, raw)
	}
	return out
}

// says always answers with the same records.
func says(rcode int, records ...string) handler {
	return func(_ string, q *dns.Msg) [][]byte { return packed(reply(q, rcode, records...)) }
}

// zone answers by "TYPE name.", everything else with NXDOMAIN.
func zone(records map[string][]string) handler {
	return func(_ string, q *dns.Msg) [][]byte {
		x := q.Question[0]
		rrs, ok := records[dns.TypeToString[x.Qtype]+" "+strings.ToLower(x.Name)]
		if !ok {
			return packed(reply(q, dns.RcodeNameError))
		}
		return packed(reply(q, dns.RcodeSuccess, rrs...))
	}
}
