// Package envelope holds what travels with a message: addresses, replies,
// routes and the envelope itself. It is the vocabulary that every other package
// of srsd shares, and it imports none of them.
package envelope

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// The limits of RFC 5321, section 4.5.3.1, and RFC 1035, section 2.3.4, in octets.
const (
	MaxLocal   = 64
	MaxDomain  = 255
	MaxLabel   = 63
	MaxAddress = 254 // a path of 256 octets less its angle brackets
)

// An Address is one mailbox, parsed and valid. It is a comparable value: == is
// exact, Key folds case. The zero Address is the null reverse-path.
//
// The local part is kept without quotes, as the mailbox's owner would say it;
// String quotes it again where the grammar of RFC 5321, section 4.1.2, asks
// for that. The domain is kept as it was written. Only "postmaster" may stand
// without a domain (RFC 5321, section 4.5.1).
type Address struct {
	local, domain string
	text          string // what String says, made of the two
}

// ErrTooLong is wrapped by errors about an address that breaks a limit of
// RFC 5321, section 4.5.3.1.
var ErrTooLong = errors.New("too long")

// NewAddress returns the address of an unquoted local part at a domain, an
// error where RFC 5321, 6531 or 5890 do not allow such an address.
func NewAddress(local, domain string) (Address, error) {
	if local == "" && domain == "" {
		return Address{}, errors.New("address: empty")
	}
	return newAddress(local, domain, write(local, domain))
}

func newAddress(local, domain, text string) (Address, error) {
	if err := checkLocal(local); err != nil {
		return Address{}, err
	}
	a := Address{local: local, domain: domain, text: text}
	if domain == "" {
		if !strings.EqualFold(local, "postmaster") {
			return Address{}, fmt.Errorf("address: %q has no domain", local)
		}
		return a, nil
	}
	if err := CheckDomain(domain); err != nil {
		return Address{}, err
	}
	if n := len(text); n > MaxAddress {
		return Address{}, fmt.Errorf("address: %w: %d octets, %d are allowed", ErrTooLong, n, MaxAddress)
	}
	return a, nil
}

// ParseAddress reads a mailbox as SMTP writes it: a dot-string or a quoted
// string, "@", and a domain or an address literal; without angle brackets,
// comments or white space. "postmaster" may stand alone. The empty string is
// an error: whoever allows the null reverse-path tests for it before.
func ParseAddress(s string) (Address, error) {
	if s == "" {
		return Address{}, errors.New("address: empty")
	}
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, err
	}
	if rest == "@" {
		return Address{}, fmt.Errorf("address: %q has no domain", s)
	}
	domain := strings.TrimPrefix(rest, "@")
	if s[0] == '"' { // the quotes may not have been needed
		return NewAddress(local, domain)
	}
	return newAddress(local, domain, s)
}

// MustParse is ParseAddress for constants in tests; it panics on an error. The
// empty string is the null reverse-path.
func MustParse(s string) Address {
	if s == "" {
		return Address{}
	}
	a, err := ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// cutLocal splits s behind its local part and removes the quoting.
func cutLocal(s string) (local, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexByte(s, '@')
		if i < 0 {
			i = len(s)
		}
		local = s[:i]
		if !isDotString(local) {
			return "", "", fmt.Errorf("address: local part %q is neither a dot-string nor quoted", local)
		}
		return local, s[i:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '"':
			if rest = s[i+1:]; rest != "" && rest[0] != '@' {
				return "", "", fmt.Errorf("address: text between the quoted local part and @ in %q", s)
			}
			return b.String(), rest, nil
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("address: the quote in %q does not end", s)
}

// Local is the local part without quotes.
func (a Address) Local() string { return a.local }

// Domain is the domain as it was written, or an address literal in brackets.
func (a Address) Domain() string { return a.domain }

// IsNull says whether a is the null reverse-path.
func (a Address) IsNull() bool { return a == Address{} }

// IsASCII says whether a can be named without SMTPUTF8 (RFC 6531).
func (a Address) IsASCII() bool { return isASCII(a.local) && isASCII(a.domain) }

// String is the address as SMTP writes it, the local part quoted where it must
// be; "" for the null reverse-path.
func (a Address) String() string { return a.text }

// Path is String in angle brackets, as MAIL and RCPT carry it.
func (a Address) Path() string { return "<" + a.String() + ">" }

// Key is a with the case of local part and domain folded: two addresses of the
// same mailbox, as nearly all mail systems see it, have the same key.
func (a Address) Key() string { return strings.ToLower(a.String()) }

// WithDomain is the same local part at another domain.
func (a Address) WithDomain(domain string) (Address, error) { return NewAddress(a.local, domain) }

// MarshalText is String, so that addresses stand as plain text in JSON.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAddress; the empty text is the null reverse-path.
func (a *Address) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	b, err := ParseAddress(string(text))
	if err == nil {
		*a = b
	}
	return err
}

// write is a mailbox as SMTP writes it.
func write(local, domain string) string {
	if !isDotString(local) {
		local = quote(local)
	}
	if domain == "" {
		return local
	}
	return local + "@" + domain
}

func quote(local string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(local); i++ {
		if c := local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

func checkLocal(local string) error {
	// RFC 5321, section 4.5.3.1.1.
	if len(local) > MaxLocal {
		return fmt.Errorf("address: local part: %w: %d octets, %d are allowed", ErrTooLong, len(local), MaxLocal)
	}
	if !utf8.ValidString(local) {
		return errors.New("address: local part is not UTF-8")
	}
	for _, r := range local {
		// RFC 5321, section 4.1.2: qtextSMTP is printable; RFC 6531, section
		// 3.3, adds what is not ASCII. C1 controls are as dangerous as C0.
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return errors.New("address: control character in the local part")
		}
	}
	return nil
}

// CheckDomain says what is wrong with a domain or address literal; nil where
// SMTP allows it. Underscores are allowed, because they occur; a trailing dot
// is not.
func CheckDomain(domain string) error {
	if strings.HasPrefix(domain, "[") {
		return checkLiteral(domain)
	}
	if len(domain) > MaxDomain {
		return fmt.Errorf("address: domain: %w: %d octets, %d are allowed", ErrTooLong, len(domain), MaxDomain)
	}
	if !utf8.ValidString(domain) {
		return errors.New("address: domain is not UTF-8")
	}
	for label := range strings.SplitSeq(domain, ".") {
		if err := checkLabel(label, domain); err != nil {
			return err
		}
	}
	return nil
}

func checkLabel(label, domain string) error {
	switch {
	case label == "":
		return fmt.Errorf("address: empty label in domain %q", domain)
	case len(label) > MaxLabel:
		return fmt.Errorf("address: domain label: %w: %d octets, %d are allowed", ErrTooLong, len(label), MaxLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("address: label %q begins or ends with a hyphen", label)
	}
	for _, r := range label {
		ok := r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || r >= 0xa0
		if !ok {
			return fmt.Errorf("address: %q is not allowed in domain %q", r, domain)
		}
	}
	return nil
}

// checkLiteral checks an address literal, RFC 5321, section 4.1.3.
func checkLiteral(s string) error {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if ok {
		v6, is6 := cutPrefixFold(inner, "IPv6:")
		ip, err := netip.ParseAddr(v6)
		if err == nil && ip.Zone() == "" && ip.Is4() != is6 {
			return nil
		}
	}
	return fmt.Errorf("address: %q is no address literal", s)
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// isDotString says whether a local part needs no quotes (RFC 5321, section
// 4.1.2; RFC 6531, section 3.3, for what is not ASCII).
func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '.' && s[i-1] == '.' || c != '.' && !isAtext(c) {
			return false
		}
	}
	return true
}

func isAtext(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80 ||
		strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
