package deliver

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"srsd/envelope"
)

// maxText bounds the text of a reply that we pass on, in octets: a line of SMTP
// holds 512 (RFC 5321, section 4.5.3.1.5).
const maxText = 400

// scrub makes of a target's reply one that outsiders may see: class and
// enhanced code stay, the text is one line of printable ASCII, and every form of
// the target's address in it becomes the alias. A reply to several recipients
// may name the others too. Where a text still hints at a target, only the code
// is left of it.
func scrub(reply envelope.Reply, r envelope.Route, others ...envelope.Route) envelope.Reply {
	text := visible(reply.Text, 4*maxText)
	for _, hide := range []func(string, envelope.Route, string) string{hideAddresses, hideParts} {
		text = hide(text, r, mark)
		for _, o := range others {
			if o.Target != r.Target {
				text = hide(text, o, otherMark)
			}
		}
	}
	text = dropLinks(text)
	for _, o := range append([]envelope.Route{r}, others...) {
		if hints(text, o) {
			text = ""
		}
	}
	text = strings.ReplaceAll(text, mark, visible(r.Alias.String(), maxText))
	text = strings.TrimSpace(strings.ReplaceAll(text, otherMark, "another address"))
	if text == "" {
		text = "refused by the destination"
		if reply.Temporary() {
			text = "deferred by the destination"
		}
	}
	reply.Text = bound(text, maxText)
	return reply
}

// Marks stand for what is hidden: no visible text holds them, so that what is
// put in their place later is not taken for a target.
const mark, otherMark = "\x00", "\x01"

// hideAddresses replaces the targets of a route.
func hideAddresses(text string, r envelope.Route, by string) string {
	for _, a := range hidden(r) {
		for _, form := range forms(a) {
			text = replaceFold(text, form, by, false)
		}
	}
	return text
}

// hideParts replaces what stands alone of them: the domain, and the local part
// where it is a word of its own.
func hideParts(text string, r envelope.Route, by string) string {
	for _, a := range hidden(r) {
		text = replaceFold(text, visible(a.Domain(), maxText), by, false)
		text = replaceFold(text, queueDomain(a), by, false)
		if len(a.Local()) >= 3 {
			text = replaceFold(text, visible(a.Local(), maxText), by, true)
		}
	}
	return text
}

// hidden are the addresses that nobody outside is to see.
func hidden(r envelope.Route) (all []envelope.Address) {
	for _, a := range append([]envelope.Address{r.Target}, r.Via...) {
		if !a.IsNull() && a != r.Alias {
			all = append(all, a)
		}
	}
	return all
}

// hints says whether a text still has what must be hidden, however it is spaced
// or broken.
func hints(text string, r envelope.Route) bool {
	text = squeeze(text)
	has := func(s string) bool { s = squeeze(s); return s != "" && strings.Contains(text, s) }
	for _, a := range hidden(r) {
		if len(squeeze(a.Local())) >= 5 && has(a.Local()) || has(a.Domain()) || has(queueDomain(a)) {
			return true
		}
	}
	return false
}

// forms are the ways in which a reply may write an address, the longest first.
func forms(a envelope.Address) []string {
	all := []string{visible(a.String(), 2*maxText), visible(a.Local()+"@"+a.Domain(), 2*maxText)}
	for _, at := range []string{"=40", "+40", "%40", "&#64;", " at ", "_at_", "(at)", "[at]", "="} {
		all = append(all, visible(a.Local(), maxText)+at+a.Domain())
	}
	return all
}

// visible is s on one line of at most max octets, with controls and whatever is
// not ASCII escaped.
func visible(s string, max int) string {
	clean := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return bound(s, max)
	}
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < max; {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case r == utf8.RuneError && n == 1 || r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r >= 0x80:
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteByte(s[i])
		}
		i += n
	}
	return bound(b.String(), max)
}

func bound(s string, max int) string {
	if len(s) > max {
		return s[:max-3] + "..."
	}
	return s
}

// dropLinks removes URLs: they may hold the target in any encoding.
func dropLinks(s string) string {
	for _, scheme := range []string{"http://", "https://", "mailto:"} {
		for from := 0; ; {
			i := indexFold(s[from:], scheme)
			if i < 0 {
				break
			}
			i += from
			end := strings.IndexAny(s[i:], " <>\"()")
			if end < 0 {
				end = len(s) - i
			}
			s = s[:i] + "[link]" + s[i+end:]
			from = i + len("[link]")
		}
	}
	return s
}

// squeeze leaves letters, in lower case, and digits: what remains the same
// however an address is spaced, quoted or broken.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 0x80:
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, s)
}

// replaceFold replaces all old in s, whatever its case; with words only where
// it is not part of a longer word.
func replaceFold(s, old, by string, words bool) string {
	if old == "" {
		return s
	}
	var b strings.Builder
	for pos := 0; ; {
		i := indexFold(s[pos:], old)
		if i < 0 {
			b.WriteString(s[pos:])
			return b.String()
		}
		i += pos
		end := i + len(old)
		if words && (i > 0 && isWord(s[i-1]) || end < len(s) && isWord(s[end])) {
			b.WriteString(s[pos:end])
		} else {
			b.WriteString(s[pos:i])
			b.WriteString(by)
		}
		pos = end
	}
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// indexFold is strings.Index without regard to the case of ASCII letters.
func indexFold(s, part string) int { return strings.Index(lower(s), lower(part)) }

// lower folds ASCII only, so that offsets stay the same.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
