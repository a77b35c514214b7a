package bounce

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"srsd/envelope"
)

// A Hider makes reports that come home name the alias instead of the address
// behind it. All of its functions are required but Now.
type Hider struct {
	Hostname string // of this relay
	// Ours says whether an address is in a domain of ours: such addresses are
	// no secret.
	Ours func(envelope.Address) bool
	// Targets returns what is behind an address of ours; none where it is no
	// alias.
	Targets func(alias envelope.Address) []envelope.Address
	// Aliases returns the aliases that lead to a target, the nearest first. It
	// is asked only about reports that name no alias.
	Aliases func(target envelope.Address) []envelope.Address
	Now     func() time.Time // nil: time.Now
}

// Hide returns a report as its recipient, to, may see it. What is no report, and
// a report that names no target, is returned as it is. A report in which every
// trace of the targets could be replaced keeps its form; of any other only the
// status goes on, in a report of our own, whose id makes its Message-ID.
func (h Hider) Hide(body envelope.Body, to envelope.Address, id string) (envelope.Body, error) {
	text, err := beginning(body)
	if err != nil {
		return nil, err
	}
	if !isReport(text) {
		return body, nil
	}
	if body.Size() <= maxReport {
		out, ok := h.rewrite(text, to)
		switch {
		case ok && bytes.Equal(out, text):
			return body, nil
		case ok:
			return bytes.NewReader(out), nil
		}
	}
	out, err := h.replace(text, to, id)
	return bytes.NewReader(out), err
}

// beginning is as much of a body as is looked at.
func beginning(body envelope.Body) ([]byte, error) {
	text := make([]byte, min(body.Size(), maxReport))
	n, err := body.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("bounce: reading the report: %w", err)
	}
	return text[:n], nil
}

var (
	// senders are the names by which mail systems sign their reports.
	senders = regexp.MustCompile(`(?i)mailer[-_. ]?daemon|postmaster|mail delivery (sub)?system|microsoft exchange|mail administrator|complaints?@|bounce[sd]?@`)
	// subjects are what they write above them.
	subjects = regexp.MustCompile(`(?i)undeliver|delivery (status|failure|notification|report|has failed)|(mail|message) delivery (failed|failure)|delivery .*(failed|failure|delayed)|returned (to sender|mail)|failure notice|could not be delivered|non[- ]?delivery|unzustellbar|non remis`)
)

// isReport recognises reports by their header: multipart/report (Postfix, Exim,
// Sendmail, Exchange, Gmail), X-Failed-Recipients (Exim, Gmail, Yahoo), or a
// sender or subject that no person would use (qmail's QSBMF, and the old forms
// of the others). A status anywhere makes a report of anything.
func isReport(text []byte) bool {
	var p part
	if _, err := p.readHeader(text); err != nil {
		return true // whatever it is, it is not for passing on unread
	}
	kind, _, _ := strings.Cut(strings.ToLower(p.get("content-type")), ";")
	return strings.TrimSpace(kind) == "multipart/report" || p.get("x-failed-recipients") != "" ||
		senders.MatchString(p.get("from")) || subjects.MatchString(decodeWords(p.get("subject"))) ||
		bytes.Contains(text, []byte("message/delivery-status"))
}

// rewrite replaces the targets in every part of a report. ok is false where
// that cannot be done without doubt.
func (h Hider) rewrite(text []byte, to envelope.Address) (out []byte, ok bool) {
	root, err := parseMessage(text)
	if err != nil {
		return nil, false
	}
	r, err := read(root)
	if err != nil {
		return nil, false
	}
	names, _, ok := h.names(r, to)
	if !ok {
		return nil, false
	}
	if len(names) == 0 {
		return text, true // it is about addresses of ours only
	}
	w := rewriter{finder: newFinder(names), trace: h.traceOf(root)}
	if err := root.walk(w.part); err != nil || w.found {
		return nil, false
	}
	var b bytes.Buffer
	root.write(&b)
	return b.Bytes(), !w.leaks(b.Bytes())
}

// traceOf is how many fields on top of a message are those that srsd has just
// put there: up to its own Received.
func (h Hider) traceOf(p *part) int {
	for i, f := range p.header {
		if f.name == "received" {
			if h.isOurs(f) {
				return i + 1
			}
			return 0
		}
	}
	return 0
}

func (h Hider) isOurs(f field) bool {
	return strings.Contains(f.value(), "by "+h.Hostname+" ")
}

// replace is a report of our own in the place of one that names too much. The
// recipient is named only where the report says which alias it was.
func (h Hider) replace(text []byte, to envelope.Address, id string) ([]byte, error) {
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	r := Report{
		Hostname: h.Hostname, ID: id, Date: now(), To: to, Action: Failed, Received: now(), RetryUntil: now(),
	}
	alias := h.unknown()
	v := verdict{reply: envelope.NewReply(550, envelope.EnhancedCode{5, 0, 0}, "")}
	var trace []byte
	if root, err := parseMessage(text); err == nil {
		reading, _ := read(root)
		names, about, _ := h.names(reading, to)
		if len(about) > 0 {
			alias = about[0].alias
		} else if len(names) > 0 && !slices.ContainsFunc(names, func(n name) bool { return n.alias != names[0].alias }) {
			alias = names[0].alias
		}
		if len(reading.verdicts) > 0 {
			v = reading.verdicts[0]
		} else if m := statusLine.FindSubmatch(text[:min(len(text), maxNotice)]); m != nil {
			v.reply = replyOf(string(m[1]), "")
		}
		trace = h.trace(root)
	} else if m := statusLine.FindSubmatch(text[:min(len(text), maxNotice)]); m != nil {
		v.reply = replyOf(string(m[1]), "")
	}
	switch v.reply.Code / 100 {
	case 2:
		r.Action = Relayed
	case 4:
		r.Action = Delayed
		if v.action == Failed {
			r.Action = Failed
		}
	case 0:
		v.reply = envelope.NewReply(550, envelope.EnhancedCode{5, 0, 0}, "")
	}
	v.reply.Text = "so the recipient's mail system says; its own report is withheld, because it names addresses that are not public"
	r.Recipients = []Recipient{{Alias: alias, Reply: v.reply}}
	out, err := r.Bytes()
	return append(trace, out...), err
}

// statusLine finds an enhanced status code in a report that cannot be parsed.
var statusLine = regexp.MustCompile(`(?im)^Status:[ \t]*([245]\.\d{1,3}\.\d{1,3})`)

// trace is what must stay of a report's header in whatever takes its place: the
// fields on top that srsd has put there, and its Received fields below, which
// end a loop.
func (h Hider) trace(root *part) (out []byte) {
	n := h.traceOf(root)
	for i, f := range root.header {
		if i < n || f.name == "received" && h.isOurs(f) {
			out = append(out, f.raw...)
		}
	}
	return out
}

// unknown stands for a recipient that the report does not let us name.
func (h Hider) unknown() envelope.Address {
	a, err := envelope.NewAddress("undisclosed-recipient", h.Hostname)
	if err != nil {
		return envelope.Address{}
	}
	return a
}
