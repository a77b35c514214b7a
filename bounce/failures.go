package bounce

import "srsd/envelope"

// A Failure is one recipient that a report says has failed.
type Failure struct {
	Target envelope.Address // of an alias
	Alias  envelope.Address // that leads there
	Reply  envelope.Reply   // the report's words
}

// Failures reads from a report which of our targets it says have failed for
// good; none where it is no report, or speaks of nobody we know. Anybody can
// write a report: whoever acts on one must know where it came from.
func (h Hider) Failures(body envelope.Body, to envelope.Address) ([]Failure, error) {
	text, err := beginning(body)
	if err != nil || !isReport(text) {
		return nil, err
	}
	root, err := parseMessage(text)
	if err != nil {
		return nil, nil
	}
	r, err := read(root)
	if err != nil {
		return nil, nil
	}
	_, about, _ := h.names(r, to)
	var all []Failure
	seen := map[envelope.Address]bool{}
	for _, v := range r.verdicts {
		if v.reply.Code/100 != 5 || v.action != Failed && v.action != "" {
			continue
		}
		for _, x := range about {
			if v.about.has(x.target) && !x.mailbox.IsNull() && !seen[x.mailbox] {
				seen[x.mailbox] = true
				all = append(all, Failure{Target: x.mailbox, Alias: x.alias, Reply: v.reply})
			}
		}
	}
	return all, nil
}
