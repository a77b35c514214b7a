package srs

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// The limits of RFC 5321, section 4.5.3.1, and RFC 1035, section 2.3.4, in octets.
const (
	maxLocal   = 64
	maxAddress = 254
	maxLabel   = 63
	maxDomain  = 255
	// maxInput bounds the work on hostile input. PostSRSd and its kin wrote
	// local parts of more than 64 octets, which must still come home.
	maxInput = 1024
)

// An address is a mailbox taken apart. The local part is without quotes.
type address struct {
	local, domain string
	quoted        bool // the local part was written as a quoted string
}

// split takes an address apart at the "@" behind its local part and removes
// quotes (RFC 5321, section 4.1.2). The domain is "" where there is no "@".
func split(s string) (address, error) {
	if len(s) > maxInput {
		return address{}, fmt.Errorf("%w: address of %d octets", ErrSyntax, len(s))
	}
	if strings.HasPrefix(s, `"`) {
		return splitQuoted(s)
	}
	i := strings.IndexByte(s, '@')
	if i < 0 {
		return address{local: s}, nil
	}
	if strings.IndexByte(s[i+1:], '@') >= 0 {
		return address{}, fmt.Errorf("%w: more than one @ outside quotes", ErrSyntax)
	}
	return address{local: s[:i], domain: s[i+1:]}, nil
}

func splitQuoted(s string) (address, error) {
	local := make([]byte, 0, len(s))
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			local = append(local, s[i])
		case c == '"':
			rest := s[i+1:]
			if rest != "" && rest[0] != '@' {
				return address{}, fmt.Errorf("%w: text between a quoted local part and @", ErrSyntax)
			}
			return address{local: string(local), domain: strings.TrimPrefix(rest, "@"), quoted: true}, nil
		default:
			local = append(local, c)
		}
	}
	return address{}, fmt.Errorf("%w: the quote does not end", ErrSyntax)
}

// appendMailbox writes an address as SMTP does: the local part, given without
// quotes, is quoted as a whole where it is no dot-string.
func appendMailbox(dst, local []byte, domain string) []byte {
	if isDotString(local) {
		dst = append(dst, local...)
	} else {
		dst = append(dst, '"')
		for _, c := range local {
			if c == '"' || c == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, c)
		}
		dst = append(dst, '"')
	}
	dst = append(dst, '@')
	return append(dst, domain...)
}

// isDotString says whether a local part needs no quotes (RFC 5321, section
// 4.1.2; RFC 6531, section 3.3, for what is not ASCII).
func isDotString[T string | []byte](local T) bool {
	last := byte('.')
	for i := 0; i < len(local); i++ {
		c := local[i]
		if c == '.' && last == '.' || c != '.' && !atext[c] {
			return false
		}
		last = c
	}
	return last != '.'
}

// atext is RFC 5322's, with every octet of a UTF-8 sequence (RFC 6531).
var atext = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x80 || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c > ' ' && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", byte(c)) >= 0
	}
	return t
}()

// isQuotedString says whether s is one whole quoted string.
func isQuotedString(s string) bool {
	if len(s) < 2 || s[0] != '"' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		} else if s[i] == '"' {
			return i == len(s)-1
		}
	}
	return false
}

// checkLocal says what is wrong with a local part without quotes.
func checkLocal(s string) error {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 0x80:
			return checkUTF8(s)
		case c < ' ' || c == 0x7f:
			return fmt.Errorf("%w: control character in the local part", ErrSyntax)
		}
	}
	return nil
}

// checkUTF8 allows what RFC 6531, section 3.3, adds, but for the C1 controls.
func checkUTF8(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: local part is not UTF-8", ErrSyntax)
	}
	for _, r := range s {
		if r < ' ' || 0x7f <= r && r < 0xa0 {
			return fmt.Errorf("%w: control character in the local part", ErrSyntax)
		}
	}
	return nil
}

// checkDomain says what is wrong with a domain (RFC 5321, section 4.1.2, and
// underscores, because they occur) or an address literal (section 4.1.3).
func checkDomain(s string) error {
	if strings.HasPrefix(s, "[") {
		return checkLiteral(s)
	}
	if len(s) > maxDomain {
		return fmt.Errorf("%w: domain of %d octets", ErrSyntax, len(s))
	}
	start, ascii := 0, true
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			if !domainByte[s[i]] {
				return fmt.Errorf("%w: %q is not allowed in domain %q", ErrSyntax, s[i], s)
			}
			ascii = ascii && s[i] < 0x80
			continue
		}
		label := s[start:i]
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("%w: bad label %q in domain %q", ErrSyntax, label, s)
		}
		start = i + 1
	}
	if !ascii {
		return checkUTF8(s)
	}
	return nil
}

var domainByte = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x80 || c == '-' || c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	return t
}()

func checkLiteral(s string) error {
	inner, ok := strings.CutSuffix(s[1:], "]")
	is6 := len(inner) > 5 && equalFold(inner[:5], "ipv6:")
	if is6 {
		inner = inner[5:]
	}
	if ip, err := netip.ParseAddr(inner); !ok || err != nil || ip.Zone() != "" || ip.Is4() == is6 {
		return fmt.Errorf("%w: %q is no address literal", ErrSyntax, s)
	}
	return nil
}

// isFullName is what the classic format needs of a valid domain, because its
// hash does not say where one ends: two labels or more, the last one of two
// characters or more and not all digits; or an address literal.
func isFullName(domain string) bool {
	i := strings.LastIndexByte(domain, '.')
	last := domain[i+1:]
	return domain[0] == '[' || i >= 0 && len(last) >= 2 && strings.Trim(last, "0123456789") != ""
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// appendLower appends s with the case of ASCII folded: everything an SRS hash
// covers is folded so, because mail systems on the way may do it.
func appendLower(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		dst = append(dst, lower(s[i]))
	}
	return dst
}

// equalFold compares with the case of ASCII folded, and of nothing else.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}
