package spf

import (
	"net/netip"
	"strconv"
	"strings"
)

// A macro is one %{…}, RFC 7208, section 7.1.
type macro struct {
	letter  byte   // in lower case
	escape  bool   // the letter was in upper case: URL-escape the value
	keep    int    // how many parts to keep from the right, 0 for all
	reverse bool   // the parts change their order
	delims  string // what separates parts, "" for dots
}

const delimiters = ".-+,/_="

// cutMacro reads the macro-expand that s begins with: n is its length. For %%,
// %_ and %- the literal says what it stands for. In text that is not an
// explanation, the letters c, r and t are an error.
func cutMacro(s string, explanation bool) (m macro, literal string, n int, cause string) {
	if len(s) < 2 {
		return m, "", 0, "a single % (it is written %%)"
	}
	switch s[1] {
	case '%':
		return m, "%", 2, ""
	case '_':
		return m, " ", 2, ""
	case '-':
		return m, "%20", 2, ""
	case '{':
	default:
		return m, "", 0, "% needs {, %, _ or - after it"
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return m, "", 0, "%{ without }"
	}
	m, cause = parseMacro(s[2:end], explanation)
	return m, "", end + 1, cause
}

func parseMacro(s string, explanation bool) (m macro, cause string) {
	if s == "" || !isAlpha(s[0]) {
		return m, "a macro begins with a letter"
	}
	m.letter, m.escape = lower(s[0]), s[0] != lower(s[0])
	switch m.letter {
	case 's', 'l', 'o', 'd', 'i', 'p', 'v', 'h':
	case 'c', 'r', 't':
		// Section 7.2: these are for explanations only.
		if !explanation {
			return m, "the macros c, r and t are allowed in explanations only"
		}
	default:
		return m, "there is no macro " + s[:1]
	}
	s = s[1:]
	digits := 0
	for ; digits < len(s) && isDigit(s[digits]); digits++ {
		m.keep = min(m.keep*10+int(s[digits]-'0'), 1<<16)
	}
	// Section 7.1: the number must not be zero.
	if digits > 0 && m.keep == 0 {
		return m, "a macro cannot keep 0 parts"
	}
	s = s[digits:]
	if s != "" && lower(s[0]) == 'r' {
		m.reverse, s = true, s[1:]
	}
	for i := range len(s) {
		if strings.IndexByte(delimiters, s[i]) < 0 {
			return m, "a macro has a letter, a number, r and delimiters, in this order"
		}
	}
	m.delims = s
	return m, ""
}

// checkMacros checks a macro-string, RFC 7208, section 7.1; macroEnd says
// whether its last element is a macro-expand.
func checkMacros(s string, explanation bool) (macroEnd bool, cause string) {
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			return false, ""
		}
		_, _, n, cause := cutMacro(s[i:], explanation)
		if cause != "" {
			return false, cause
		}
		s, macroEnd = s[i+n:], true
	}
	return macroEnd, ""
}

// checkDomainSpec checks a domain-spec before expansion: it ends in a macro or
// in a dot and a toplabel. RFC 7208, section 7.1.
func checkDomainSpec(s string) (cause string) {
	if s == "" {
		return "the domain is empty"
	}
	macroEnd, cause := checkMacros(s, false)
	if cause != "" || macroEnd {
		return cause
	}
	s = strings.TrimSuffix(s, ".")
	dot := strings.LastIndexByte(s, '.')
	top := s[dot+1:]
	switch {
	case isDigits(top):
		return "a domain does not end in a number (an address goes with ip4 or ip6)"
	case !isTopLabel(top):
		return "the domain does not end in a valid top-level label"
	case dot < 0:
		return "the domain has one label only"
	}
	return ""
}

// isTopLabel is the toplabel of RFC 7208, section 7.1, but for labels of digits.
func isTopLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

// maxExpansion bounds what one expansion may grow to, in octets, so that a
// record of many %{s} costs no more than it should.
const maxExpansion = 8 << 10

// expand replaces the macros of a string that has passed checkMacros. Not ok
// means that the local part cannot stand in it (RFC 8616, section 4). Of what
// grows too long to mean anything nothing is left.
func (e *evaluation) expand(s, domain string) (text string, ok bool, err *trouble) {
	i := strings.IndexByte(s, '%')
	if i < 0 {
		return s, true, nil
	}
	b := make([]byte, 0, len(s)+64)
	for i >= 0 {
		b = append(b, s[:i]...)
		m, literal, n, cause := cutMacro(s[i:], true)
		if cause != "" {
			return "", false, &trouble{PermError, cause}
		}
		s = s[i+n:]
		if literal != "" {
			b = append(b, literal...)
		} else {
			value, ok, err := e.value(m.letter, domain)
			if !ok || err != nil {
				return "", false, err
			}
			b = m.appendTo(b, value)
		}
		if len(b) > maxExpansion {
			return "", true, nil
		}
		i = strings.IndexByte(s, '%')
	}
	return string(append(b, s...)), true, nil
}

// value is what a macro letter stands for, RFC 7208, sections 7.2 and 7.3.
func (e *evaluation) value(letter byte, domain string) (value string, ok bool, err *trouble) {
	switch letter {
	case 's', 'l':
		e.personal = true
		if !isASCII(e.local) {
			return "", false, nil // RFC 8616, section 4.
		}
		if letter == 'l' {
			return e.local, true, nil
		}
		return e.local + "@" + e.sender, true, nil
	case 'o':
		return e.sender, true, nil
	case 'd':
		return domain, true, nil
	case 'i':
		return dotted(e.ip), true, nil
	case 'v':
		if e.ip.Is4() {
			return "in-addr", true, nil
		}
		return "ip6", true, nil
	case 'h':
		e.personal = true
		return e.helo, true, nil
	case 'p':
		value, err = e.clientName(domain)
		return value, err == nil, err
	case 'c':
		return e.ip.String(), true, nil
	case 'r':
		if e.checker.Receiver == "" {
			return "unknown", true, nil
		}
		return e.checker.Receiver, true, nil
	default: // 't'
		return strconv.FormatInt(e.checker.now().Unix(), 10), true, nil
	}
}

// dotted is an address as %{i} has it: an IPv6 address as 32 hexadecimal digits
// with dots between them. RFC 7208, section 7.3.
func dotted(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	const hex = "0123456789ABCDEF"
	var b [63]byte
	for i, c := range ip.As16() {
		b[4*i], b[4*i+1], b[4*i+2] = hex[c>>4], '.', hex[c&15]
		if i < 15 {
			b[4*i+3] = '.'
		}
	}
	return string(b[:])
}

// appendTo appends a macro's value: split at its delimiters, reversed, cut to
// the parts on the right, joined with dots, escaped. RFC 7208, section 7.3.
func (m macro) appendTo(b []byte, value string) []byte {
	if m.keep == 0 && !m.reverse && m.delims == "" {
		return m.appendEscaped(b, value)
	}
	delims := m.delims
	if delims == "" {
		delims = "."
	}
	var room [40]string
	parts := room[:0]
	for {
		i := strings.IndexAny(value, delims)
		if i < 0 {
			break
		}
		parts, value = append(parts, value[:i]), value[i+1:]
	}
	parts = append(parts, value)
	n := len(parts)
	first := 0
	if m.keep > 0 && m.keep < n {
		first = n - m.keep
	}
	for i := first; i < n; i++ {
		if i > first {
			b = append(b, '.')
		}
		part := parts[i]
		if m.reverse {
			part = parts[n-1-i]
		}
		b = m.appendEscaped(b, part)
	}
	return b
}

func (m macro) appendEscaped(b []byte, s string) []byte {
	if !m.escape {
		return append(b, s...)
	}
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		// RFC 3986, section 2.3: the unreserved characters.
		if c := s[i]; isAlnum(c) || c == '-' || c == '.' || c == '_' || c == '~' {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}
