package bounce

import (
	"bytes"
	"mime"
	"regexp"
	"strings"
)

// A replacer puts aliases in the place of targets, in every form in which a
// report may name them.
type replacer struct {
	rules   []rule
	secrets []string // lower case: what must not be left
}

// A rule replaces what a pattern finds.
type rule struct {
	find *regexp.Regexp
	with []byte
}

// words are local parts that are also words of reports: alone they are not
// replaced, because they would be found everywhere.
var words = regexp.MustCompile(`(?i)^(abuse|account|admin|address|contact|delivery|error|hello|host|info|mail|mailbox|mailer-daemon|me|message|office|postmaster|rcpt|recipient|root|sender|server|service|status|support|system|team|test|user|users|webmaster)$`)

func newReplacer(names []name) *replacer {
	r := &replacer{}
	for _, n := range names {
		r.add(n.target.String(), n.alias.String())
	}
	for _, n := range names {
		local, alias := n.target.Local(), n.alias.String()
		if len(local) < 3 || words.MatchString(local) || strings.Contains(strings.ToLower(alias), strings.ToLower(local)) {
			continue
		}
		// The local part alone, as whole words: "unknown user: jo.private".
		r.rules = append(r.rules, rule{regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(local) + `\b`), []byte(n.alias.Local())})
		r.secrets = append(r.secrets, strings.ToLower(local))
	}
	return r
}

// add makes the rules for one address: plain, and with its signs written as in
// xtext (RFC 3461), percent encoding (RFC 2231) and HTML.
func (r *replacer) add(target, alias string) {
	var forms strings.Builder
	for i := 0; i < len(target); i++ {
		c := target[i]
		plain := regexp.QuoteMeta(target[i : i+1])
		hex := strings.ToUpper(hexOf(c))
		forms.WriteString(`(?:` + plain + `|[+%]` + hex + `|&#x0*` + hex + `;|&#0*` + decimal(c) + `;)`)
	}
	r.rules = append(r.rules, rule{regexp.MustCompile(`(?i)` + forms.String()), []byte(alias)})
	r.secrets = append(r.secrets, strings.ToLower(target))
}

func hexOf(c byte) string {
	const digits = "0123456789ABCDEF"
	return string([]byte{digits[c>>4], digits[c&15]})
}

func decimal(c byte) string {
	s := []byte{'0' + c/100, '0' + c/10%10, '0' + c%10}
	return string(bytes.TrimLeft(s, "0"))
}

func (r *replacer) replace(text []byte) []byte {
	for _, rule := range r.rules {
		text = rule.find.ReplaceAllLiteral(text, rule.with)
	}
	return text
}

// part replaces in the header and the content of one part.
func (r *replacer) part(p *part) error {
	for i, f := range p.header {
		p.header[i].raw = r.field(f)
	}
	if p.content == nil {
		return nil
	}
	text, err := p.decode()
	if err != nil {
		return err
	}
	if replaced := r.replace(text); !bytes.Equal(replaced, text) {
		p.encode(replaced)
	}
	return nil
}

// field replaces in a header field, also where it is folded or in encoded
// words (RFC 2047).
func (r *replacer) field(f field) []byte {
	replaced := r.replace(f.raw)
	decoder := mime.WordDecoder{}
	plain, err := decoder.DecodeHeader(f.value())
	if err != nil {
		return replaced
	}
	clean := r.replace([]byte(plain))
	if bytes.Equal(clean, []byte(plain)) {
		return replaced
	}
	if bytes.Equal(r.replace(unfold(replaced)), unfold(replaced)) && plain == f.value() {
		return replaced
	}
	name, _, _ := bytes.Cut(f.raw, []byte(":"))
	return []byte(string(name) + ": " + fold(mime.QEncoding.Encode("utf-8", string(clean))) + "\r\n")
}

func unfold(raw []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n\t"), []byte(" ")), []byte("\r\n "), []byte(" "))
}
