package forward

import (
	"cmp"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"srsd/envelope"
)

// AliasesOf returns the names that lead to a target, directly or through other
// names, the nearest first, for all domains where a name holds for all. Names
// that a regexp or a catch-all would take are not found, nor those of forward
// files.
//
// The first call reads the whole table to make an index, a third of a second
// and 8 MB for a million targets; a report that comes home may name many
// addresses.
func (t *Table) AliasesOf(target envelope.Address) []envelope.Address {
	t.back.once.Do(t.indexTargets)
	var found []envelope.Address
	known := map[string]bool{nodeKey(target): true}
	for level := []envelope.Address{target}; len(level) > 0; {
		var next []envelope.Address
		for _, a := range level {
			next = append(next, t.namesOf(a, known)...)
		}
		slices.SortFunc(next, func(a, b envelope.Address) int { return strings.Compare(a.Key(), b.Key()) })
		found = append(found, next...)
		level = next
	}
	return found
}

// backwards is the index for AliasesOf: hashes of targets with the places of
// the entries that name them, in the order of the hashes.
type backwards struct {
	once  sync.Once
	slots []slot
}

func (t *Table) indexTargets() {
	slots := make([]slot, 0, t.book.used)
	for e := range t.entries() {
		place := e.place
		for it, ok := e.items.next(); ok; it, ok = e.items.next() {
			if it.kind == itemAddress || it.kind == itemName {
				slots = append(slots, slot{t.targetHash(foldLocal(it.text), foldDomain(it.domain)), place})
			}
		}
	}
	slices.SortFunc(slots, func(a, b slot) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.place, b.place)) })
	t.back.slots = slots
}

// targetHash is the hash of a target; the domain is empty for a name alone.
func (t *Table) targetHash(local, domain string) uint32 {
	var buf [envelope.MaxLocal + envelope.MaxDomain + 8]byte
	return uint32(maphash.Bytes(t.book.seed, appendKey(buf[:0], local, domain)))
}

// namesOf returns the names that lead directly to a, without those in known,
// and adds them there.
func (t *Table) namesOf(a envelope.Address, known map[string]bool) []envelope.Address {
	local, domain := foldLocal(a.Local()), foldDomain(a.Domain())
	hashes := []uint32{t.targetHash(local, domain)}
	if t.domains[domain] {
		hashes = append(hashes, t.targetHash(local, ""))
	}
	var names []envelope.Address
	for _, hash := range hashes {
		i, _ := slices.BinarySearchFunc(t.back.slots, hash, func(s slot, hash uint32) int { return cmp.Compare(s.hash, hash) })
		for ; i < len(t.back.slots) && t.back.slots[i].hash == hash; i++ {
			e := t.book.at(t.back.slots[i].place)
			for _, name := range t.leading(&e, local, domain) {
				if key := nodeKey(name); !known[key] {
					known[key] = true
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// leading returns the names of an entry that lead directly to an address. It
// uses up the entry's items.
func (t *Table) leading(e *entry, local, domain string) []envelope.Address {
	everywhere, here := false, false // for all domains of the entry, or for domain alone
	for it, ok := e.items.next(); ok; it, ok = e.items.next() {
		if foldLocal(it.text) == local {
			everywhere = everywhere || it.kind == itemAddress && foldDomain(it.domain) == domain
			here = here || it.kind == itemName
		}
	}
	name, own := cutKey(e.key)
	domains := []string{own}
	switch {
	case name == "" || !everywhere && !here:
		return nil
	case own != "" && !everywhere && own != domain:
		return nil
	case own == "" && everywhere:
		domains = slices.Sorted(maps.Keys(t.domains))
	case own == "":
		domains = []string{domain}
	}
	var names []envelope.Address
	for _, d := range domains {
		if a, err := envelope.NewAddress(name, d); err == nil {
			names = append(names, a)
		}
	}
	return names
}

// A placed entry knows where it is in the book.
type placed struct {
	entry
	place uint32
}

// entries goes through the book from its start.
func (t *Table) entries() iter.Seq[*placed] {
	return func(yield func(*placed) bool) {
		for place := 0; place < len(t.book.text); {
			e := placed{t.book.at(uint32(place)), uint32(place)}
			rest := e.items
			if !yield(&e) {
				return
			}
			for _, ok := rest.next(); ok; _, ok = rest.next() {
			}
			place = len(t.book.text) - len(rest.text)
		}
	}
}

// TargetDomains returns the domains outside of the table that mail goes on to,
// in lower case, each with the place of the first entry that names it.
func (t *Table) TargetDomains() iter.Seq2[string, Error] {
	return func(yield func(string, Error) bool) {
		known := make(map[string]bool)
		for e := range t.entries() {
			for it, ok := e.items.next(); ok; it, ok = e.items.next() {
				name := it.domain
				if it.kind == itemDomain {
					name = it.text
				}
				domain := foldDomain(name)
				if domain == "" || t.domains[domain] || known[domain] {
					continue
				}
				known[domain] = true
				if !yield(domain, Error{File: t.files[e.file-1], Line: e.line, Col: 1}) {
					return
				}
			}
		}
	}
}
