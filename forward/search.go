package forward

import (
	"iter"
	"slices"

	"srsd/envelope"
)

// AliasesOf returns the names that lead to a target, directly or through other
// names, for all domains where a name holds for all. It reads the whole table.
// Names that a regexp or a catch-all would take are not found.
func (t *Table) AliasesOf(target envelope.Address) []envelope.Address {
	var found []envelope.Address
	known := map[string]bool{nodeKey(target): true}
	for more := true; more; {
		more = false
		for e := range t.entries() {
			for _, a := range t.leading(e, known) {
				known[nodeKey(a)], more = true, true
				found = append(found, a)
			}
		}
	}
	return found
}

// entries goes through the book from its start.
func (t *Table) entries() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for place := 0; place < len(t.book.text); {
			e := t.book.at(uint32(place))
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

// leading returns the names of an entry that lead to one of known and are not
// known themselves. It uses up the entry's items.
func (t *Table) leading(e *entry, known map[string]bool) []envelope.Address {
	local, domain := cutKey(e.key)
	domains := []string{domain}
	if domain == "" {
		domains = domains[:0]
		for d := range t.domains {
			domains = append(domains, d)
		}
		slices.Sort(domains)
	}
	leads := make([]bool, len(domains))
	any := false
	for it, ok := e.items.next(); ok; it, ok = e.items.next() {
		for i, d := range domains {
			if it.kind == itemAddress && known[foldLocal(it.text)+"\x00"+foldDomain(it.domain)] ||
				it.kind == itemName && known[foldLocal(it.text)+"\x00"+d] {
				leads[i], any = true, true
			}
		}
	}
	if !any || local == "" {
		return nil
	}
	var names []envelope.Address
	for i, d := range domains {
		if a, err := envelope.NewAddress(local, d); err == nil && leads[i] && !known[nodeKey(a)] {
			names = append(names, a)
		}
	}
	return names
}
