package forward

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A link is a target that leads back into the table, to be looked at when all
// of the table is there.
type link struct {
	from   uint32 // the place of its entry
	kind   itemKind
	local  string
	domain string // folded; "" for the domain of the recipient
	at     place
}

// A node is an alias as the walk along the links sees it. Where the entry
// stands for one address alone, its place says all; a name for all domains and
// a catch-all stand for many.
type node struct {
	place         uint32
	local, domain string
}

// anyone is the local part of a catch-all's mail that no name has taken.
const anyone = "\x01"

// maxWalk bounds the recursion along a chain of aliases; long before that the
// chain is too deep.
const maxWalk = 10000

// A walk goes along all links of a table, and finds targets that are no alias,
// aliases that lead back to themselves, and chains that are too deep.
type walk struct {
	p     *parser
	t     *Table
	depth map[node]int // of the chain that begins there; open while it is walked
	path  []step       // the aliases from the start to here
	said  map[place]bool
}

const open = -1

// A step is a node with its name, for people.
type step struct {
	node node
	name string
}

// check looks at the links, each from the aliases that have it.
func (p *parser) check() {
	w := &walk{p: p, t: p.t, depth: make(map[node]int), said: make(map[place]bool)}
	if p.t.first == "" {
		p.t.own(nowhere)
		defer delete(p.t.domains, nowhere)
	}
	domains := slices.Sorted(maps.Keys(p.t.domains))
	for i := 0; i < len(p.links); {
		from := p.links[i].from
		e := p.t.book.at(from)
		local, domain := cutKey(e.key)
		if local == "" {
			local = anyone
		}
		if domain != "" || e.key == "" {
			w.walk(from, local, domain) // a regexp knows no domain
		} else {
			for _, d := range domains {
				w.walk(from, local, d)
			}
		}
		for i < len(p.links) && p.links[i].from == from {
			i++
		}
	}
}

// checkPostmaster makes sure that somebody reads the mail for postmaster, where
// that is left to an alias.
func (p *parser) checkPostmaster() {
	to := p.t.postmaster
	if p.errs.Fatal() || to.IsNull() || !p.t.Owns(to.Domain()) {
		return
	}
	e, err := p.t.Expand(to)
	if err == nil && len(e.Targets) > 0 {
		return
	}
	p.errs = append(p.errs, Error{
		File: "forward.postmaster", Warning: errors.Is(err, ErrFile),
		Text: fmt.Sprintf("%v must be an alias that leads to somebody", to),
	})
}

// walk returns the length of the longest chain from an alias on.
func (w *walk) walk(from uint32, local, domain string) int {
	n := w.node(from, local, domain)
	if d, ok := w.depth[n]; ok {
		return d
	}
	links := w.links(from)
	if len(links) == 0 {
		return 1
	}
	w.depth[n] = open
	w.path = append(w.path, step{n, w.show(from, local, domain)})
	longest := 1
	for _, l := range links {
		longest = max(longest, 1+w.follow(l, local, domain))
	}
	w.path = w.path[:len(w.path)-1]
	w.depth[n] = longest
	return longest
}

// follow goes along one link.
func (w *walk) follow(l link, local, domain string) int {
	if l.kind != itemDomain {
		local = foldLocal(l.local)
	}
	if l.domain != "" {
		domain = l.domain
	}
	// Where the table is to say itself which domains are ours, this may be none
	// of them.
	if !w.t.domains[domain] {
		return 0
	}
	h, ok, _ := w.t.find(local, domain, false)
	switch {
	case !ok && (local == anyone || local == postmaster):
		return 0
	case !ok:
		w.missing(l, local, domain)
		return 0
	case h.line == 0:
		return 1 // Config.Postmaster
	}
	if n := w.node(h.place, local, domain); w.depth[n] == open {
		w.cycle(l, n)
		return 0
	}
	if len(w.path) >= maxWalk {
		return 0
	}
	depth := w.walk(h.place, local, domain)
	if depth == w.t.maxDepth { // a longer chain has been reported further on
		w.say(l, "%d aliases stand in a row from here on, forward.max_depth is %d", depth+1, w.t.maxDepth)
	}
	return depth
}

// node is the node of an entry that stands for an address.
func (w *walk) node(place uint32, local, domain string) node {
	if w.t.book.keyAt(place) == local+"\x00"+domain {
		return node{place: place}
	}
	return node{place, local, domain}
}

// missing says that a target is no alias. A forward file may come later, so
// where there can be some it is only a warning.
func (w *walk) missing(l link, local, domain string) {
	if w.p.broken[local] || w.p.broken[local+"\x00"+domain] {
		return // its own mistake has been told
	}
	name := showAddress(local, domain)
	if domain == nowhere {
		name = showKey(local)
	}
	w.note(w.t.dir != "", l, "there is no alias %s, and srsd has no mailboxes", name)
}

// show is the name of an alias as it stands in the table, or the address that
// a regexp or a catch-all stands for here.
func (w *walk) show(place uint32, local, domain string) string {
	key := w.t.book.keyAt(place)
	if name, _ := cutKey(key); name != "" || local == anyone && key != "" {
		return showKey(key)
	}
	return strings.TrimPrefix(showAddress(local, domain), anyone)
}

// cycle says that a link leads back to a node on the path.
func (w *walk) cycle(l link, back node) {
	from := slices.IndexFunc(w.path, func(s step) bool { return s.node == back })
	var names []string
	for _, s := range w.path[from:] {
		names = append(names, s.name)
	}
	if len(names) == 1 {
		w.say(l, "%s leads to itself, and srsd has no mailboxes", names[0])
		return
	}
	w.say(l, "the aliases go round: %s → %s", strings.Join(names, " → "), names[0])
}

func (w *walk) say(l link, format string, args ...any) { w.note(false, l, format, args...) }

// note notes a mistake once, although a name that holds for all domains is
// walked for each.
func (w *walk) note(warning bool, l link, format string, args ...any) {
	if !w.said[l.at] {
		w.said[l.at] = true
		w.p.note(warning, l.at, format, args...)
	}
}

// links are the links of an entry.
func (w *walk) links(from uint32) []link {
	i, _ := slices.BinarySearchFunc(w.p.links, from, func(l link, from uint32) int { return int(l.from) - int(from) })
	j := i
	for j < len(w.p.links) && w.p.links[j].from == from {
		j++
	}
	return w.p.links[i:j]
}
