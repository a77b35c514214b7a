package resolve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/miekg/dns"
)

// udpSize is what we say we can take in one datagram: what passes everywhere
// without fragments (DNS flag day 2020).
const udpSize = 1232

// ask puts q to the servers in turn until one answers. The last trouble is the
// error where none does.
func (r *Resolver) ask(ctx context.Context, q question) (answer, error) {
	n := len(r.servers)
	start := int(r.first.Load())
	spoken := make([]bool, n) // servers that have answered, if only with SERVFAIL
	var trouble error
	for range r.rounds {
		for i := range n {
			k := (start + i) % n
			if spoken[k] {
				continue
			}
			s := r.servers[k]
			a, err := r.try(ctx, s, q)
			if err == nil {
				r.first.Store(uint32(k))
				a.meta.Authentic = a.meta.Authentic && s.trusted
				return a, nil
			}
			if ctx.Err() != nil {
				return answer{}, ctx.Err()
			}
			trouble = fmt.Errorf("%w, from %s", err, s.addr)
			r.log.Debug("DNS server in trouble", "server", s.addr, "question", q.String(), "error", err)
			var rcode rcodeError
			spoken[k] = errors.As(err, &rcode)
		}
	}
	return answer{}, trouble
}

// try puts q to one server: over UDP, over TCP where the answer does not fit,
// without EDNS0 where the server does not know it.
func (r *Resolver) try(ctx context.Context, s server, q question) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	a, err := r.exchange(ctx, s, q, "udp", true)
	if errors.Is(err, errFormat) {
		a, err = r.exchange(ctx, s, q, "udp", false) // RFC 6891, section 6.2.2
	}
	if errors.Is(err, errTruncated) {
		a, err = r.exchange(ctx, s, q, "tcp", true)
		if errors.Is(err, errFormat) {
			a, err = r.exchange(ctx, s, q, "tcp", false)
		}
		if err != nil {
			err = fmt.Errorf("truncated over UDP, and over TCP: %w", err)
		}
	}
	if errors.Is(err, errFormat) {
		err = rcodeError(err.Error())
	}
	return a, err
}

// exchange sends q once and waits for its answer. Every exchange has its own
// socket, and so its own random port (RFC 5452, section 9.2).
func (r *Resolver) exchange(ctx context.Context, s server, q question, network string, edns bool) (answer, error) {
	id := dns.Id()
	msg, err := query(id, q, edns)
	if err != nil {
		return answer{}, err
	}
	c, err := r.dial(ctx, network, s.addr)
	if err != nil {
		return answer{}, r.words(err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" {
		return r.overTCP(c, msg, id, q)
	}
	return r.overUDP(c, msg, id, q)
}

func query(id uint16, q question, edns bool) ([]byte, error) {
	m := dns.Msg{Question: []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: dns.ClassINET}}}
	m.Id, m.RecursionDesired = id, true
	m.AuthenticatedData = true // RFC 6840, section 5.7: tell us whether it is validated
	if edns {
		m.SetEdns0(udpSize, false)
	}
	return m.Pack()
}

// overUDP waits for the answer among whatever else arrives.
func (r *Resolver) overUDP(c net.Conn, msg []byte, id uint16, q question) (answer, error) {
	if _, err := c.Write(msg); err != nil {
		return answer{}, r.words(err)
	}
	var buf [udpSize + 1]byte
	for {
		n, err := c.Read(buf[:])
		if err != nil {
			return answer{}, r.words(err)
		}
		a, err := parse(buf[:n], id, q)
		if errors.Is(err, errStray) {
			continue
		}
		if n > udpSize { // more than we said we take: its end is lost
			return answer{}, errTruncated
		}
		return a, err
	}
}

func (r *Resolver) overTCP(c net.Conn, msg []byte, id uint16, q question) (answer, error) {
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(msg)))
	if _, err := c.Write(append(framed, msg...)); err != nil {
		return answer{}, r.words(err)
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return answer{}, r.words(err)
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, buf); err != nil {
		return answer{}, r.words(err)
	}
	return parse(buf, id, q)
}

// words puts the errors of sockets into the words of a person who reads a log.
func (r *Resolver) words(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v", r.timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("connection closed without an answer")
	case errors.As(err, &op):
		return op.Err
	}
	return err
}
