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
// behind it.
type Hider struct {
	Hostname string // of this relay
	// Aliases says which aliases lead to a target; none where it is no target.
	Aliases func(target envelope.Address) []envelope.Address
	// Ours says whether an address is in a domain of ours: such addresses are
	// no secret.
	Ours func(envelope.Address) bool
	Now  func() time.Time // nil: time.Now
}

// Hide returns a report as its recipient, to, may see it. What is no report is
// returned as it is. A report in which every trace of the targets could be
// replaced keeps its form; of any other only the status goes on, in a report of
// our own, whose id makes its Message-ID.
func (h Hider) Hide(body envelope.Body, to envelope.Address, id string) (envelope.Body, error) {
	text := make([]byte, min(body.Size(), maxReport))
	n, err := body.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("bounce: reading the report: %w", err)
	}
	text = text[:n]
	if !isReport(text) {
		return body, nil
	}
	if body.Size() <= maxReport {
		if out, ok := h.rewrite(text); ok {
			return bytes.NewReader(out), nil
		}
	}
	out, err := h.replace(text, to, id)
	return bytes.NewReader(out), err
}

// senders are the names by which mail systems sign their reports.
var senders = regexp.MustCompile(`(?i)mailer-daemon|postmaster|mail delivery (sub)?system|microsoft exchange|complaints?@`)

// isReport recognises reports by their header: multipart/report (Postfix, Exim,
// Sendmail, Exchange, Gmail), X-Failed-Recipients (Exim, Gmail, Yahoo), or a
// sender that is no person (qmail's QSBMF, and the old forms of the others).
func isReport(text []byte) bool {
	var p part
	if _, err := p.readHeader(text); err != nil {
		return true // whatever it is, it is not for passing on unread
	}
	kind, _, _ := strings.Cut(strings.ToLower(p.get("content-type")), ";")
	return strings.TrimSpace(kind) == "multipart/report" || p.get("x-failed-recipients") != "" || senders.MatchString(p.get("from"))
}

// A name is a target found in a report, and the alias that stands for it.
type name struct{ target, alias envelope.Address }

// rewrite replaces the targets in every part of a report. ok is false where
// that cannot be done without doubt.
func (h Hider) rewrite(text []byte) (out []byte, ok bool) {
	root, err := parseMessage(text)
	if err != nil {
		return nil, false
	}
	names, err := h.findNames(root)
	if err != nil {
		return nil, false
	}
	if len(names) == 0 {
		return nil, false // whom it is about is unknown, so nothing says what to hide
	}
	r := newReplacer(names)
	if err := root.walk(r.part); err != nil {
		return nil, false
	}
	var b bytes.Buffer
	root.write(&b)
	if leaks(b.Bytes(), r.secrets) {
		return nil, false
	}
	return b.Bytes(), true
}

// addresses finds what may be an address.
var addresses = regexp.MustCompile(`[A-Za-z0-9!#$%&'*+/=?^_{|}~.\x60\x80-\xff-]+@[A-Za-z0-9_\x80-\xff-]+(?:\.[A-Za-z0-9_\x80-\xff-]+)+`)

// maxAddresses is how many distinct addresses of a report are looked up.
const maxAddresses = 200

// findNames finds the targets that a report names, each with its alias. Where
// several aliases lead to a target, the one that the report names itself is
// taken: srsd writes it into Delivered-To on the way out. An address in the
// fields that say who failed is a target too, whoever knows it: a target may
// forward.
func (h Hider) findNames(root *part) ([]name, error) {
	seen := map[string]envelope.Address{}
	failed := map[string]bool{}
	err := root.walk(func(p *part) error {
		for _, f := range p.header {
			collectAddresses(seen, nil, f.raw)
			if f.name == "x-failed-recipients" {
				collectAddresses(seen, failed, f.raw)
			}
		}
		if p.content == nil {
			return nil
		}
		text, err := p.decode()
		if err != nil {
			return err
		}
		collectAddresses(seen, nil, text)
		if strings.HasSuffix(p.kind, "delivery-status") {
			for _, line := range bytes.Split(text, []byte("\n")) {
				lower := bytes.ToLower(line)
				if bytes.HasPrefix(lower, []byte("final-recipient:")) || bytes.HasPrefix(lower, []byte("original-recipient:")) {
					collectAddresses(seen, failed, line)
				}
			}
		}
		if len(seen) > maxAddresses {
			return errUnparsable
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h.pair(seen, failed), nil
}

func collectAddresses(seen map[string]envelope.Address, failed map[string]bool, text []byte) {
	for _, m := range addresses.FindAll(text, maxAddresses+1) {
		a, err := envelope.ParseAddress(string(m))
		if err != nil {
			continue
		}
		seen[a.Key()] = a
		if failed != nil {
			failed[a.Key()] = true
		}
	}
}

func (h Hider) pair(seen map[string]envelope.Address, failed map[string]bool) []name {
	var names []name
	var known []envelope.Address // aliases that the report is about
	for _, key := range sortedKeys(seen) {
		aliases := h.Aliases(seen[key])
		if len(aliases) == 0 {
			continue
		}
		alias := aliases[0]
		for _, a := range aliases {
			if _, named := seen[a.Key()]; named {
				alias = a
				break
			}
		}
		names = append(names, name{seen[key], alias})
		known = append(known, alias)
		delete(failed, key)
	}
	if len(known) == 0 {
		for _, key := range sortedKeys(seen) {
			if a := seen[key]; h.Ours(a) && !strings.HasPrefix(strings.ToUpper(a.Local()), "SRS") {
				known = append(known, a)
				break
			}
		}
	}
	for _, key := range sortedKeys(failed) {
		if len(known) > 0 && !h.Ours(seen[key]) {
			names = append(names, name{seen[key], known[0]})
		}
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// statusLine finds an enhanced status code in a report that cannot be parsed.
var statusLine = regexp.MustCompile(`(?im)^Status:[ \t]*([245])\.(\d{1,3})\.(\d{1,3})`)

// replace is a report of our own in the place of one that names too much. The
// recipient is named only where the report says which alias it was.
func (h Hider) replace(text []byte, to envelope.Address, id string) ([]byte, error) {
	reply := envelope.NewReply(550, envelope.EnhancedCode{5, 0, 0}, "the recipient's mail system reported a failure")
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	action, alias := Failed, h.unknown()
	if root, err := parseMessage(text); err == nil {
		if names, err := h.findNames(root); err == nil && len(names) > 0 {
			alias = names[0].alias
		}
		// A body may be encoded; the status is looked for in the decoded text.
		_ = root.walk(func(p *part) error {
			if decoded, err := p.decode(); err == nil && strings.HasSuffix(p.kind, "delivery-status") {
				text = decoded
			}
			return nil
		})
	}
	if m := statusLine.FindSubmatch(text); m != nil {
		var s envelope.EnhancedCode
		for i := range s {
			fmt.Sscan(string(m[i+1]), &s[i])
		}
		reply.Enhanced, reply.Code = s, s[0]*100+50
		switch s[0] {
		case 2:
			action = Relayed
		case 4:
			action = Delayed
		}
	}
	r := Report{
		Hostname: h.Hostname, ID: id, Date: now(), To: to, Action: action, Received: now(), RetryUntil: now(),
		Recipients: []Recipient{{Alias: alias, Reply: reply}},
	}
	return r.Bytes()
}

// unknown stands for a recipient that the report does not let us name.
func (h Hider) unknown() envelope.Address {
	a, err := envelope.NewAddress("undisclosed-recipient", h.Hostname)
	if err != nil {
		return envelope.Address{}
	}
	return a
}
