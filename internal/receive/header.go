package receive

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"srsd/envelope"
)

// A scan is what the header block of a message tells us.
type scan struct {
	received    int                // Received fields
	ours        int                // those that this host wrote
	deliveredTo []envelope.Address // what Delivered-To fields name
	forged      [][2]int           // Authentication-Results in our name: offsets of whole fields
	folded      bool               // it begins with a continuation line
}

// scanHeader reads a header block. Lines that are no fields do not end it: only
// an empty line does, for us as for everybody after us.
func scanHeader(block []byte, hostname string) scan {
	s := scan{folded: len(block) > 0 && (block[0] == ' ' || block[0] == '\t')}
	for start := 0; start < len(block); {
		end := fieldEnd(block, start)
		name, value, ok := cutField(block[start:end])
		switch {
		case !ok:
		case equalFold(name, "received"):
			s.received++
			if writtenBy(value, hostname) {
				s.ours++
			}
		case equalFold(name, "delivered-to"):
			if a, err := envelope.ParseAddress(deliveredTo(value)); err == nil {
				s.deliveredTo = append(s.deliveredTo, a)
			}
		case equalFold(name, "authentication-results"):
			if inNameOf(value, hostname) {
				s.forged = append(s.forged, [2]int{start, end})
			}
		}
		start = end
	}
	return s
}

// fieldEnd is where the field that begins at start ends, its folded lines
// included (RFC 5322, section 2.2.3).
func fieldEnd(block []byte, start int) int {
	for i := start; ; {
		n := bytes.IndexByte(block[i:], '\n')
		if n < 0 {
			return len(block)
		}
		i += n + 1
		if i == len(block) || block[i] != ' ' && block[i] != '\t' {
			return i
		}
	}
}

// cutField splits a field at its colon. White space before the colon is
// obsolete (RFC 5322, section 4.5), and still read by everybody.
func cutField(field []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(field, ':')
	if i <= 0 {
		return nil, nil, false
	}
	return bytes.TrimRight(field[:i], " \t"), field[i+1:], true
}

func equalFold(b []byte, lower string) bool {
	return len(b) == len(lower) && strings.EqualFold(string(b), lower)
}

func deliveredTo(value []byte) string {
	s := strings.TrimSpace(unfold(value))
	if strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") {
		s = s[1 : len(s)-1]
	}
	return s
}

func unfold(value []byte) string {
	return strings.NewReplacer("\r", "", "\n", "").Replace(string(value))
}

// writtenBy says whether a Received field has our name behind "by".
func writtenBy(value []byte, hostname string) bool {
	words := strings.Fields(withoutComments(string(value)))
	for i := 1; i < len(words); i++ {
		if strings.EqualFold(words[i-1], "by") {
			return strings.EqualFold(strings.TrimSuffix(words[i], ";"), hostname)
		}
	}
	return false
}

// inNameOf says whether an Authentication-Results field claims to be ours
// (RFC 8601, section 5). The authserv-id is read as generously as any reader
// may: comments, folding, quotes, case, a version, a final dot and the other
// spelling of an international name do not hide it.
func inNameOf(value []byte, hostname string) bool {
	id, _, _ := strings.Cut(unquoted(withoutComments(string(value))), ";")
	words := strings.Fields(id)
	if len(words) == 0 {
		return false
	}
	hostname = plainName(hostname)
	if spells(words[0], hostname) || spells(strings.Join(words, ""), hostname) {
		return true
	}
	before := strings.Join(words[:len(words)-1], "")
	return before != "" && spells(before, hostname)
}

// withoutComments removes comments, nested ones too, and leaves quoted strings
// alone. A comment that does not end takes all that follows.
func withoutComments(s string) string {
	if !strings.ContainsRune(s, '(') {
		return s
	}
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			if depth == 0 {
				b.WriteString(s[i : i+2])
			}
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
			b.WriteByte(c)
		case c == '(' && !quoted:
			depth++
			b.WriteByte(' ')
		case c == ')' && !quoted && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unquoted removes quotes and the backslashes of quoted pairs.
func unquoted(s string) string {
	if !strings.ContainsAny(s, `"\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] != '"':
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// spells says whether name is a spelling of the host name, which is plain. Every
// letter of a name leaves one octet or more in its A-labels, so what is far
// longer is another name; and turning it into A-labels would cost the square of
// its length.
func spells(name, hostname string) bool {
	return len(name) <= utf8.UTFMax*(len(hostname)+1) && plainName(name) == hostname
}

// plainName is one spelling for all of a host name: A-labels, lower case, no
// final dot.
func plainName(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if a, err := idna.Lookup.ToASCII(name); err == nil {
		return a
	}
	return name
}
