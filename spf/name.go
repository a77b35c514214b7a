package spf

import (
	"strings"

	"golang.org/x/net/idna"
)

// Limits of a name in octets, RFC 1035, section 2.3.4: maxName is that of the
// text without the final dot.
const (
	maxName  = 253
	maxLabel = 63
)

// Inside the package a name is a string of raw octets with dots between its
// labels; presentation form (\DDD) is what a Resolver takes and gives.

// isName says whether a name can be asked for: no empty label, none too long.
// It may end in a dot.
func isName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxName {
		return false
	}
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '.' {
			continue
		}
		if i == start || i-start > maxLabel {
			return false
		}
		start = i + 1
	}
	return true
}

// shorten drops labels from the left until a name is no longer than DNS
// allows. RFC 7208, section 7.3.
func shorten(name string) string {
	name = strings.TrimSuffix(name, ".")
	for len(name) > maxName {
		_, rest, found := strings.Cut(name, ".")
		if !found {
			return name
		}
		name = rest
	}
	return name
}

// isPlain says whether an octet stands for itself in presentation form.
func isPlain(c byte) bool {
	return '!' <= c && c <= '~' && c != '\\' && c != '"' && c != '(' && c != ')' && c != ';' && c != '@' && c != '$'
}

// present is a name in presentation form, RFC 4343, section 2.1.
func present(name string) string {
	i := 0
	for i < len(name) && isPlain(name[i]) {
		i++
	}
	if i == len(name) {
		return name
	}
	b := make([]byte, 0, len(name)+12)
	for i := 0; i < len(name); i++ {
		if c := name[i]; isPlain(c) {
			b = append(b, c)
		} else {
			b = append(b, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		}
	}
	return string(b)
}

// unpresent takes presentation form back to octets and drops the final dot. A
// dot inside a label cannot be told from one between labels then, so such a
// name is not ok.
func unpresent(s string) (name string, ok bool) {
	s = strings.TrimSuffix(s, ".")
	if strings.IndexByte(s, '\\') < 0 {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			switch {
			case i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]):
				n := int(s[i+1]-'0')*100 + int(s[i+2]-'0')*10 + int(s[i+3]-'0')
				if n > 255 {
					return "", false
				}
				c = byte(n)
				i += 3
			case i+1 < len(s):
				i++
				c = s[i]
			default:
				return "", false
			}
			if c == '.' {
				return "", false
			}
		}
		b = append(b, c)
	}
	return string(b), true
}

// toASCII turns the U-labels of a domain into A-labels, RFC 8616, section 4.
func toASCII(domain string) (string, bool) {
	if isASCII(domain) {
		return domain, true
	}
	a, err := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false)).ToASCII(domain)
	return a, err == nil && isASCII(a)
}

// isSubdomain says whether name is domain or lies below it; both without a
// final dot. ASCII case does not matter (RFC 4343), label boundaries do.
func isSubdomain(name, domain string) bool {
	n := len(name) - len(domain)
	return n >= 0 && equalFold(name[n:], domain) && (n == 0 || name[n-1] == '.')
}

// equalFold is strings.EqualFold for ASCII alone: U+212A is no k to the DNS.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isAlpha(c byte) bool { return 'a' <= lower(c) && lower(c) <= 'z' }
func isAlnum(c byte) bool { return isAlpha(c) || isDigit(c) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
