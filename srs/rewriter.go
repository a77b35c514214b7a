package srs

import (
	"fmt"
	"slices"
	"time"
)

// A Format is a way to compute the hash.
type Format int

const (
	// FormatSRSD is HMAC-SHA256 over delimited fields: the one to use.
	FormatSRSD Format = iota
	// FormatClassic is what Mail::SRS, libsrs2 and PostSRSd compute.
	FormatClassic
)

// Hash lengths in characters.
const (
	minHashClassic = 4
	maxHashClassic = 20
	minHashSRSD    = 8
	maxHashSRSD    = 32
)

// String is "srsd" or "classic".
func (f Format) String() string {
	switch f {
	case FormatSRSD:
		return "srsd"
	case FormatClassic:
		return "classic"
	}
	return fmt.Sprintf("Format(%d)", int(f))
}

// MarshalText is String.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what String writes.
func (f *Format) UnmarshalText(text []byte) error {
	switch string(text) {
	case "srsd":
		*f = FormatSRSD
	case "classic":
		*f = FormatClassic
	default:
		return fmt.Errorf(`srs: format is "srsd" or "classic", not %q`, text)
	}
	return nil
}

// bounds are the least and the largest hash length of a format.
func (f Format) bounds() (least, most int) {
	if f == FormatClassic {
		return minHashClassic, maxHashClassic
	}
	return minHashSRSD, maxHashSRSD
}

// An Alphabet is what a classic hash is written in. Either is accepted.
type Alphabet int

const (
	// AlphabetStandard has "+" and "/", which every implementation accepts.
	AlphabetStandard Alphabet = iota
	// AlphabetURL has "-" and "_", as PostSRSd writes since 2.2.6, because
	// some mail systems refuse "/"; PostSRSd 1, Mail::SRS and libsrs2 do not
	// accept it.
	AlphabetURL
)

// A Rewriter rewrites reverse-paths at one SRS domain, and reverses them. The
// zero value of every field but Domain and Keys is a good choice. A Rewriter
// is safe for concurrent use as long as nobody changes its fields.
type Rewriter struct {
	// Domain is the SRS domain: that of the rewritten addresses. Its MX must
	// lead back here.
	Domain string
	// Retired are further domains whose addresses Reverse accepts.
	Retired []string
	// Keys sign and verify.
	Keys Keys
	// Format is how to sign, FormatSRSD by default.
	Format Format
	// Accept lists further formats that Reverse accepts beside Format, so that
	// a site can change its format and lose no bounce.
	Accept []Format
	// HashLength is how many characters of the hash Format writes: 8 to 32,
	// by default 8 (40 bits), in FormatClassic 4 to 20, by default 4.
	HashLength int
	// HashMinimum is how many characters Reverse wants at least, by default
	// HashLength. In another format of Accept every length is accepted that is
	// neither below HashMinimum nor outside the format's bounds.
	HashMinimum int
	// MaxAge is how old an address may be, in whole days, by default 21.
	MaxAge time.Duration
	// Future is how far ahead its day may be, for two hosts around midnight:
	// by default one day; negative is not at all.
	Future time.Duration
	// Separator stands behind SRS0 and SRS1: "=", the default, "+" or "-".
	Separator byte
	// Alphabet is what classic hashes are written in.
	Alphabet Alphabet
	// Now is the clock, by default time.Now.
	Now func() time.Time
}

// Validate says what is wrong with the fields, an error that wraps ErrConfig.
// Forward, Reverse, Token and ParseToken return the same error.
func (r *Rewriter) Validate() error {
	least, most := r.Format.bounds()
	switch {
	case r.Format != FormatSRSD && r.Format != FormatClassic:
		return fmt.Errorf("%w: unknown %v", ErrConfig, r.Format)
	case len(r.Keys) == 0:
		return fmt.Errorf("%w: no key", ErrConfig)
	case r.Separator != 0 && !isSeparator(r.Separator):
		return fmt.Errorf(`%w: separator %q is not "=", "+" or "-"`, ErrConfig, r.Separator)
	case r.hashLength() < least || r.hashLength() > most:
		return fmt.Errorf("%w: hash length %d is not %d to %d, as %v asks", ErrConfig, r.HashLength, least, most, r.Format)
	case r.HashMinimum != 0 && (r.HashMinimum < minHashClassic || r.HashMinimum > r.hashLength()):
		return fmt.Errorf("%w: hash minimum %d is not %d to %d", ErrConfig, r.HashMinimum, minHashClassic, r.hashLength())
	case r.MaxAge < 0 || r.maxAge()+r.future() >= dayCycle/2:
		return fmt.Errorf("%w: maximum age and future must be less than %d days together", ErrConfig, dayCycle/2)
	}
	if err := checkDomain(r.Domain); err != nil {
		return fmt.Errorf("%w: SRS domain: %v", ErrConfig, err)
	}
	return nil
}

func (r *Rewriter) hashLength() int {
	if r.HashLength != 0 {
		return r.HashLength
	}
	least, _ := r.Format.bounds()
	return least
}

// accepted is how many characters a hash in format f may have: none at all
// (most is 0) where the format is not accepted.
func (r *Rewriter) accepted(f Format) (least, most int) {
	least, most = f.bounds()
	switch {
	case f == r.Format && r.HashMinimum == 0:
		return r.hashLength(), r.hashLength()
	case f == r.Format:
		most = r.hashLength()
	case !slices.Contains(r.Accept, f):
		return 0, 0
	}
	return min(max(least, r.HashMinimum), most), most
}

func (r *Rewriter) separator() byte {
	if r.Separator == 0 {
		return '='
	}
	return r.Separator
}

func (r *Rewriter) maxAge() int {
	if r.MaxAge == 0 {
		return 21
	}
	return int(r.MaxAge / day)
}

func (r *Rewriter) future() int {
	switch {
	case r.Future == 0:
		return 1
	case r.Future < 0:
		return 0
	}
	return int(r.Future / day)
}

func (r *Rewriter) now() time.Time {
	if r.Now == nil {
		return time.Now()
	}
	return r.Now()
}

// fresh checks the age of a timestamp of two characters.
func (r *Rewriter) fresh(text string, today int64) error {
	n, ok := unstamp(text)
	if !ok {
		return fmt.Errorf("%w: timestamp %q is not two characters of base32", ErrSyntax, text)
	}
	switch d := age(today, n); {
	case d > r.maxAge():
		return fmt.Errorf("%w: %d days old, %d are allowed", ErrExpired, d, r.maxAge())
	case -d > r.future():
		return fmt.Errorf("%w: %d days ahead, %d are allowed", ErrFuture, -d, r.future())
	}
	return nil
}
