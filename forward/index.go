package forward

import (
	"hash/maphash"
	"strings"
)

// A book is all entries of a table in one string, one behind the other, with a
// hash index over it. A million entries are three allocations, which the
// garbage collector never has to look into.
//
//	entry = len key, file, line, count, item…
//	item  = kind, len text
//
// Numbers are unsigned varints. A key is the local part, a NUL and the domain,
// both folded; the NUL and the domain are missing in a name that holds for all
// domains, the local part is empty in a catch-all. A regexp has no key.
type book struct {
	text  string
	seed  maphash.Seed
	slots []slot
	used  int
}

// A slot is a place in the open-addressed index: the entry's place in the text
// plus one, and part of its hash, so that few keys are compared in vain.
type slot struct{ hash, place uint32 }

// An entry is one decoded entry; its items are decoded one at a time.
type entry struct {
	key   string
	file  int
	line  int
	items items
}

// items is what is left of an entry's items.
type items struct {
	text  string
	count int
}

// An itemKind says what an item's text is.
type itemKind byte

const (
	itemAddress   itemKind = 'a' // local part, NUL, domain
	itemName      itemKind = 'n' // a local part at the same domain
	itemDomain    itemKind = 'd' // a domain: the local part is kept
	itemTemplate  itemKind = 't' // as itemAddress, with $1 in the local part
	itemPattern   itemKind = 'p' // as itemName, with $1
	itemReply     itemKind = 'r' // "550 5.1.1 text"
	itemBlackhole itemKind = 'b'
)

// An item is one target, or what happens instead of a target.
type item struct {
	kind   itemKind
	text   string // of an address or template, the local part
	domain string // of an address or template
}

// next takes the first item off.
func (it *items) next() (item, bool) {
	if it.count == 0 {
		return item{}, false
	}
	it.count--
	kind := itemKind(it.text[0])
	n, at := uvarint(it.text, 1)
	text := it.text[at : at+n]
	it.text = it.text[at+n:]
	if kind == itemAddress || kind == itemTemplate {
		local, domain := cutKey(text)
		return item{kind, local, domain}, true
	}
	return item{kind: kind, text: text}, true
}

// at decodes the entry at a place.
func (b *book) at(place uint32) entry {
	n, p := uvarint(b.text, int(place))
	key := b.text[p : p+n]
	file, p := uvarint(b.text, p+n)
	line, p := uvarint(b.text, p)
	count, p := uvarint(b.text, p)
	return entry{key, file, line, items{b.text[p:], count}}
}

// find returns the place of a key's entry.
func (b *book) find(key []byte) (place uint32, ok bool) {
	if len(b.slots) == 0 {
		return 0, false
	}
	hash := uint32(maphash.Bytes(b.seed, key))
	mask := uint32(len(b.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := b.slots[i]
		if s.place == 0 {
			return 0, false
		}
		if s.hash == hash && b.keyAt(s.place-1) == string(key) {
			return s.place - 1, true
		}
	}
}

func (b *book) keyAt(place uint32) string {
	n, p := uvarint(b.text, int(place))
	return b.text[p : p+n]
}

// add puts a key that is not there yet into the index.
func (b *book) add(key []byte, place uint32) {
	if b.used*2 >= len(b.slots) {
		b.reserve(2 * b.used)
	}
	b.put(slot{uint32(maphash.Bytes(b.seed, key)), place + 1})
	b.used++
}

func (b *book) put(s slot) {
	mask := uint32(len(b.slots) - 1)
	i := s.hash & mask
	for b.slots[i].place != 0 {
		i = (i + 1) & mask
	}
	b.slots[i] = s
}

// reserve makes room for n keys, so that the index is made once.
func (b *book) reserve(n int) {
	size := 64
	for size <= 2*n {
		size *= 2
	}
	old := b.slots
	b.slots = make([]slot, size)
	for _, s := range old {
		if s.place != 0 {
			b.put(s)
		}
	}
}

// appendEntry writes an entry to the end of a text under construction.
func appendEntry(w *strings.Builder, key []byte, file, line int, list []item) {
	putUvarint(w, len(key))
	w.Write(key)
	putUvarint(w, file)
	putUvarint(w, line)
	putUvarint(w, len(list))
	for _, it := range list {
		w.WriteByte(byte(it.kind))
		if it.domain == "" {
			putUvarint(w, len(it.text))
			w.WriteString(it.text)
			continue
		}
		putUvarint(w, len(it.text)+1+len(it.domain))
		w.WriteString(it.text)
		w.WriteByte(0)
		w.WriteString(it.domain)
	}
}

func putUvarint(w *strings.Builder, n int) {
	for n >= 0x80 {
		w.WriteByte(byte(n) | 0x80)
		n >>= 7
	}
	w.WriteByte(byte(n))
}

// uvarint reads a number at p and returns the place behind it.
func uvarint(s string, p int) (n, next int) {
	for shift := 0; ; shift += 7 {
		c := s[p]
		p++
		n |= int(c&0x7f) << shift
		if c < 0x80 {
			return n, p
		}
	}
}
