package forward

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"srsd/envelope"
)

// A parser reads the files of one table.
type parser struct {
	t        *Table
	errs     ErrorList
	seen     map[string]domain
	srs      map[string]bool
	infer    bool // Config names no domains: those of the names are ours
	includes string
	included int64 // octets read by :include: so far
	postfix  bool

	out    strings.Builder // becomes the book's text
	key    []byte          // of the entry under construction
	items  []item          // of the entry under construction
	links  []link          // targets that must be looked at when all is read
	res    map[string]place
	broken map[string]bool // keys of entries with mistakes
	lone   place           // of an item that must stand alone, where there is one
	bare   bool            // a name without a domain has been warned about
}

func newParser(t *Table, c Config) *parser {
	p := &parser{
		t:        t,
		seen:     make(map[string]domain),
		srs:      make(map[string]bool),
		infer:    len(c.Domains) == 0,
		includes: c.IncludeDir,
		postfix:  c.Postfix,
		res:      make(map[string]place),
		broken:   make(map[string]bool),
	}
	for _, d := range c.SRSDomains {
		p.srs[foldDomain(d)] = true
	}
	return p
}

// fail notes a mistake. Warnings and errors share their bound.
func (p *parser) fail(at place, format string, args ...any) { p.note(false, at, format, args...) }

func (p *parser) warn(at place, format string, args ...any) { p.note(true, at, format, args...) }

func (p *parser) note(warning bool, at place, format string, args ...any) {
	if len(p.errs) >= maxErrors && (warning || p.errs.Fatal()) {
		return
	}
	e := Error{Text: fmt.Sprintf(format, args...), Warning: warning}
	if at.s != nil {
		e.File, e.Line, e.Col = p.name(at.s.file), at.line, at.col()
	}
	p.errs = append(p.errs, e)
}

// name is a file's name; files count from 1.
func (p *parser) name(file int) string { return p.t.files[file-1] }

// file reads an alias file. Its first entry says whether the names end in
// colons, as in aliases(5), or in white space, as in virtual(5).
func (p *parser) file(s *scanner) {
	virtual := false
	for first := true; s.nextEntry(); first = false {
		if c := s.peek(); c == ' ' || c == '\t' {
			s.blanks()
			p.fail(s.here(), "a line that begins with white space continues an entry, and there is none")
			continue
		}
		if first {
			virtual = s.virtual()
		}
		p.entry(s, virtual)
	}
}

// virtual says whether an entry at the start of a file is one of virtual(5): an
// address, a domain or a regexp, no colon, and something behind it.
func (s *scanner) virtual() bool {
	look := *s
	if s.peek() == '/' {
		look.slashes()
	} else if w, _ := look.word(':'); !strings.ContainsAny(w, "@.") {
		return false
	}
	if look.peek() == ':' {
		return false
	}
	look.blanks()
	return look.pos < len(look.text) && look.peek() != ':' && look.peek() != '\n'
}

// entry reads a name and what it stands for.
func (p *parser) entry(s *scanner, virtual bool) {
	at := s.here()
	s.comment = place{}
	p.key, p.items, p.lone = p.key[:0], p.items[:0], place{}
	start := uint32(p.out.Len())
	links := len(p.links)
	re, ok := p.left(s, at)
	if ok = ok && p.colon(s, at, virtual, re); !ok {
		return
	}
	if virtual && re == nil && p.isDomainLine() {
		p.warn(at, "virtual(5) names a domain here: domains are listed in forward.domains")
		return
	}
	if !p.right(s, at, re) {
		p.links = p.links[:links]
		p.broken[string(p.key)] = true
		return
	}
	if len(p.items) > p.t.maxTargets {
		p.warn(at, "%d targets, forward.max_targets is %d: mail to this alias will be deferred", len(p.items), p.t.maxTargets)
	}
	switch {
	case re != nil:
		p.t.patterns = append(p.t.patterns, pattern{re, start})
	case !p.insert(at, start):
		p.links = p.links[:links]
		return
	}
	appendEntry(&p.out, p.key, s.file, at.line, p.items)
	if p.postfix && s.comment.s != nil {
		p.warn(s.comment, "# starts a comment here; in Postfix only at the start of a line")
	}
}

// insert puts the entry's key into the index, if it is the first of its name.
func (p *parser) insert(at place, start uint32) bool {
	p.table()
	if old, ok := p.t.book.find(p.key); ok {
		e := p.t.book.at(old)
		p.fail(at, "%s has been defined in %s:%d: give all its targets in one place", showKey(e.key), p.name(e.file), e.line)
		return false
	}
	p.t.book.add(p.key, start)
	p.t.bare = p.t.bare || bytes.IndexByte(p.key, 0) < 0
	p.t.owners = p.t.owners || bytes.HasPrefix(p.key, []byte("owner-"))
	return true
}

// left reads a name: it leaves the key, or returns a regexp.
func (p *parser) left(s *scanner, at place) (*regexp.Regexp, bool) {
	if s.peek() == '/' {
		re, ok := p.regexp(s, at)
		return re, ok
	}
	w, complete := s.word(':')
	switch {
	case !complete:
		p.fail(at, "the quote does not end")
		return nil, false
	case w == "":
		p.fail(at, "there is no name in front of the colon")
		return nil, false
	case w[0] == '@':
		return nil, p.catchAll(w[1:], at)
	case w[0] == '*':
		p.fail(at, "%s: a catch-all is written @domain, without the asterisk", w)
		return nil, false
	}
	local, d, name, err := p.address(w)
	if err != nil {
		p.fail(at, "%s", problem(err))
		return nil, false
	}
	if name == "" && p.postfix && !p.bare {
		p.bare = true
		p.warn(at, "a name without a domain holds for every domain of forward.domains; in Postfix for $myorigin and $mydestination")
	}
	p.ownName(d, name, at)
	p.key = appendKey(p.key, foldLocal(local), d.folded)
	if d.srs && !isPostmaster(p.key) {
		p.warn(at, "%s is an SRS domain of ours: only postmaster can be an alias there", name)
	}
	return nil, true
}

func (p *parser) catchAll(name string, at place) bool {
	d, err := p.domain(name)
	if err != nil {
		p.fail(at, "%s", problem(err))
		return false
	}
	p.ownName(d, name, at)
	p.key = appendKey(p.key, "", d.folded)
	return true
}

// ownName notes the domain of a name.
func (p *parser) ownName(d domain, name string, at place) {
	switch {
	case name == "":
	case p.infer:
		p.t.own(d.folded)
	case !d.ours && !d.srs:
		p.warn(at, "%s is not in forward.domains: no mail will come here", name)
	}
}

// isDomainLine says whether the key is a name that can only be a domain.
func (p *parser) isDomainLine() bool {
	local, domain := cutKey(string(p.key))
	return domain == "" && strings.Contains(local, ".") && envelope.CheckDomain(local) == nil
}

// colon passes what separates a name from its targets.
func (p *parser) colon(s *scanner, at place, virtual bool, re *regexp.Regexp) bool {
	from := s.pos
	s.blanks()
	switch {
	case s.peek() == ':' && !(virtual && s.pos > from):
		if virtual {
			p.fail(s.here(), "the file began as one of virtual(5), without colons behind the names: decide for one form")
			return false
		}
		s.pos++
		return true
	case virtual && s.pos > from:
		return true
	case re != nil:
		p.fail(s.here(), "a colon must follow the regexp")
	default:
		p.fail(s.here(), "a colon must follow the name %s", strings.TrimSpace(s.text[at.pos:from]))
	}
	return false
}

// slashes passes text between slashes, on one line.
func (s *scanner) slashes() (text string, ok bool) {
	s.pos++
	from := s.pos
	for s.pos < len(s.text) && s.text[s.pos] != '/' && s.peek() != '\n' {
		if s.text[s.pos] == '\\' && s.pos+1 < len(s.text) && s.text[s.pos+1] != '\n' {
			s.pos++
		}
		s.pos++
	}
	if s.peek() != '/' {
		return "", false
	}
	s.pos++
	return s.text[from : s.pos-1], true
}

// problem is an error of package envelope without its prefix.
func problem(err error) string { return strings.TrimPrefix(err.Error(), "address: ") }

// regexp reads /regexp/ and anchors it: one that matches part of an address by
// accident opens a relay.
func (p *parser) regexp(s *scanner, at place) (*regexp.Regexp, bool) {
	source, ok := s.slashes()
	if !ok {
		p.fail(at, "the regexp does not end in a slash on its line")
		return nil, false
	}
	source = strings.ReplaceAll(source, `\/`, "/")
	if old, ok := p.res[source]; ok {
		p.fail(at, "this regexp stands in %s:%d already", p.name(old.s.file), old.line)
		return nil, false
	}
	p.res[strings.Clone(source)] = place{s: &scanner{file: s.file}, line: at.line}
	// By itself first: parentheses that close the anchored one would get out.
	re, err := regexp.Compile(source)
	if err == nil {
		re, err = regexp.Compile(`(?i)^(?:` + source + `)$`)
	}
	if err != nil {
		p.fail(at, "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil, false
	}
	if source == "" {
		p.fail(at, "the regexp is empty")
		return nil, false
	}
	return re, true
}
