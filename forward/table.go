// Package forward decides what becomes of a recipient: it goes on to the
// targets of an alias, it is a bounce on its way home, or it is refused.
//
// The alias table is a set of text files; aliases.example in the project's root
// teaches their language. Load reads it whole and says everything that is wrong
// with it, each mistake with its place; a Table never changes, so a reload
// makes another one and swaps. Expand follows aliases to their targets within
// bounds, whatever the table says. A Router adds the reverse-paths and says
// no to everybody else.
//
// Nothing here knows a local mailbox, runs a command or writes a file.
package forward

import (
	"hash/maphash"
	"regexp"
	"strings"

	"srsd/envelope"
)

// Config says what to load. Domains are compared without regard to case.
type Config struct {
	Domains    []string         // the domains that the table is about; none: those that it names
	SRSDomains []string         // where SRS addresses live; no target may be there
	Files      []string         // alias files, in the order in which they are read
	Dir        string           // of forward files, DOMAIN/USER; "" for none
	IncludeDir string           // where :include: may read; "" for nowhere
	Postmaster envelope.Address // where postmaster goes that has no alias
	MaxTargets int              // of one recipient; 0: 100
	MaxDepth   int              // aliases passed on the way to a target; 0: 10
	Postfix    bool             // warn where Postfix reads the files in another way
}

// The bounds where Config has none.
const (
	defaultTargets = 100
	defaultDepth   = 10
)

// A Table is a loaded set of alias files. It does not change, and any number of
// goroutines may use it.
type Table struct {
	book       book
	patterns   []pattern
	domains    map[string]bool
	bare       bool   // some name holds for all domains
	owners     bool   // some name begins with owner-
	first      string // of the domains: where bare postmaster lives
	files      []string
	dir        string
	postmaster envelope.Address
	maxTargets int
	maxDepth   int
	warnings   ErrorList
	back       backwards
}

// A pattern is a regexp with the place of its entry.
type pattern struct {
	re    *regexp.Regexp
	place uint32
}

// Load reads a table. Its error is an ErrorList of all mistakes and warnings in
// all files, where at least one is no mere warning.
func Load(c Config) (*Table, error) {
	t := newTable(c)
	p := newParser(t, c)
	p.files(c.Files)
	p.check()
	p.checkPostmaster()
	list := p.errs.sorted(t.files)
	if list.Fatal() {
		return nil, list
	}
	t.warnings = list
	return t, nil
}

// nowhere stands for the domain of a table that names none.
const nowhere = "nowhere.invalid"

func newTable(c Config) *Table {
	t := &Table{
		book:       book{seed: maphash.MakeSeed()},
		domains:    make(map[string]bool),
		dir:        c.Dir,
		postmaster: c.Postmaster,
		maxTargets: c.MaxTargets,
		maxDepth:   c.MaxDepth,
	}
	if t.maxTargets <= 0 {
		t.maxTargets = defaultTargets
	}
	if t.maxDepth <= 0 {
		t.maxDepth = defaultDepth
	}
	for _, d := range c.Domains {
		t.own(foldDomain(d))
	}
	return t
}

func (t *Table) own(folded string) {
	if t.first == "" {
		t.first = folded
	}
	t.domains[folded] = true
}

// Len is the number of names in the table, regexps not counted.
func (t *Table) Len() int { return t.book.used }

// Warnings is what Load had to say about files that it accepted.
func (t *Table) Warnings() ErrorList { return t.warnings }

// Owns says whether a domain is one of the table's.
func (t *Table) Owns(domain string) bool { return t.domains[foldDomain(domain)] }

// A hit is the entry that a name has led to.
type hit struct {
	entry
	place  uint32   // in the book
	groups []string // what the groups of a regexp have matched, the whole first
	exact  bool     // found by its name, not by a regexp or a catch-all
}

// find looks a folded address up, in the order of Postfix's virtual(5):
// name+detail@domain, name@domain, name+detail, name, the forward file, the
// regexps in their order, @domain. Without files, no forward file is looked at.
func (t *Table) find(local, domain string, files bool) (hit, bool, error) {
	var buf [envelope.MaxLocal + envelope.MaxDomain + 8]byte
	name, detailed := detail(local)
	for _, d := range [...]string{domain, ""} {
		if d == "" && !t.bare {
			break
		}
		if place, ok := t.book.find(appendKey(buf[:0], local, d)); ok {
			return hit{entry: t.book.at(place), place: place, exact: true}, true, nil
		}
		if !detailed {
			continue
		}
		if place, ok := t.book.find(appendKey(buf[:0], name, d)); ok {
			return hit{entry: t.book.at(place), place: place, exact: true}, true, nil
		}
	}
	if files && t.dir != "" {
		if h, ok, err := t.forwardFile(local, domain); ok || err != nil {
			return h, ok, err
		}
	}
	if local == postmaster {
		return t.postmasterHit()
	}
	for _, p := range t.patterns {
		if m := p.re.FindStringSubmatch(local + "@" + domain); m != nil {
			return hit{entry: t.book.at(p.place), place: p.place, groups: m}, true, nil
		}
	}
	if place, ok := t.book.find(appendKey(buf[:0], "", domain)); ok {
		return hit{entry: t.book.at(place), place: place}, true, nil
	}
	return hit{}, false, nil
}

// postmaster must be accepted at every domain: RFC 5321, section 4.5.1. So no
// regexp and no catch-all takes its mail by accident.
const postmaster = "postmaster"

func (t *Table) postmasterHit() (hit, bool, error) {
	if t.postmaster.IsNull() {
		return hit{}, false, nil
	}
	it := item{itemAddress, t.postmaster.Local(), t.postmaster.Domain()}
	return hit{entry: madeEntry(postmaster, []item{it})}, true, nil
}

// madeEntry is an entry that stands in no alias file.
func madeEntry(key string, list []item) entry {
	var b strings.Builder
	appendEntry(&b, []byte(key), 0, 0, list)
	made := book{text: b.String()}
	return made.at(0)
}
