package forward

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"srsd/envelope"
)

// noGroups is the number of groups where there is no regexp: a dollar is an
// ordinary letter then.
const noGroups = -1

// right reads the targets of an entry, re for a regexp, and says whether they
// are all well.
func (p *parser) right(s *scanner, at place, re *regexp.Regexp) bool {
	groups := noGroups
	if re != nil {
		groups = re.NumSubexp()
	}
	switch {
	case !p.list(s, groups, 0):
		return false
	case len(p.items) == 0:
		p.fail(s.endOf(at), "there is no target: to refuse mail, write :fail:")
		return false
	case p.lone.s != nil && len(p.items) > 1:
		p.fail(p.lone, ":fail:, :defer: and :blackhole: stand alone, without other targets")
		return false
	case p.lone.s != nil && p.items[0].kind == itemReply && isPostmaster(p.key):
		p.fail(p.lone, "postmaster must be accepted everywhere (RFC 5321, section 4.5.1)")
		return false
	}
	return true
}

// endOf is the place to point at where something is missing behind at.
func (s *scanner) endOf(at place) place {
	if i := strings.IndexByte(s.text[at.pos:], '\n'); i >= 0 {
		at.pos += i
	} else {
		at.pos = len(s.text)
	}
	if at.pos > 0 && strings.HasPrefix(s.text[at.pos-1:], "\r\n") {
		at.pos--
	}
	return at
}

// list reads items up to the end of the logical line.
func (p *parser) list(s *scanner, groups int, depth int) bool {
	ok := true
	for n := 0; s.more(); n++ {
		at := s.here()
		if s.peek() == ',' {
			p.fail(at, "there is no target in front of the comma")
			return false
		}
		if !p.item(s, at, groups, depth) {
			ok = false
			s.skipItem(at)
		}
		s.crossed = false
		if !s.more() {
			break
		}
		comma := s.here()
		switch {
		case s.peek() == ',':
			s.pos++
			if !s.more() {
				p.fail(comma, "the list ends in a comma: is the file complete?")
				return false
			}
		case !s.list || !s.crossed:
			p.fail(comma, "a comma must stand between two targets")
			return false
		}
	}
	return ok
}

// skipItem goes behind a bad item, so that what follows is not taken for another
// mistake. A command may have commas in it.
func (s *scanner) skipItem(at place) {
	if s.ended {
		return
	}
	if strings.Trim(s.text[at.pos:at.pos+1], `|"`) == "" {
		s.restOfLine()
	}
	for s.pos < len(s.text) && s.text[s.pos] != ',' && s.peek() != '\n' {
		s.pos++
	}
}

// item reads one target.
func (p *parser) item(s *scanner, at place, groups int, depth int) bool {
	if strings.HasPrefix(s.text[s.pos:], ":") || cutFold(s.text[s.pos:], "error:") >= 0 {
		return p.directive(s, at, groups, depth)
	}
	w, complete := s.word(0)
	if !complete {
		p.fail(at, "the quote does not end")
		return false
	}
	if text := refused(w); text != "" {
		p.fail(at, "%s", text)
		return false
	}
	if groups != noGroups && strings.Contains(w, "$") {
		return p.template(w, groups, at)
	}
	if w[0] == '@' {
		if p.postfix && len(p.items) > 0 {
			p.warn(at, "%s keeps the local part; in Postfix only the first target does", w)
		}
		d, err := p.domain(w[1:])
		if err != nil {
			p.fail(at, "%s", problem(err))
			return false
		}
		p.target(item{kind: itemDomain, text: w[1:]}, "", d, at)
		return !p.atSRS(d, w, at)
	}
	local, d, name, err := p.address(w)
	if err != nil {
		p.fail(at, "%s", problem(err))
		return false
	}
	if name == "" {
		p.target(item{kind: itemName, text: local}, local, domain{ours: true}, at)
		return true
	}
	p.target(item{itemAddress, local, name}, local, d, at)
	return !p.atSRS(d, w, at)
}

func (p *parser) atSRS(d domain, w string, at place) bool {
	if d.srs && !p.t.domains[d.folded] {
		p.fail(at, "%s is an SRS domain of ours: only bounces come there", strings.TrimPrefix(w, "@"))
		return true
	}
	return false
}

// target adds an item, and remembers it where it leads back into the table.
func (p *parser) target(it item, local string, d domain, at place) {
	p.items = append(p.items, it)
	if d.ours {
		p.links = append(p.links, link{from: uint32(p.out.Len()), kind: it.kind, local: local, domain: d.folded, at: at})
	}
}

// refused says why a word is no target for a relay, which has neither users nor
// files of its own; "" where it may be one.
func refused(w string) string {
	inner := w
	if n := len(w); n > 1 && w[0] == '"' && w[n-1] == '"' {
		inner = w[1 : n-1]
	} else if w[0] == '"' {
		return ""
	}
	switch {
	case inner == "":
		return "an empty name is no target"
	case inner[0] == '|':
		return "commands are not run here: srsd is a relay and has no users to run them for"
	case inner[0] == '/' || inner[0] == '~':
		return "mail is not written to files here: srsd is a relay and has no mailboxes"
	case inner[0] == '\\':
		return `\user delivers to a local mailbox, and srsd has none: name the address where the mail is to go`
	case inner[0] == '<':
		return "write the address alone, without angle brackets"
	case inner != w && inner[0] == ':':
		return "write " + inner + " without quotes"
	}
	return ""
}

// template reads a target of a regexp that uses its groups.
func (p *parser) template(w string, groups int, at place) bool {
	local, name, has := strings.Cut(w, "@")
	if strings.Contains(name, "$") {
		p.fail(at, "$ is allowed in the local part only: a sender must not choose the domain that mail goes to")
		return false
	}
	if err := checkTemplate(local, groups); err != nil {
		p.fail(at, "%v", err)
		return false
	}
	if !has {
		p.items = append(p.items, item{kind: itemPattern, text: local})
		return true
	}
	d, err := p.domain(name)
	if err != nil {
		p.fail(at, "%s", problem(err))
		return false
	}
	p.items = append(p.items, item{itemTemplate, local, name})
	return !p.atSRS(d, name, at)
}

// checkTemplate tries a template with groups that are one letter each.
func checkTemplate(local string, groups int) error {
	out, err := fill(local, strings.Split(strings.Repeat("x", groups+1), ""))
	if err != nil {
		return err
	}
	if _, err = envelope.NewAddress(out, "x"); err != nil {
		return errors.New(problem(err))
	}
	return nil
}

// fill puts groups in for $1, ${1} and $$.
func fill(template string, groups []string) (string, error) {
	var b strings.Builder
	for template != "" {
		i := strings.IndexByte(template, '$')
		if i < 0 {
			b.WriteString(template)
			break
		}
		b.WriteString(template[:i])
		template = template[i+1:]
		if strings.HasPrefix(template, "$") {
			b.WriteByte('$')
			template = template[1:]
			continue
		}
		n, rest, err := groupNumber(template)
		if err != nil {
			return "", err
		}
		template = rest
		if n >= len(groups) {
			return "", fmt.Errorf("the regexp has no group %d", n)
		}
		b.WriteString(groups[n])
	}
	return b.String(), nil
}

// groupNumber reads what follows a dollar.
func groupNumber(s string) (n int, rest string, err error) {
	digits, braced := s, strings.HasPrefix(s, "{")
	if braced {
		digits, rest, braced = strings.Cut(s[1:], "}")
		if !braced {
			return 0, "", errors.New("${ does not end in }")
		}
	} else {
		i := 0
		for i < len(s) && '0' <= s[i] && s[i] <= '9' {
			i++
		}
		digits, rest = s[:i], s[i:]
	}
	n, err = strconv.Atoi(digits)
	if err != nil || n < 1 || n > 99 {
		return 0, "", errors.New("$ stands for a group of the regexp, $1 to $99; write $$ for a dollar")
	}
	return n, rest, nil
}

// cutFold is the length of prefix where s begins with it in any case, else -1.
func cutFold(s, prefix string) int {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return len(prefix)
	}
	return -1
}

func isPostmaster(key []byte) bool {
	local, _ := cutKey(string(key))
	return local == postmaster
}
