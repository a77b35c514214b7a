package resolve

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// canonical returns the one spelling under which a name is asked, compared and
// cached: lower case, a trailing dot, escapes only where they are needed. It
// returns false for names that the wire format cannot hold.
func canonical(name string) (string, bool) {
	var wire [255]byte // RFC 1035, section 2.3.4
	n, err := dns.PackDomainName(dns.Fqdn(name), wire[:], 0, nil, false)
	if err != nil {
		return "", false
	}
	name, _, err = dns.UnpackDomainName(wire[:n], 0)
	if err != nil {
		return "", false
	}
	return strings.ToLower(name), true
}

// display is a name from an answer as callers see it: every escape as \DDD, so
// that no dot in it is anything but the end of a label; no trailing dot.
func display(name string) string {
	if strings.IndexByte(name, '\\') >= 0 {
		var b strings.Builder
		for i := 0; i < len(name); i++ {
			if name[i] != '\\' || i+1 == len(name) || isDDD(name[i+1:]) {
				b.WriteByte(name[i])
				continue
			}
			i++
			fmt.Fprintf(&b, `\%03d`, name[i])
		}
		name = b.String()
	}
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// unescape turns a character-string as miekg/dns spells it back into octets.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			i++
			c = s[i]
			if isDDD(s[i:]) {
				c = (s[i]-'0')*100 + (s[i+1]-'0')*10 + (s[i+2] - '0')
				i += 2
			}
		}
		b = append(b, c)
	}
	return string(b)
}

func isDDD(s string) bool {
	return len(s) >= 3 && isDigit(s[0]) && isDigit(s[1]) && isDigit(s[2])
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
