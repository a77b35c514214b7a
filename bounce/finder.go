package bounce

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"srsd/envelope"
)

// A name is an address that is to be hidden, and the alias that stands for it.
type name struct {
	target, alias envelope.Address
	mailbox       envelope.Address // the alias's target that it belongs to; null where that may be one or the other
}

// A finder finds targets in text, in every form in which a report may name
// them: its letters in any case, each of them plain or written as in xtext (RFC
// 3461, section 4), percent encoding (RFC 2231), quoted-printable or HTML. It
// begins at the sign between local part and domain, so that its work does not
// grow with the number of targets.
type finder struct {
	byDomain [256][]*domainNames // by the first octet
	words    [256][]word         // by the first octet
}

// domainNames are the targets in one domain. All is in lower case.
type domainNames struct {
	domain string
	names  []localName
}

type localName struct {
	local string
	alias envelope.Address
	loose bool // a local part that is no accident in the middle of another word
}

// A word is a local part that stands alone: "unknown user: jo.private".
type word struct{ text, with string }

// common are local parts that are also words of reports: alone they say
// nothing, and are found everywhere.
var common = regexp.MustCompile(`(?i)^(abuse|account|address|admin|box|contact|delivery|email|error|for|from|hello|home|host|info|inbox|local|mail|mailbox|mailer-daemon|me|message|mx|office|postmaster|private|rcpt|recipient|remote|reply|root|sales|sender|server|service|smtp|status|support|system|team|test|the|this|user|users|webmaster|work|www|you|your)$`)

func newFinder(names []name) *finder {
	f := &finder{}
	for _, n := range names {
		f.add(n.target.Local(), n.target.Domain(), n.alias)
		if quoted, domain := cutAddress(n.target.String()); quoted != n.target.Local() {
			f.add(quoted, domain, n.alias)
		}
		if ascii, err := idna.Lookup.ToASCII(n.target.Domain()); err == nil && ascii != n.target.Domain() {
			f.add(n.target.Local(), ascii, n.alias)
		}
		f.addWord(n)
	}
	for _, byFirst := range f.byDomain {
		for _, d := range byFirst { // the longest first: jo.private before private
			slices.SortStableFunc(d.names, func(a, b localName) int { return len(b.local) - len(a.local) })
		}
	}
	return f
}

func cutAddress(s string) (local, domain string) {
	i := strings.LastIndexByte(s, '@')
	return s[:max(i, 0)], s[i+1:]
}

func (f *finder) add(local, domain string, alias envelope.Address) {
	local, domain = lower(local), lower(domain)
	if local == "" || domain == "" {
		return
	}
	same := &f.byDomain[domain[0]]
	i := slices.IndexFunc(*same, func(d *domainNames) bool { return d.domain == domain })
	if i < 0 {
		i = len(*same)
		*same = append(*same, &domainNames{domain: domain})
	}
	loose := len(local) >= 8 || strings.ContainsAny(local, ".-_+0123456789")
	(*same)[i].names = append((*same)[i].names, localName{local, alias, loose})
}

func (f *finder) addWord(n name) {
	local := lower(n.target.Local())
	if len(local) < 3 || common.MatchString(local) || strings.Contains(lower(n.alias.String()), local) {
		return
	}
	f.words[local[0]] = append(f.words[local[0]], word{local, n.alias.Local()})
}

// lower folds ASCII only, so that no octet moves.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func fold1(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// A match is where a target stands, and what stands for it.
type match struct {
	start, end int
	with       string
}

// find returns the next target in text at or behind from. Words are looked for
// too where the caller says so.
func (f *finder) find(text []byte, from int, words bool) (match, bool) {
	for i := from; i < len(text); i++ {
		c := text[i]
		if f.maySign(c, text[i+1:]) {
			if m, ok := f.around(text, i, from); ok {
				return m, true
			}
		}
		if words {
			for _, w := range f.words[fold1(c)] {
				if n := matchForward(text[i:], w.text); n > 0 && alone(text, i, i+n) {
					return match{i, i + n, w.with}, true
				}
			}
		}
	}
	return match{}, false
}

// maySign says whether c, with what follows, may be the sign of an address: a
// quick look, because most are not.
func (f *finder) maySign(c byte, rest []byte) bool {
	switch c {
	case '@':
		return true
	case '+', '%', '=':
		return len(rest) > 2 && (rest[0] == '4' && rest[1] == '0' || c == '=' && f.byDomain[fold1(rest[0])] != nil)
	case '&':
		return len(rest) > 2 && (rest[0] == '#' || rest[0] == 'c')
	}
	return false
}

// around looks for an address whose sign "@" is at i: plain, encoded, or "=" as
// in the reverse-paths of mailing lists.
func (f *finder) around(text []byte, i, from int) (match, bool) {
	sign, width := decodeAt(text, i)
	if sign != '@' {
		if text[i] != '=' {
			return match{}, false
		}
		sign, width = '=', 1
	}
	first, _ := decodeAt(text, i+width)
	for _, d := range f.byDomain[fold1(first)] {
		n := matchForward(text[i+width:], d.domain)
		if n == 0 {
			continue
		}
		end := i + width + n
		for _, name := range d.names {
			back := matchBackward(text[from:i], name.local)
			if back == 0 || !name.loose && (wordBefore(text, i-back) || wordAfter(text, end)) {
				continue
			}
			with := name.alias.String()
			if sign == '=' {
				with = name.alias.Local() + "=" + name.alias.Domain()
			}
			return match{i - back, end, with}, true
		}
	}
	return match{}, false
}

// replace puts the aliases in the place of the targets; text itself is
// returned where there are none.
func (f *finder) replace(text []byte, words bool) []byte {
	var out []byte
	from := 0
	for {
		m, ok := f.find(text, from, words)
		if !ok {
			break
		}
		out = append(append(out, text[from:m.start]...), m.with...)
		from = m.end
	}
	if from == 0 {
		return text
	}
	return append(out, text[from:]...)
}

// matchForward is the length of want, which is in lower case, at the beginning
// of text; 0 where it is not there.
func matchForward(text []byte, want string) int {
	pos := 0
	for i := range len(want) {
		if pos >= len(text) {
			return 0
		}
		c, width := decodeAt(text, pos)
		switch {
		case fold1(c) == want[i]:
			pos += width
		case fold1(text[pos]) == want[i]:
			pos++
		default:
			return 0
		}
	}
	return pos
}

// matchBackward is matchForward at the end of text.
func matchBackward(text []byte, want string) int {
	end := len(text)
	for i := len(want) - 1; i >= 0; i-- {
		if end == 0 {
			return 0
		}
		c, width := decodeBefore(text, end)
		switch {
		case fold1(c) == want[i]:
			end -= width
		case fold1(text[end-1]) == want[i]:
			end--
		default:
			return 0
		}
	}
	return len(text) - end
}

// decodeAt is the character at i, and how many octets it takes.
func decodeAt(text []byte, i int) (c byte, width int) {
	if i >= len(text) {
		return 0, 1
	}
	rest := text[i:min(len(text), i+10)]
	switch rest[0] {
	case '+', '%', '=':
		if len(rest) >= 3 {
			if hi, lo := unhex(rest[1]), unhex(rest[2]); hi >= 0 && lo >= 0 {
				return byte(hi<<4 | lo), 3
			}
		}
	case '&':
		if end := bytes.IndexByte(rest, ';'); end > 0 {
			if c, ok := entity(rest[1:end]); ok {
				return c, end + 1
			}
		}
	}
	return rest[0], 1
}

// decodeBefore is the character that ends at end.
func decodeBefore(text []byte, end int) (c byte, width int) {
	for _, n := range [...]int{3, 4, 5, 6, 7, 8} {
		if n > end || text[end-1] != ';' && n > 3 {
			break
		}
		if c, width := decodeAt(text[:end], end-n); width == n {
			return c, n
		}
	}
	return text[end-1], 1
}

// entity is the character of an HTML reference between "&" and ";".
func entity(ref []byte) (byte, bool) {
	if string(ref) == "commat" {
		return '@', true
	}
	digits, ok := bytes.CutPrefix(ref, []byte("#"))
	if !ok || len(digits) == 0 {
		return 0, false
	}
	base, n := 10, 0
	if fold1(digits[0]) == 'x' {
		base, digits = 16, digits[1:]
	}
	for _, d := range digits {
		v := unhex(d)
		if v < 0 || v >= base {
			return 0, false
		}
		n = n*base + v
	}
	return byte(n), len(digits) > 0 && n < 0x80
}

func unhex(c byte) int {
	switch c = fold1(c); {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

func alphanumeric(c byte) bool {
	c = fold1(c)
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c >= 0x80
}

// wordBefore says whether what begins at start goes on a word: the mary of
// mary.jo@.
func wordBefore(text []byte, start int) bool {
	if start == 0 {
		return false
	}
	if _, width := decodeBefore(text, start); width > 1 {
		return false
	}
	c := text[start-1]
	return alphanumeric(c) || strings.IndexByte(".-_", c) >= 0 && start > 1 && alphanumeric(text[start-2])
}

// wordAfter says whether what ends at end goes on: the .org of target.example.org.
func wordAfter(text []byte, end int) bool {
	if end >= len(text) {
		return false
	}
	c := text[end]
	return alphanumeric(c) || strings.IndexByte(".-_", c) >= 0 && end+1 < len(text) && alphanumeric(text[end+1])
}

// alone says whether text[start:end] is a word that belongs to no address and
// no host name.
func alone(text []byte, start, end int) bool {
	next, _ := decodeAt(text, end)
	return !wordBefore(text, start) && !wordAfter(text, end) && next != '@' && next != '+' && (start == 0 || text[start-1] != '@')
}
