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
// the target's address in it becomes the alias. Where a text still hints at the
// target, or cannot be read with certainty, only the code is left of it.
func scrub(reply envelope.Reply, r envelope.Route) envelope.Reply {
	if r.Target == r.Alias {
		reply.Text = visible(reply.Text, maxText)
		return reply
	}
	text := visible(reply.Text, 4*maxText)
	alias := visible(r.Alias.String(), maxText)
	// First to a mark that no visible text holds, then to the alias: it may be
	// like the target.
	for _, a := range append([]envelope.Address{r.Target}, r.Via...) {
		for _, form := range forms(a) {
			text = replaceFold(text, form, mark, false)
		}
		if len(a.Local()) >= 3 {
			text = replaceFold(text, visible(a.Local(), maxText), mark, true)
		}
	}
	text = dropLinks(text)
	for _, secret := range secrets(r) {
		if strings.Contains(squeeze(text), squeeze(secret)) {
			text = ""
		}
	}
	text = strings.TrimSpace(strings.ReplaceAll(text, mark, alias))
	if text == "" {
		text = "refused by the destination"
	}
	reply.Text = bound(text, maxText)
	return reply
}

const mark = "\x00"

// forms are the ways in which a reply may write an address, the longest first.
func forms(a envelope.Address) []string {
	if a.IsNull() {
		return nil
	}
	all := []string{visible(a.String(), 2*maxText), visible(a.Local()+"@"+a.Domain(), 2*maxText)}
	for _, at := range []string{"=40", "+40", "%40", "&#64;", " at ", "_at_", "(at)", "[at]", "="} {
		all = append(all, visible(a.Local(), maxText)+at+a.Domain())
	}
	if a.Domain() != "" {
		all = append(all, visible(a.Domain(), maxText), queueDomain(a))
	}
	return all
}

// secrets are what must not be left, however it is spaced or broken.
func secrets(r envelope.Route) (all []string) {
	for _, a := range append([]envelope.Address{r.Target}, r.Via...) {
		if len(squeeze(a.Local())) >= 5 {
			all = append(all, a.Local())
		}
		if a.Domain() != "" {
			all = append(all, a.Domain(), queueDomain(a))
		}
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
