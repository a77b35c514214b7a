package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Parse reads a record. The error joins one *SyntaxError for each term that is
// wrong; the terms that are right are in the record all the same. RFC 7208,
// section 12.
func Parse(text string) (Record, error) {
	r := Record{text: text}
	if !isRecord(text) {
		return r, errors.New(`spf: a record begins with "v=spf1" and a space`)
	}
	var errs []error
	rest := text[len(version):]
	r.Terms = make([]Term, 0, strings.Count(rest, " "))
	for rest != "" {
		var word string
		// Section 4.6.1: terms are separated by spaces, and by nothing else.
		word, rest, _ = strings.Cut(rest, " ")
		if word == "" {
			continue
		}
		t, cause := parseTerm(word)
		if cause == "" {
			cause = r.add(t)
		}
		if cause != "" {
			errs = append(errs, &SyntaxError{Term: shown(word), Cause: cause})
		}
	}
	return r, errors.Join(errs...)
}

// add appends a term. RFC 7208, section 6: exp and redirect stand once; other
// modifiers may be repeated.
func (r *Record) add(t Term) (cause string) {
	if t.Modifier() {
		switch t.Name {
		case "redirect":
			if r.Redirect != "" {
				return "a record has one redirect= at most"
			}
			r.Redirect = t.Domain
		case "exp":
			if r.Exp != "" {
				return "a record has one exp= at most"
			}
			r.Exp = t.Domain
		}
	}
	r.Terms = append(r.Terms, t)
	return ""
}

func parseTerm(word string) (t Term, cause string) {
	t = Term{Text: word, Bits4: 32, Bits6: 128}
	for i := range len(word) {
		// Section 3.1 (ASCII) and the grammar: visible characters only.
		if word[i] < '!' || word[i] > '~' {
			return t, "only visible ASCII characters are allowed"
		}
	}
	if name, value, ok := cutModifier(word); ok {
		t.Name, t.Domain = strings.ToLower(name), value
		return t, checkModifier(t)
	}
	t.Qualifier = '+'
	switch word[0] {
	case '+', '-', '~', '?':
		t.Qualifier, word = word[0], word[1:]
	}
	end := strings.IndexAny(word, ":/")
	if end < 0 {
		end = len(word)
	}
	// Section 4.6.1: names are case-insensitive.
	t.Name = strings.ToLower(word[:end])
	return t, parseArgument(&t, word[end:])
}

// cutModifier splits name=value. RFC 7208, section 4.6.1: the = follows the
// name at once, before any : or /. A qualifier is no part of a name, so
// "+redirect=x" is no modifier.
func cutModifier(word string) (name, value string, ok bool) {
	if !isAlpha(word[0]) {
		return "", "", false
	}
	for i := range len(word) {
		switch c := word[i]; {
		case c == '=':
			return word[:i], word[i+1:], true
		case !isAlnum(c) && c != '-' && c != '_' && c != '.':
			return "", "", false
		}
	}
	return "", "", false
}

func checkModifier(t Term) (cause string) {
	if t.Name == "redirect" || t.Name == "exp" {
		return checkDomainSpec(t.Domain)
	}
	// Section 6: an unknown modifier is ignored, but must be a macro-string.
	_, cause = checkMacros(t.Domain, false)
	return cause
}

// parseArgument reads what follows a mechanism's name: "", ":…" or "/…".
func parseArgument(t *Term, arg string) (cause string) {
	switch t.Name {
	case "all": // section 5.1
		if arg != "" {
			return "all takes no argument"
		}
		return ""
	case "include", "exists": // sections 5.2 and 5.7
		if !strings.HasPrefix(arg, ":") {
			return t.Name + " needs a domain"
		}
		t.Domain = arg[1:]
		return checkDomainSpec(t.Domain)
	case "a", "mx": // sections 5.3 and 5.4
		domain, cause := cutBits(t, arg)
		if cause != "" {
			return cause
		}
		return optionalDomain(t, domain)
	case "ptr": // section 5.5
		return optionalDomain(t, arg)
	case "ip4", "ip6": // section 5.6
		return parseNetwork(t, arg)
	}
	return fmt.Sprintf("there is no mechanism %q", shown(t.Name))
}

func optionalDomain(t *Term, arg string) (cause string) {
	if arg == "" {
		return ""
	}
	if arg[0] != ':' {
		return "a prefix length is not allowed or not valid here"
	}
	t.Domain = arg[1:]
	return checkDomainSpec(t.Domain)
}

// cutBits takes "/n", "//m" or "/n//m" off the end of an argument. A domain-spec
// may hold slashes too, so only digits behind the last ones count (RFC 7208,
// sections 5.3 and 7.1).
func cutBits(t *Term, arg string) (rest, cause string) {
	rest = arg
	if i := strings.LastIndex(rest, "//"); i >= 0 && isDigits(rest[i+2:]) {
		var ok bool
		if t.Bits6, ok = parseBits(rest[i+2:], 128); !ok {
			return "", "an IPv6 prefix length is 0 to 128"
		}
		rest = rest[:i]
	}
	if i := strings.LastIndexByte(rest, '/'); i >= 0 && isDigits(rest[i+1:]) {
		var ok bool
		if t.Bits4, ok = parseBits(rest[i+1:], 32); !ok {
			return "", "an IPv4 prefix length is 0 to 32"
		}
		rest = rest[:i]
	}
	return rest, ""
}

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// parseBits reads a prefix length: no leading zero, at most limit.
func parseBits(s string, limit int) (n int, ok bool) {
	if !isDigits(s) || len(s) > 3 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	return n, n <= limit
}

// parseNetwork reads the argument of ip4 and ip6. RFC 7208, section 5.6.
func parseNetwork(t *Term, arg string) (cause string) {
	if len(arg) < 2 || arg[0] != ':' {
		return t.Name + " needs a network"
	}
	t.Domain = arg[1:]
	text, length, sliced := strings.Cut(t.Domain, "/")
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" || ip.Is4() != (t.Name == "ip4") {
		return fmt.Sprintf("%s is no IPv%c address", shown(text), t.Name[2])
	}
	bits := ip.BitLen()
	if sliced {
		var ok bool
		if bits, ok = parseBits(length, ip.BitLen()); !ok {
			return fmt.Sprintf("the prefix length is 0 to %d", ip.BitLen())
		}
	}
	t.Prefix = netip.PrefixFrom(ip, bits)
	return ""
}

// maxShown is how much of a stranger's text is shown to people, in octets.
const maxShown = 150

// shown is a piece of a record as people see it: printable, and not endless.
func shown(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "..."
	}
	return printable(s)
}

// printable is s with every octet that is not printable ASCII as \DDD.
func printable(s string) string {
	if isPrintable(s) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' {
			fmt.Fprintf(&b, "\\%03d", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
