package spf

import (
	"fmt"
	"net/netip"
	"strings"
)

// A Record is a parsed SPF record. Its terms are in the order of the text.
type Record struct {
	Terms    []Term
	Redirect string // the domain-spec of redirect=, "" if there is none
	Exp      string // the domain-spec of exp=, "" if there is none

	text string
}

// String is the record as it was published.
func (r Record) String() string { return r.text }

// A Term is a mechanism with its qualifier, or a modifier.
type Term struct {
	Text      string       // as published
	Name      string       // in lower case: "all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists", or a modifier's name
	Qualifier byte         // '+', '-', '~' or '?'; 0 for a modifier
	Domain    string       // the domain-spec (of an unknown modifier the value) before macro expansion, "" if there is none
	Prefix    netip.Prefix // of ip4 and ip6
	Bits4     int          // of a and mx: the prefix length for IPv4, 32 if not given
	Bits6     int          // of a and mx: the prefix length for IPv6, 128 if not given
}

// Modifier says whether the term is a modifier, not a mechanism.
func (t Term) Modifier() bool { return t.Qualifier == 0 }

// LooksUp says whether the term counts against the limit of terms that look
// something up, RFC 7208, section 4.6.4.
func (t Term) LooksUp() bool {
	switch t.Name {
	case "include", "a", "mx", "ptr", "exists", "redirect":
		return true
	}
	return false
}

// HasMacro says whether a domain-spec depends on the message.
func (t Term) HasMacro() bool {
	return t.Name != "ip4" && t.Name != "ip6" && strings.IndexByte(t.Domain, '%') >= 0
}

// result is what a match of the term makes of the check, RFC 7208, section 4.6.2.
func (t Term) result() Result {
	switch t.Qualifier {
	case '-':
		return Fail
	case '~':
		return SoftFail
	case '?':
		return Neutral
	}
	return Pass
}

// A SyntaxError is what is wrong with one term of a record. It makes a permerror.
type SyntaxError struct {
	Term  string // as published, but printable and cut where it is very long
	Cause string // in words
}

// Error is "spf: TERM: CAUSE", the term in quotes.
func (e *SyntaxError) Error() string { return fmt.Sprintf("spf: %q: %s", e.Term, e.Cause) }

// Records returns those of a name's TXT records that are SPF records: "v=spf1"
// in any case, followed by a space or nothing. RFC 7208, section 4.5.
func Records(txt []string) []string {
	var found []string
	for _, s := range txt {
		if isRecord(s) {
			found = append(found, s)
		}
	}
	return found
}

const version = "v=spf1"

func isRecord(s string) bool {
	return len(s) >= len(version) && equalFold(s[:len(version)], version) && (len(s) == len(version) || s[len(version)] == ' ')
}
