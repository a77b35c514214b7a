package srs

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"sync"
)

// What a rewritten address is; the octet that the hash covers.
const (
	kindSRS0  = '0'
	kindSRS1  = '1'
	kindToken = 'T'
)

// version is the first octet that a hash of the srsd format covers.
const version = 1

// A claim is what an SRS address says, and what its hash covers.
type claim struct {
	kind   byte
	sep    byte   // "=", "+" or "-" behind the tag
	domain string // the SRS domain
	day    string // two characters; none for SRS1
	host   string // the original sender's domain, the first forwarder's for SRS1; none for a token
	user   string // the original local part, the inner text for SRS1, the id of a token
}

// A hasher keeps the HMAC states of one secret, so that a hash costs neither
// an allocation nor the two blocks of the key schedule.
type hasher struct {
	secret       []byte
	sha1, sha256 sync.Pool
}

type state struct {
	mac  hash.Hash
	text []byte
	sum  []byte
}

// A digest is a hash as text: its first n characters stand in the address.
type digest [maxHashSRSD]byte

func (h *hasher) digest(f Format, c claim) digest {
	if f == FormatClassic {
		return h.classic(c)
	}
	return h.srsd(c)
}

// classic is HMAC-SHA1 over the folded fields without anything between them,
// in base64: what Mail::SRS, libsrs2 and PostSRSd compute.
func (h *hasher) classic(c claim) (d digest) {
	s := h.get(&h.sha1, sha1.New)
	s.text = appendLower(s.text, c.day)
	s.text = appendLower(s.text, c.host)
	s.text = appendLower(s.text, c.user)
	s.finish()
	base64.StdEncoding.Encode(d[:], s.sum[:15]) // 15 octets are 20 characters
	h.sha1.Put(s)
	return d
}

// srsd is HMAC-SHA256 over version, kind and separator, and each folded field
// behind its length in two octets, in base32.
func (h *hasher) srsd(c claim) (d digest) {
	s := h.get(&h.sha256, sha256.New)
	s.text = append(s.text, version, c.kind, c.sep)
	for _, field := range [...]string{c.domain, c.day, c.host, c.user} {
		s.text = binary.BigEndian.AppendUint16(s.text, uint16(len(field)))
		s.text = appendLower(s.text, field)
	}
	s.finish()
	base32.StdEncoding.Encode(d[:], s.sum[:20]) // 20 octets are 32 characters
	h.sha256.Put(s)
	return d
}

func (h *hasher) get(pool *sync.Pool, algorithm func() hash.Hash) *state {
	if s, ok := pool.Get().(*state); ok {
		s.mac.Reset()
		s.text = s.text[:0]
		return s
	}
	return &state{mac: hmac.New(algorithm, h.secret), text: make([]byte, 0, 256), sum: make([]byte, 0, sha256.Size)}
}

func (s *state) finish() {
	s.mac.Write(s.text)
	s.sum = s.mac.Sum(s.sum[:0])
}

// match compares a hash in constant time, case folded, both alphabets of
// base64 taken for one.
func (d digest) match(text string) bool {
	var want, got digest
	n := copy(got[:], text)
	if n < len(text) {
		return false
	}
	for i := range got[:n] {
		want[i], got[i] = foldHash(d[i]), foldHash(got[i])
	}
	return subtle.ConstantTimeCompare(want[:n], got[:n]) == 1
}

func foldHash(c byte) byte {
	switch c {
	case '-':
		return '+'
	case '_':
		return '/'
	}
	return lower(c)
}

// urlSafe changes the two characters in which base64url differs.
func (d *digest) urlSafe() {
	for i, c := range d {
		switch c {
		case '+':
			d[i] = '-'
		case '/':
			d[i] = '_'
		}
	}
}
