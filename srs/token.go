package srs

import (
	"encoding/base32"
	"fmt"
)

// maxTokenID is how many octets of id fit into a local part of 30 octets.
const maxTokenID = 7

var tokenText = base32.StdEncoding.WithPadding(base32.NoPadding)

// Token is an address that stands for one which Forward cannot carry
// (ErrTooLong), and which the caller keeps under an id of 1 to 7 octets. Its
// local part has at most 30 octets; it is signed, in the srsd way whatever the
// Format, and expires after MaxAge like every SRS address. To other forwarders
// it is an SRS0 address.
func (r *Rewriter) Token(id []byte) (string, error) {
	if err := r.Validate(); err != nil {
		return "", err
	}
	if len(id) == 0 || len(id) > maxTokenID {
		return "", fmt.Errorf("%w: token id of %d octets, 1 to %d are allowed", ErrTooLong, len(id), maxTokenID)
	}
	now := r.now()
	stamped := stamp(dayNumber(now))
	c := claim{
		kind: kindToken, sep: r.separator(), domain: r.Domain,
		day: string(stamped[:]), user: tokenText.EncodeToString(id),
	}
	return r.sign(c, FormatSRSD, minHashSRSD, now)
}

// ParseToken verifies a token and returns its id. The errors are those of
// Reverse; an SRS address that is no token is ErrNotSRS.
func (r *Rewriter) ParseToken(srsAddress string) ([]byte, error) {
	p, err := r.parse(srsAddress)
	if err != nil {
		return nil, err
	}
	if p.kind != kindToken {
		return nil, fmt.Errorf("%w: no token", ErrNotSRS)
	}
	if _, err := r.verify(&p, r.now()); err != nil {
		return nil, err
	}
	id, err := tokenText.DecodeString(string(appendUpper(nil, p.user)))
	if err != nil {
		return nil, fmt.Errorf("%w: token id %q", ErrSyntax, clip(p.user))
	}
	return id, nil
}

func appendUpper(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
