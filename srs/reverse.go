package srs

import (
	"fmt"
	"strings"
	"time"
)

// IsSRS says whether a local part, without quotes, has the look of SRS0 or
// SRS1, of whatever forwarder: any separator, any case.
func IsSRS(local string) bool { return srsKind(local) != 0 }

func srsKind(local string) byte {
	if len(local) < len("SRS0=") || !equalFold(local[:3], "srs") || !isSeparator(local[4]) {
		return 0
	}
	switch local[3] {
	case '0', '1':
		return local[3]
	}
	return 0
}

func isSeparator(c byte) bool { return c == '=' || c == '+' || c == '-' }

// Reverse verifies an address that Forward wrote and returns where it leads:
// the original sender for SRS0, the SRS0 address at the first forwarder for
// SRS1; quoted where it must be, in the case in which it came back.
//
// The error wraps ErrNotSRS, ErrNotOurs, ErrSyntax, ErrHash, ErrExpired or
// ErrFuture, ErrToken for a valid token, or ErrConfig. Timestamps are looked at
// only when the hash is right.
func (r *Rewriter) Reverse(srsAddress string) (string, error) {
	p, err := r.parse(srsAddress)
	if err != nil {
		return "", err
	}
	if _, err := r.verify(&p, r.now()); err != nil {
		return "", err
	}
	if p.kind == kindToken {
		return "", ErrToken
	}
	return p.reversed(), nil
}

// A parsed is an SRS address taken apart, not verified.
type parsed struct {
	claim
	hash  string
	stamp string // the timestamp that counts: that of the inner text for SRS1, "" if it is not there
	// inQuotes: the local part in a classic address is a quoted string although
	// the whole is not. That is no valid address, but PostSRSd and Mail::SRS
	// write it, and sign the quotes.
	inQuotes bool
}

// parse takes apart what stands at a domain of ours.
func (r *Rewriter) parse(s string) (parsed, error) {
	if err := r.Validate(); err != nil {
		return parsed{}, err
	}
	a, err := split(s)
	if err != nil {
		return parsed{}, err
	}
	if !IsSRS(a.local) {
		return parsed{}, ErrNotSRS
	}
	if !r.owns(a.domain) {
		return parsed{}, ErrNotOurs
	}
	return parseFields(a)
}

func (r *Rewriter) owns(domain string) bool {
	if equalFold(domain, r.Domain) {
		return true
	}
	for _, d := range r.Retired {
		if equalFold(domain, d) {
			return true
		}
	}
	return false
}

func parseFields(a address) (p parsed, err error) {
	if err := checkLocal(a.local); err != nil {
		return parsed{}, err
	}
	p.kind, p.sep, p.domain = a.local[3], a.local[4], a.domain
	var rest string
	var more bool
	if p.hash, rest, more = strings.Cut(a.local[5:], "="); !more || !isHash(p.hash) {
		return p, fmt.Errorf("%w: no hash, or one that is not letters, digits, +, -, / and _", ErrSyntax)
	}
	if p.kind == kindSRS0 {
		if p.day, rest, more = strings.Cut(rest, "="); !more {
			return p, fmt.Errorf("%w: no domain behind the timestamp", ErrSyntax)
		}
		p.stamp = p.day
		if _, ok := unstamp(p.day); !ok {
			return p, fmt.Errorf("%w: timestamp %q is not two characters of base32", ErrSyntax, clip(p.day))
		}
	}
	if p.host, p.user, more = strings.Cut(rest, "="); !more {
		return p, fmt.Errorf("%w: no local part behind the domain", ErrSyntax)
	}
	if p.kind == kindSRS0 && p.host == "" {
		p.kind = kindToken
	} else if err := checkDomain(p.host); err != nil {
		return p, err
	}
	if p.kind == kindSRS1 {
		p.stamp = innerDay(p.user)
	}
	if !a.quoted && strings.IndexByte(a.local, '"') >= 0 {
		if p.inQuotes = p.kind == kindSRS0 && isQuotedString(p.user); !p.inQuotes {
			return p, fmt.Errorf("%w: a quote inside the local part", ErrSyntax)
		}
	}
	return p, nil
}

// isHash allows every character that any implementation writes in a hash.
func isHash(s string) bool {
	for i := 0; i < len(s); i++ {
		c := lower(s[i])
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/' || c == '-' || c == '_') {
			return false
		}
	}
	return s != ""
}

// A verdict is which format and key have signed an address.
type verdict struct {
	format Format
	key    string
	signed bool
}

// verify checks the hash, then what the format asks of the fields, then the
// age. The first that fails is the error.
func (r *Rewriter) verify(p *parsed, now time.Time) (verdict, error) {
	v, err := r.signer(p, now)
	if err != nil {
		return v, err
	}
	if err := p.strict(v.format); err != nil {
		return v, err
	}
	if p.kind == kindSRS1 && v.format == FormatClassic {
		// Mail::SRS and its kin do not look at the inner timestamp: it is the
		// first forwarder's affair.
		return v, nil
	}
	return v, r.fresh(p.stamp, dayNumber(now))
}

// signer finds the key that signed. It tries all of them, so that the time it
// takes tells nothing.
func (r *Rewriter) signer(p *parsed, now time.Time) (v verdict, err error) {
	tried := false
	for _, f := range [...]Format{FormatSRSD, FormatClassic} {
		if !r.fits(p, f) {
			continue
		}
		tried = true
		for i := range r.Keys {
			k := &r.Keys[i]
			if k.accepts(now) && k.hasher.digest(f, p.claim).match(p.hash) && !v.signed {
				v = verdict{format: f, key: k.ID, signed: true}
			}
		}
	}
	switch {
	case v.signed:
		return v, nil
	case !tried:
		return v, fmt.Errorf("%w: no accepted hash has %d characters", ErrHash, len(p.hash))
	}
	return v, fmt.Errorf("%w: no key made it", ErrHash)
}

// fits says whether an address can have been signed in format f.
func (r *Rewriter) fits(p *parsed, f Format) bool {
	if p.kind == kindToken {
		return f == FormatSRSD && len(p.hash) == minHashSRSD
	}
	least, most := r.accepted(f)
	return least <= len(p.hash) && len(p.hash) <= most && (f == FormatClassic || !p.inQuotes)
}

// strict checks what the hash vouches for, and the classic hash vouches for
// little: it covers the fields without their boundaries, so that a valid one
// can be cut elsewhere, or be taken from an SRS1 for an SRS0.
func (p *parsed) strict(f Format) error {
	switch {
	case p.kind == kindSRS1 && p.stamp == "":
		return fmt.Errorf("%w: no SRS0 fields inside SRS1", ErrSyntax)
	case f != FormatClassic || p.kind == kindToken:
		return nil
	case !isFullName(p.host):
		return fmt.Errorf("%w: %q is no full domain name", ErrSyntax, p.host)
	case p.kind == kindSRS0 && (p.user == "" || isSeparator(p.user[0])):
		return fmt.Errorf("%w: the local part is empty or begins with a separator, as inside SRS1", ErrSyntax)
	}
	return nil
}

// reversed is the address that a verified one leads to.
func (p *parsed) reversed() string {
	if p.inQuotes {
		return p.user + "@" + p.host
	}
	var space [128]byte // on the stack; longer ones are rare
	local := space[:0]
	if p.kind == kindSRS1 {
		local = append(local, "SRS0"...)
	}
	local = append(local, p.user...)
	var out [128]byte
	return string(appendMailbox(out[:0], local, p.host))
}
