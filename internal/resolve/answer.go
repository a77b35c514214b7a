package resolve

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"srsd/spf"
)

// Limits on what an answer may ask of us.
const (
	maxAliases = 16 // aliases followed, in one answer and in one lookup
	// RFC 2308, section 5, suggests one to three hours for negative answers.
	// Ours is shorter, because a postmaster who repairs a zone is waiting.
	maxTTL         = time.Hour
	maxNegativeTTL = 15 * time.Minute
)

// A question is a canonical name and a type; the class is always IN.
type question struct {
	name  string
	qtype uint16
}

func (q question) String() string { return dns.TypeToString[q.qtype] + " " + display(q.name) }

// An answer is what a server said about a question. It is shared between
// callers and never changed.
type answer struct {
	strings []string // TXT: one a record; PTR: the names
	addrs   []netip.Addr
	mx      []spf.MX
	alias   string // canonical: the name to ask next, where the chain of aliases ends without records
	meta    spf.Meta
}

// empty says whether there are no records.
func (a answer) empty() bool { return len(a.strings)+len(a.addrs)+len(a.mx) == 0 }

// size is roughly the memory that the answer holds, in octets.
func (a answer) size() int {
	n := 256 + len(a.alias) + 32*len(a.addrs)
	for _, s := range a.strings {
		n += 16 + len(s)
	}
	for _, m := range a.mx {
		n += 24 + len(m.Host)
	}
	return n
}

// An rcodeError is an answer that is no answer: SERVFAIL, REFUSED, NOTIMP, ….
// The server has spoken; asking it again at once would not help.
type rcodeError string

func (e rcodeError) Error() string { return string(e) }

var (
	errStray     = errors.New("an answer to another question") // ours may still come
	errTruncated = errors.New("truncated answer")
	errFormat    = errors.New("FORMERR")
)

// parse reads a message as the answer to q with that id. It takes only records
// that the question leads to.
func parse(raw []byte, id uint16, q question) (answer, error) {
	if len(raw) < 12 || uint16(raw[0])<<8|uint16(raw[1]) != id || raw[2]&0x80 == 0 {
		return answer{}, errStray
	}
	var m dns.Msg
	err := m.Unpack(raw)
	if m.Truncated {
		return answer{}, errTruncated // a cut in the middle of a record is no malformed answer
	}
	// Servers that do not know EDNS0 may leave the question out of FORMERR.
	if m.Rcode == dns.RcodeFormatError && len(m.Question) == 0 {
		return answer{}, errFormat
	}
	if err != nil {
		return answer{}, fmt.Errorf("malformed answer: %w", err)
	}
	if !asks(m.Question, q) || m.Opcode != dns.OpcodeQuery {
		return answer{}, errStray
	}
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		return read(&m, q)
	case dns.RcodeFormatError:
		return answer{}, errFormat
	}
	if s, ok := dns.RcodeToString[m.Rcode]; ok {
		return answer{}, rcodeError(s)
	}
	return answer{}, rcodeError(fmt.Sprintf("rcode %d", m.Rcode))
}

func asks(qs []dns.Question, q question) bool {
	if len(qs) != 1 || qs[0].Qtype != q.qtype || qs[0].Qclass != dns.ClassINET {
		return false
	}
	return strings.EqualFold(qs[0].Name, q.name)
}

// read collects the records of the name at the end of q's chain of aliases.
func read(m *dns.Msg, q question) (answer, error) {
	a := answer{meta: spf.Meta{TTL: maxTTL, Authentic: m.AuthenticatedData}}
	owner, err := a.follow(m.Answer, q.name)
	if err != nil {
		return answer{}, err
	}
	if m.Rcode == dns.RcodeNameError {
		// RFC 2308, section 2.1: it is the last name that does not exist.
		a.meta.NXDomain = true
		a.meta.TTL = min(a.meta.TTL, negativeTTL(m.Ns))
		return a, nil
	}
	for _, rr := range m.Answer {
		h := rr.Header()
		if h.Rrtype == q.qtype && h.Class == dns.ClassINET && strings.EqualFold(h.Name, owner) {
			a.meta.TTL = min(a.meta.TTL, ttl(h.Ttl))
			a.add(rr)
		}
	}
	switch {
	case !a.empty():
	case owner != q.name && negativeTTL(m.Ns) == 0:
		a.alias = owner // nobody said that the chain ends there: ask
	case isReferral(m):
		return answer{}, rcodeError("a referral: the server is not recursive")
	default:
		a.meta.TTL = min(a.meta.TTL, negativeTTL(m.Ns))
	}
	return a, nil
}

// follow walks the aliases from name through the records, in whatever order
// they are, and returns where they end.
func (a *answer) follow(rrs []dns.RR, name string) (string, error) {
	for range maxAliases {
		next := ""
		for _, rr := range rrs {
			c, ok := rr.(*dns.CNAME)
			if !ok || c.Hdr.Class != dns.ClassINET || !strings.EqualFold(c.Hdr.Name, name) {
				continue
			}
			next, ok = canonical(c.Target)
			if !ok {
				return "", rcodeError("an alias to an impossible name")
			}
			a.meta.TTL = min(a.meta.TTL, ttl(c.Hdr.Ttl))
			break
		}
		if next == "" {
			return name, nil
		}
		name = next
	}
	return "", rcodeError("a loop of aliases, or more than anybody needs")
}

func (a *answer) add(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.TXT:
		a.strings = append(a.strings, unescape(strings.Join(rr.Txt, "")))
	case *dns.PTR:
		a.strings = append(a.strings, display(rr.Ptr))
	case *dns.MX:
		a.mx = append(a.mx, spf.MX{Host: display(rr.Mx), Pref: rr.Preference})
	case *dns.A:
		a.addIP(rr.A)
	case *dns.AAAA:
		a.addIP(rr.AAAA)
	}
}

func (a *answer) addIP(ip []byte) {
	if addr, ok := netip.AddrFromSlice(ip); ok {
		a.addrs = append(a.addrs, addr.Unmap())
	}
}

// ttl is the time a record may be kept. RFC 2181, section 8: with the top bit
// set it is 0.
func ttl(seconds uint32) time.Duration {
	if seconds > 1<<31-1 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// negativeTTL is how long an absence may be kept: what the zone's SOA record
// says, and not at all where there is none (RFC 2308, section 5).
func negativeTTL(authority []dns.RR) time.Duration {
	for _, rr := range authority {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(ttl(soa.Hdr.Ttl), ttl(soa.Minttl), maxNegativeTTL)
		}
	}
	return 0
}

// isReferral tells a referral from an empty answer: name servers, and no SOA
// (RFC 2308, section 2.2).
func isReferral(m *dns.Msg) bool {
	ns := false
	for _, rr := range m.Ns {
		switch rr.(type) {
		case *dns.SOA:
			return false
		case *dns.NS:
			ns = true
		}
	}
	return ns
}
