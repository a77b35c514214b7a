package mailtest

import (
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// A DNS is a name server on loopback, over UDP and TCP. It answers as a
// recursive server would.
type DNS struct {
	addr    string
	servers []*dns.Server
	running sync.WaitGroup

	mu    sync.Mutex
	zone  *zone
	asked []string
}

// NewDNS starts a server on a free port of 127.0.0.1. It answers from a zone
// text with one record a line, whatever zones the names are in:
//
//	target.example      MX    10 mx.target.example
//	mx.target.example   A     127.0.0.2
//	origin.example      TXT   v=spf1 ip4:127.0.0.9 -all
//	odd.example         TXT   "in Go's syntax: \x00"
//	www.origin.example  CNAME origin.example
//	broken.example      SERVFAIL TXT
//	silent.example      TIMEOUT
//
// The types are A, AAAA, MX, TXT, PTR and CNAME. SERVFAIL, REFUSED, NOTIMP,
// NXDOMAIN and TIMEOUT are what happens to questions for one type, or for all
// where none is named. Names may hold \DDD. "$TTL 60" gives the records that
// follow, and absences, a time to live in seconds; without it that is 0, so
// that a change is seen at once. Lines that begin with # or ; are comments.
func NewDNS(zone string) (*DNS, error) {
	d := &DNS{}
	if err := d.SetZone(zone); err != nil {
		return nil, err
	}
	l, pc, err := listenBoth()
	if err != nil {
		return nil, err
	}
	d.addr = l.Addr().String()
	d.servers = []*dns.Server{
		{Listener: l, Handler: dns.HandlerFunc(d.serve)},
		{PacketConn: pc, Handler: dns.HandlerFunc(d.serve)},
	}
	for _, s := range d.servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		d.running.Go(func() { s.ActivateAndServe() })
		<-started
	}
	return d, nil
}

// listenBoth finds a port that is free for TCP and UDP.
func listenBoth() (l net.Listener, pc net.PacketConn, err error) {
	for range 20 {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if pc, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			return l, pc, nil
		}
		l.Close()
	}
	return nil, nil, err
}

// Addr is where the server listens, "127.0.0.1:port".
func (d *DNS) Addr() string { return d.addr }

// SetZone replaces the zone.
func (d *DNS) SetZone(text string) error {
	z, err := parseZone(text)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zone = z
	return nil
}

// Queries returns the questions so far, "TXT origin.example." each, the name as
// it was asked.
func (d *DNS) Queries() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.asked...)
}

// Count says how often a type of a name was asked for.
func (d *DNS) Count(qtype, name string) int {
	n := 0
	for _, q := range d.Queries() {
		if strings.EqualFold(q, qtype+" "+dns.Fqdn(name)) {
			n++
		}
	}
	return n
}

// Close ends the server.
func (d *DNS) Close() error {
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.Shutdown())
	}
	d.running.Wait()
	return errors.Join(errs...)
}

func (d *DNS) serve(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable, m.Compress = true, true
	if len(q.Question) != 1 {
		w.WriteMsg(m.SetRcode(q, dns.RcodeFormatError))
		return
	}
	x := q.Question[0]
	d.mu.Lock()
	z := d.zone
	d.asked = append(d.asked, dns.Type(x.Qtype).String()+" "+x.Name)
	d.mu.Unlock()
	if !z.answer(m, x.Name, x.Qtype) {
		return
	}
	size := dns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		size = max(size, int(o.UDPSize()))
		m.SetEdns0(1232, false)
	}
	if _, ok := w.LocalAddr().(*net.UDPAddr); ok {
		m.Truncate(size)
	}
	w.WriteMsg(m)
}
