package forward

import (
	"fmt"
	"strings"

	"srsd/envelope"
)

// What a disposition says that gives no text or no code of its own.
const (
	failDefault  = "550 5.2.1 this address does not accept mail"
	deferDefault = "450 4.2.1 this address does not accept mail at the moment"
)

// maxText bounds the text of a disposition, so that its reply is one line of
// RFC 5321, section 4.5.3.1.5, with room for the recipient.
const maxText = 400

// directive reads an item that begins with a colon, or error:NNN.
func (p *parser) directive(s *scanner, at place, groups, depth int) bool {
	if n := cutFold(s.text[s.pos:], "error:"); n >= 0 {
		s.pos += n
		return p.disposition(s, at, "error:", "")
	}
	end := strings.IndexByte(s.text[s.pos+1:], ':')
	name := ""
	if end >= 0 {
		name = s.text[s.pos : s.pos+end+2]
	}
	switch lower := strings.ToLower(name); lower {
	case ":include:":
		s.pos += len(name)
		s.blanks()
		path, _ := s.word(0)
		return p.include(strings.Trim(path, `"`), at, groups, depth)
	case ":fail:":
		s.pos += len(name)
		return p.disposition(s, at, lower, failDefault)
	case ":defer:":
		s.pos += len(name)
		return p.disposition(s, at, lower, deferDefault)
	case ":blackhole:":
		s.pos += len(name)
		p.lone = at
		p.items = append(p.items, item{kind: itemBlackhole})
		return true
	}
	w, _ := s.word(0)
	p.fail(at, "%s is unknown: there are :include:, :fail:, :defer: and :blackhole:", w)
	return false
}

// disposition reads the reply of :fail:, :defer: or error:, which reaches to
// the end of the logical line, commas and all.
func (p *parser) disposition(s *scanner, at place, name, standard string) bool {
	var words []string
	for s.more() {
		if s.list && s.crossed {
			p.fail(at, "%s stands alone, without other targets", name)
			return false
		}
		from := s.pos
		for s.pos < len(s.text) && s.peek() != '\n' && s.peek() != ' ' && s.peek() != '\t' {
			s.pos++
		}
		words = append(words, s.text[from:s.pos])
	}
	reply, err := parseReply(strings.Join(words, " "), standard)
	if err != nil {
		p.fail(at, "%s %v", name, err)
		return false
	}
	p.lone = at
	p.items = append(p.items, item{kind: itemReply, text: reply.String()})
	return true
}

// parseReply reads "[NNN] [x.y.z] [text]". What is missing comes from standard,
// which also gives the class; without one the code must be there.
func parseReply(s, standard string) (envelope.Reply, error) {
	reply := cutReply(s)
	if standard == "" {
		if reply.Code == 0 {
			return envelope.Reply{}, fmt.Errorf("needs a code, as in error:550")
		}
		standard = failDefault
		switch reply.Code / 100 {
		case 4:
			standard = deferDefault
		case 5:
		default:
			return reply, fmt.Errorf("needs a code of 4yz or 5yz, not %d", reply.Code)
		}
	}
	def := cutReply(standard)
	if reply.Code == 0 {
		reply.Code = def.Code
	}
	if reply.Enhanced == (envelope.EnhancedCode{}) {
		reply.Enhanced = def.Enhanced
	}
	if reply.Text == "" {
		reply.Text = def.Text
	}
	return reply, checkReply(reply, def.Code/100)
}

func checkReply(r envelope.Reply, class int) error {
	switch {
	case r.Code/100 != class:
		return fmt.Errorf("needs a code of %dyz, not %d", class, r.Code)
	case r.Code%100/10 > 5 || r.Code == 421 || r.Code == 521:
		return fmt.Errorf("%d is no reply to a recipient", r.Code)
	case r.Enhanced[0] != class:
		return fmt.Errorf("needs an enhanced code of %d.y.z, not %v", class, r.Enhanced)
	case len(r.Text) > maxText:
		return fmt.Errorf("has a text of %d octets, %d are allowed", len(r.Text), maxText)
	}
	for _, c := range []byte(r.Text) {
		if c >= 0x7f {
			return fmt.Errorf("needs a text in ASCII: the client may not understand another")
		}
	}
	return nil
}

// cutReply takes a reply apart, as far as it is one.
func cutReply(s string) envelope.Reply {
	var r envelope.Reply
	word, rest, _ := strings.Cut(s, " ")
	if code, ok := digits(word, 3, 3); ok {
		r.Code, s = code, rest
		word, rest, _ = strings.Cut(s, " ")
	}
	if parts := strings.Split(word, "."); len(parts) == 3 {
		class, ok1 := digits(parts[0], 1, 1)
		subject, ok2 := digits(parts[1], 1, 3)
		detail, ok3 := digits(parts[2], 1, 3)
		if ok1 && ok2 && ok3 {
			r.Enhanced, s = envelope.EnhancedCode{class, subject, detail}, rest
		}
	}
	r.Text = s
	return r
}

// digits is the number that s is, where it has that many digits and no more.
func digits(s string, least, most int) (n int, ok bool) {
	if len(s) < least || len(s) > most {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}
