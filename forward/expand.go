package forward

import (
	"fmt"
	"slices"
	"strings"

	"srsd/envelope"
)

// An Expansion is what a recipient becomes: targets, or a reply that refuses
// it, or silence.
type Expansion struct {
	Targets []Target
	Reply   envelope.Reply // of :fail: or :defer:; zero where there are targets
	Discard bool           // :blackhole:
}

// A Target is an address to which mail goes on.
type Target struct {
	Address envelope.Address
	Via     []envelope.Address // the aliases between the recipient and here, in order
	Owner   envelope.Address   // takes the bounces, if it is not null: owner-NAME of the last alias that has one
}

// Expand follows the aliases of a recipient to their targets, in the order of
// the table, each target once. The work is bounded by Config whatever the table
// says.
//
// Where several aliases meet, a :defer: among them defers all: nothing is lost
// by waiting. A :fail: or :blackhole: among targets takes only itself away.
//
// The error is ErrUnknown where there is no alias for rcpt, else one that
// wraps ErrLimit or ErrFile.
func (t *Table) Expand(rcpt envelope.Address) (Expansion, error) {
	var short [2]envelope.Address // where most paths have room
	e := expander{t: t, path: short[:0]}
	if err := e.alias(rcpt, envelope.Address{}, false); err != nil {
		return Expansion{}, err
	}
	switch {
	case !e.deferred.IsZero():
		return Expansion{Reply: e.deferred}, nil
	case len(e.targets) > 0:
		return Expansion{Targets: e.targets}, nil
	case !e.failed.IsZero():
		return Expansion{Reply: e.failed}, nil
	case e.discard:
		return Expansion{Discard: true}, nil
	}
	return Expansion{}, ErrUnknown
}

// expandPostmaster expands Config.Postmaster, past the aliases of postmaster.
func (t *Table) expandPostmaster() (Expansion, error) {
	switch {
	case t.postmaster.IsNull():
		return Expansion{}, ErrUnknown
	case t.Owns(t.postmaster.Domain()):
		return t.Expand(t.postmaster)
	}
	return Expansion{Targets: []Target{{Address: t.postmaster}}}, nil
}

// An expander is one expansion under way.
type expander struct {
	t       *Table
	path    []envelope.Address // the aliases from the recipient to here
	done    map[string]bool    // aliases inside the table: false while they are on the path
	targets []Target
	keys    map[string]bool // of targets, once they are many
	steps   int

	deferred, failed envelope.Reply
	discard          bool
}

// alias expands one alias. In a forward file everything must lead somewhere.
func (e *expander) alias(a, owner envelope.Address, inFile bool) error {
	if len(e.path) >= e.t.maxDepth {
		return fmt.Errorf("%w: more than %d aliases in a row", ErrLimit, e.t.maxDepth)
	}
	local, domain := foldLocal(a.Local()), foldDomain(a.Domain())
	if domain == "" {
		domain = e.t.first
	}
	h, ok, err := e.t.find(local, domain, true)
	if err != nil {
		return err
	}
	if !ok {
		if inFile {
			return fmt.Errorf("%w: it names %v, which is no alias", ErrFile, a)
		}
		if len(e.path) == 0 {
			return ErrUnknown
		}
		return nil
	}
	if o, ok := e.t.owner(h, domain); ok {
		owner = o
	}
	e.path = append(e.path, a)
	for it, ok := h.items.next(); ok; it, ok = h.items.next() {
		if err := e.item(it, a, owner, h); err != nil {
			return err
		}
	}
	e.path = e.path[:len(e.path)-1]
	return nil
}

// item expands one item of alias a.
func (e *expander) item(it item, a, owner envelope.Address, h hit) error {
	// One target may be reached on many ways, and many ways may lead nowhere.
	if e.steps++; e.steps > 10*e.t.maxTargets*e.t.maxDepth {
		return fmt.Errorf("%w: too many aliases", ErrLimit)
	}
	var target envelope.Address
	var err error
	switch it.kind {
	case itemReply:
		if r := cutReply(it.text); r.Temporary() {
			e.deferred = r
		} else if e.failed.IsZero() {
			e.failed = r
		}
		return nil
	case itemBlackhole:
		e.discard = true
		return nil
	case itemAddress:
		target, err = envelope.NewAddress(it.text, it.domain)
	case itemName:
		target, err = envelope.NewAddress(it.text, e.domainOf(a))
	case itemDomain:
		target, err = a.WithDomain(it.text)
	case itemTemplate, itemPattern:
		target, err = e.filled(it, a, h.groups)
	}
	if err != nil {
		// A local part that fits one domain may be too long for another, and
		// what a regexp makes of an address may be none.
		return nil
	}
	return e.target(target, owner, h.line == 0 && h.key != postmaster)
}

func (e *expander) domainOf(a envelope.Address) string {
	if a.Domain() == "" {
		return e.t.first
	}
	return a.Domain()
}

// filled is the address that a template makes of what a regexp has matched. It
// must be as plain as one that stands in the table.
func (e *expander) filled(it item, a envelope.Address, groups []string) (envelope.Address, error) {
	local, err := fill(it.text, groups)
	if err != nil {
		return envelope.Address{}, err
	}
	if local == "" || plainLocal(local) != len(local) || strings.IndexByte("|/~", local[0]) >= 0 {
		return envelope.Address{}, fmt.Errorf("forward: %q is no plain local part", local)
	}
	domain := it.domain
	if domain == "" {
		domain = e.domainOf(a)
	}
	return envelope.NewAddress(local, domain)
}

// target goes on to an alias of ours, or notes a target that is somewhere else.
func (e *expander) target(a, owner envelope.Address, inFile bool) error {
	if e.t.Owns(a.Domain()) {
		return e.inside(a, owner, inFile)
	}
	if e.known(a) {
		return nil
	}
	if len(e.targets) >= e.t.maxTargets {
		return fmt.Errorf("%w: more than %d targets", ErrLimit, e.t.maxTargets)
	}
	e.targets = append(e.targets, Target{Address: a, Via: slices.Clone(e.path[1:]), Owner: owner})
	return nil
}

// inside expands an alias that another has led to, once.
func (e *expander) inside(a, owner envelope.Address, inFile bool) error {
	if e.done == nil {
		e.done = map[string]bool{nodeKey(e.path[0]): false}
	}
	key := nodeKey(a)
	if done, ok := e.done[key]; ok {
		if !done {
			return fmt.Errorf("%w: %v leads back to itself", ErrLimit, a)
		}
		return nil
	}
	e.done[key] = false
	err := e.alias(a, owner, inFile)
	e.done[key] = true
	return err
}

func nodeKey(a envelope.Address) string {
	return foldLocal(a.Local()) + "\x00" + foldDomain(a.Domain())
}

// known notes a target and says whether it was there already.
func (e *expander) known(a envelope.Address) bool {
	const few = 8
	if len(e.targets) < few {
		return slices.ContainsFunc(e.targets, func(t Target) bool { return same(t.Address, a) })
	}
	if e.keys == nil {
		e.keys = make(map[string]bool)
		for _, t := range e.targets {
			e.keys[nodeKey(t.Address)] = true
		}
	}
	key := nodeKey(a)
	known := e.keys[key]
	e.keys[key] = true
	return known
}

// same says whether two addresses are, in all likelihood, one mailbox.
func same(a, b envelope.Address) bool {
	return strings.EqualFold(a.Local(), b.Local()) && foldDomain(a.Domain()) == foldDomain(b.Domain())
}

// owner is the address owner-NAME for the alias NAME, where the table has it.
// A regexp or a catch-all has no name, and no owner.
func (t *Table) owner(h hit, domain string) (envelope.Address, bool) {
	if !h.exact || !t.owners {
		return envelope.Address{}, false
	}
	name, _ := cutKey(h.key)
	var buf [envelope.MaxLocal + envelope.MaxDomain + 8]byte
	local := "owner-" + name
	if _, ok := t.book.find(appendKey(buf[:0], local, domain)); !ok {
		if _, ok = t.book.find(appendKey(buf[:0], local, "")); !ok {
			return envelope.Address{}, false
		}
	}
	a, err := envelope.NewAddress(local, domain)
	return a, err == nil
}
