package bounce

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"srsd/envelope"
)

// A reading is whom a report names and what it says of them, before anything
// is looked up.
type reading struct {
	named     addressSet // anywhere
	failed    addressSet // where a report says who failed
	delivered addressSet // in Delivered-To: srsd writes the alias there on the way out
	verdicts  []verdict
	words     []byte // the first enhanced status code in the part for people
}

// A verdict is what a report says about one recipient.
type verdict struct {
	about  addressSet
	action Action
	reply  envelope.Reply
}

// maxAddresses is how many distinct addresses of a report are looked at.
const maxAddresses = 500

// An addressSet keeps addresses in the order in which they came.
type addressSet struct {
	list []envelope.Address
	keys map[string]bool
}

func (s *addressSet) add(a envelope.Address) {
	if s.keys == nil {
		s.keys = map[string]bool{}
	}
	if k := a.Key(); !s.keys[k] {
		s.keys[k] = true
		s.list = append(s.list, a)
	}
}

func (s *addressSet) has(a envelope.Address) bool { return s.keys[a.Key()] }

// read reads a report that has been taken apart.
func read(root *part) (*reading, error) {
	r := &reading{}
	err := root.walk(func(p *part, returned bool) error {
		r.header(p.header, returned)
		if p.content == nil {
			return nil
		}
		text, err := p.decode()
		if err != nil {
			return err
		}
		r.text(p, text, returned)
		if len(r.named.list) > maxAddresses {
			return errUnparsable
		}
		return nil
	})
	if len(r.verdicts) == 0 && r.words != nil && r.words[0] != '2' && len(r.failed.list) > 0 {
		r.verdicts = []verdict{{action: Failed, about: r.failed, reply: replyOf(string(r.words), "")}}
	}
	return r, err
}

func (r *reading) header(fields []field, returned bool) {
	for _, f := range fields {
		collect(f.raw, &r.named)
		switch {
		case f.name == "x-failed-recipients" && !returned:
			collect(f.raw, &r.failed)
		case f.name == "delivered-to":
			collect(f.raw, &r.delivered)
		}
	}
}

func (r *reading) text(p *part, text []byte, returned bool) {
	switch {
	case strings.HasSuffix(p.kind, "delivery-status") && !returned:
		collect(text, &r.named)
		r.status(text)
	case p.kind == "text/rfc822-headers" || p.kind == "message/global-headers":
		var h part
		if _, err := h.readHeader(text); err == nil {
			r.header(h.header, true)
		}
		collect(text, &r.named)
	default:
		collect(text, &r.named)
		if strings.HasPrefix(p.kind, "text/") && !returned {
			note, copied := cutCopy(text)
			r.notice(note)
			var h part
			if _, err := h.readHeader(bytes.TrimLeft(copied, "\r\n")); err == nil {
				r.header(h.header, true)
			}
		}
	}
}

// status reads a delivery-status part: RFC 3464, section 2.
func (r *reading) status(text []byte) {
	for len(text) > 0 && len(r.failed.list) <= maxFailed {
		var group part
		rest, err := group.readHeader(text)
		if err != nil {
			return
		}
		text = bytes.TrimLeft(rest, "\r\n")
		v := verdict{action: Action(strings.ToLower(group.get("action")))}
		for _, name := range []string{"final-recipient", "original-recipient"} {
			for _, f := range group.header {
				if f.name == name {
					collect(f.raw, &v.about, &r.failed)
				}
			}
		}
		if len(v.about.list) == 0 {
			continue
		}
		if m := enhanced.FindStringSubmatch(group.get("status")); m != nil {
			v.reply = replyOf(m[0], unfoldText(group.get("diagnostic-code")))
		}
		r.verdicts = append(r.verdicts, v)
	}
}

// notice reads the part for people. Every system begins a line with the address
// that failed.
func (r *reading) notice(text []byte) {
	for line := range bytes.Lines(text) {
		if bytes.IndexByte(line, '@') < 0 {
			continue
		}
		if m := lineOfAddress.FindSubmatch(line); m != nil {
			collect(m[1], &r.failed)
		}
		if m := expandedFrom.FindSubmatch(line); m != nil {
			collect(m[1], &r.failed)
		}
	}
	if r.words == nil {
		r.words = enhanced.Find(text)
	}
}

var (
	lineOfAddress = regexp.MustCompile(`^[\s>*'"<(]*([^\s<>*'"():;,]{1,64}@[^\s<>*'"():;,]{1,255})`)
	expandedFrom  = regexp.MustCompile(`(?i)(?:expanded|generated) from:?\s*([^\s)]+)`)
	enhanced      = regexp.MustCompile(`\b[245]\.\d{1,3}\.\d{1,3}\b`)
)

// maxWords is how much of a diagnostic is kept, in octets.
const maxWords = 400

// replyOf makes a reply of a status and the words that go with it.
func replyOf(status, text string) envelope.Reply {
	var code envelope.EnhancedCode
	for i, digits := range strings.SplitN(status, ".", 3) {
		for _, d := range digits {
			code[i] = code[i]*10 + int(d-'0')
		}
	}
	return envelope.NewReply(code[0]*100+50, code, "%s", text[:min(len(text), maxWords)])
}

func unfoldText(s string) string { return strings.Join(strings.Fields(s), " ") }

// copies are the lines behind which mail systems put the copy of the message in
// the same text: qmail, Exim, Sendmail before MIME, Yahoo and others.
var copies = regexp.MustCompile(`(?mi)^(--- (Below this line is|Below the next line is|Original message follows)|-{2,} ?This is a copy of|[ \t]*-{2,}[ \t]*(Original message|Unsent message|Message text|Message header|Returned message|Below)|The original message was)[^\r\n]*\r?\n`)

// maxNotice is where the text for people ends at the latest.
const maxNotice = 32 << 10

// cutCopy cuts a report's text where the copy of the message begins.
func cutCopy(text []byte) (note, copied []byte) {
	end := min(len(text), maxNotice)
	for _, m := range copies.FindAllIndex(text[:end], 8) {
		// "The original message was received at …" stands at the top of
		// Sendmail's reports.
		if line := text[m[0]:m[1]]; !bytes.Contains(bytes.ToLower(line), []byte("received at")) {
			return text[:m[0]], text[m[1]:]
		}
	}
	return text[:end], text[end:]
}

const (
	atext       = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~."
	punctuation = "'*/=|{}`!#"
)

// collect finds what may be an address.
func collect(text []byte, sets ...*addressSet) {
	for from := 0; ; {
		at := bytes.IndexByte(text[from:], '@')
		if at < 0 {
			return
		}
		at += from
		from = at + 1
		start, end := at, at+1
		for start > 0 && at-start < envelope.MaxLocal && (text[start-1] >= 0x80 || strings.IndexByte(atext, text[start-1]) >= 0) {
			start--
		}
		for end < len(text) && end-at < envelope.MaxDomain && (alphanumeric(text[end]) || strings.IndexByte(".-_", text[end]) >= 0) {
			end++
		}
		if start == at || end == at+1 {
			continue
		}
		whole := bytes.TrimRight(text[start:end], ".-_")
		local := text[start:at]
		candidates := [][]byte{whole}
		// 'jo@t.example' and to=jo@t.example: more than the address.
		if i := bytes.LastIndexAny(local, punctuation); i >= 0 {
			candidates = append(candidates, whole[min(i+1, len(whole)):])
		}
		for _, c := range candidates {
			a, err := envelope.ParseAddress(string(bytes.TrimLeft(c, ".")))
			if err != nil {
				continue
			}
			for _, s := range sets {
				s.add(a)
			}
		}
		if len(sets[0].list) > maxAddresses {
			return
		}
	}
}

// sameMailbox says whether two addresses are likely one mailbox: the same local
// part but for its detail and its dots, in a domain and one below it.
func sameMailbox(a, b envelope.Address) bool {
	d, e := lower(a.Domain()), lower(b.Domain())
	if len(d) < len(e) {
		d, e = e, d
	}
	return bareLocal(a) == bareLocal(b) && (d == e || strings.HasSuffix(d, "."+e))
}

func bareLocal(a envelope.Address) string {
	local, _, _ := strings.Cut(lower(a.Local()), "+")
	return strings.ReplaceAll(local, ".", "")
}

// exclude returns the addresses without those that fn wants away.
func exclude(list []envelope.Address, fn func(envelope.Address) bool) []envelope.Address {
	return slices.DeleteFunc(slices.Clone(list), fn)
}
