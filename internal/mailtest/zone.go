package mailtest

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// A zone is everything that a DNS knows. Keys are names in lower case, with a
// trailing dot.
type zone struct {
	records map[string][]dns.RR
	marks   map[mark]int    // what goes wrong: an rcode, or silence
	exists  map[string]bool // also the names between a name and the root
	ttl     uint32
}

// A mark concerns one type of a name, or all where qtype is 0.
type mark struct {
	name  string
	qtype uint16
}

// silence is the mark of a name about which nothing is said.
const silence = -1

// parseZone reads a zone text; NewDNS describes it.
func parseZone(text string) (*zone, error) {
	z := &zone{records: map[string][]dns.RR{}, marks: map[mark]int{}, exists: map[string]bool{}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if err := z.add(line); err != nil {
			return nil, fmt.Errorf("mailtest: line %d of the zone: %w: %s", n, err, line)
		}
	}
	return z, nil
}

func (z *zone) add(line string) error {
	name, rest, _ := strings.Cut(line, " ")
	kind, value, _ := strings.Cut(strings.TrimSpace(rest), " ")
	value = strings.TrimSpace(value)
	if name == "$TTL" {
		n, err := strconv.ParseUint(kind, 10, 31)
		z.ttl = uint32(n)
		return err
	}
	name = strings.ToLower(dns.Fqdn(name))
	if rcode, ok := trouble(kind); ok {
		z.marks[mark{name, dns.StringToType[value]}] = rcode
		if rcode != dns.RcodeNameError {
			z.note(name)
		}
		return nil
	}
	rr, err := record(kind, value)
	if err != nil {
		return err
	}
	*rr.Header() = dns.RR_Header{Name: name, Rrtype: dns.StringToType[kind], Class: dns.ClassINET, Ttl: z.ttl}
	z.records[name] = append(z.records[name], rr)
	z.note(name)
	return nil
}

// note makes name exist, and with it every name above (RFC 8020).
func (z *zone) note(name string) {
	for name != "" && name != "." {
		z.exists[name] = true
		_, name, _ = strings.Cut(name, ".")
	}
}

func trouble(kind string) (rcode int, ok bool) {
	switch kind {
	case "SERVFAIL", "REFUSED", "NOTIMP", "NXDOMAIN":
		return dns.StringToRcode[kind], true
	case "TIMEOUT":
		return silence, true
	}
	return 0, false
}

func record(kind, value string) (dns.RR, error) {
	switch kind {
	case "A", "AAAA":
		ip, err := netip.ParseAddr(value)
		if err != nil || ip.Is4() != (kind == "A") {
			return nil, fmt.Errorf("no address for an %s record", kind)
		}
		if kind == "A" {
			return &dns.A{A: ip.AsSlice()}, nil
		}
		return &dns.AAAA{AAAA: ip.AsSlice()}, nil
	case "MX":
		pref, host, _ := strings.Cut(value, " ")
		n, err := strconv.ParseUint(pref, 10, 16)
		return &dns.MX{Preference: uint16(n), Mx: dns.Fqdn(strings.TrimSpace(host))}, err
	case "PTR":
		return &dns.PTR{Ptr: dns.Fqdn(value)}, nil
	case "CNAME":
		return &dns.CNAME{Target: dns.Fqdn(value)}, nil
	case "TXT":
		if strings.HasPrefix(value, `"`) {
			s, err := strconv.Unquote(value)
			if err != nil {
				return nil, err
			}
			value = s
		}
		return &dns.TXT{Txt: characterStrings(value)}, nil
	}
	return nil, fmt.Errorf("unknown type %q", kind)
}

// characterStrings cuts text into pieces of 255 octets, spelt as miekg/dns
// wants them.
func characterStrings(text string) []string {
	var out []string
	for {
		piece := text[:min(len(text), 255)]
		text = text[len(piece):]
		var b strings.Builder
		for i := range len(piece) {
			if c := piece[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
				fmt.Fprintf(&b, `\%03d`, c)
			} else {
				b.WriteByte(c)
			}
		}
		out = append(out, b.String())
		if text == "" {
			return out
		}
	}
}

// answer fills in what the zone says about a question; false means silence.
func (z *zone) answer(m *dns.Msg, name string, qtype uint16) bool {
	for range 16 {
		key := strings.ToLower(name)
		for _, k := range []mark{{key, qtype}, {key, 0}} {
			if rcode, ok := z.marks[k]; ok {
				m.Rcode = rcode
				return rcode != silence
			}
		}
		if !z.exists[key] {
			m.Rcode = dns.RcodeNameError
			z.absent(m)
			return true
		}
		alias := z.find(m, key, name, qtype)
		if alias == "" {
			if len(m.Answer) == 0 {
				z.absent(m)
			}
			return true
		}
		name = alias
	}
	m.Answer, m.Rcode = nil, dns.RcodeServerFailure // what a recursive server says to a loop
	return true
}

// find adds the records of a name; where it is an alias, it returns the name
// that it stands for.
func (z *zone) find(m *dns.Msg, key, name string, qtype uint16) (alias string) {
	for _, rr := range z.records[key] {
		c, isAlias := rr.(*dns.CNAME)
		if rr.Header().Rrtype != qtype && !isAlias {
			continue
		}
		rr = dns.Copy(rr)
		rr.Header().Name = name // as it was asked
		m.Answer = append(m.Answer, rr)
		if isAlias && qtype != dns.TypeCNAME {
			alias = c.Target
		}
	}
	return alias
}

// absent says for how long an absence may be remembered (RFC 2308, section 3).
func (z *zone) absent(m *dns.Msg) {
	if z.ttl > 0 {
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: z.ttl},
			Ns: ".", Mbox: ".", Minttl: z.ttl}}
	}
}
