package srs

import (
	"fmt"
	"strings"
	"time"
)

// Forward rewrites a reverse-path, given as SMTP writes it without angle
// brackets, to an address at Domain that Reverse brings back:
//
//   - the null reverse-path stays null: "", and Postfix's two characters `""`;
//   - an address at Domain stays as it is;
//   - SRS0 of another forwarder becomes SRS1, SRS1 of another becomes SRS1 at
//     Domain, no longer than it was;
//   - everything else becomes SRS0.
//
// The result is quoted where it must be. The error wraps ErrSyntax where the
// argument is no address, ErrTooLong where it cannot be carried, ErrConfig.
func (r *Rewriter) Forward(reversePath string) (string, error) {
	if reversePath == "" || reversePath == `""` {
		return "", nil
	}
	if err := r.Validate(); err != nil {
		return "", err
	}
	a, err := split(reversePath)
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return "", err
	}
	if equalFold(a.domain, r.Domain) {
		return reversePath, nil
	}
	now := r.now()
	today := dayNumber(now)
	stamped := stamp(today)
	c := r.claimOf(a, today)
	if c.kind == kindSRS0 {
		c.day = string(stamped[:])
	}
	if err := r.carries(c); err != nil {
		return "", err
	}
	return r.sign(c, r.Format, r.hashLength(), now)
}

// check wants an address that could stand in MAIL FROM.
func (a address) check() error {
	if a.domain == "" {
		return fmt.Errorf("%w: no domain", ErrSyntax)
	}
	if !a.quoted && !isDotString(a.local) {
		return fmt.Errorf("%w: local part %q is neither a dot-string nor quoted", ErrSyntax, clip(a.local))
	}
	if err := checkLocal(a.local); err != nil {
		return err
	}
	if len(a.domain) > maxDomain {
		return fmt.Errorf("%w: domain of %d octets", ErrTooLong, len(a.domain))
	}
	return checkDomain(a.domain)
}

// claimOf is what to sign for an address of another domain. SRS1 is only for
// what the first forwarder will surely recognise as its own; what merely begins
// with "SRS0=" or, in the srsd format, is too old, is an ordinary address, and
// returns the way it came.
func (r *Rewriter) claimOf(a address, today int64) claim {
	c := claim{kind: kindSRS0, sep: r.separator(), domain: r.Domain, host: a.domain, user: a.local}
	host, inner := a.domain, ""
	switch srsKind(a.local) {
	case kindSRS0:
		inner = a.local[len("SRS0"):]
	case kindSRS1:
		_, rest, _ := strings.Cut(a.local[len("SRS1="):], "=")
		host, inner, _ = strings.Cut(rest, "=")
	default:
		return c
	}
	stamped := innerDay(inner)
	if stamped == "" || checkDomain(host) != nil || r.Format == FormatClassic && !isFullName(host) {
		return c
	}
	if r.Format == FormatSRSD && r.fresh(stamped, today) != nil {
		return c
	}
	c.kind, c.host, c.user = kindSRS1, host, inner
	return c
}

// innerDay reads the timestamp of an SRS1's inner text, which is the local part
// of an SRS0 address behind its tag: separator, hash, timestamp, domain, local
// part. It is "" where the text has not that shape. The domain is empty in a
// token, and a mere number where PostSRSd keeps the address in its database.
func innerDay(inner string) string {
	if inner == "" || !isSeparator(inner[0]) {
		return ""
	}
	hash, rest, _ := strings.Cut(inner[1:], "=")
	stamped, rest, _ := strings.Cut(rest, "=")
	host, user, _ := strings.Cut(rest, "=")
	if _, ok := unstamp(stamped); !ok || !isHash(hash) || user == "" || host != "" && checkDomain(host) != nil {
		return ""
	}
	return stamped
}

// carries refuses what Reverse would refuse: the classic hash does not tell
// an SRS1's inner text from a local part that begins with a separator, nor
// where a domain of one label ends.
func (r *Rewriter) carries(c claim) error {
	if r.Format == FormatClassic {
		if !isFullName(c.host) {
			return fmt.Errorf("%w: classic carries full domain names only, not %q", ErrTooLong, c.host)
		}
		if c.kind == kindSRS0 && (c.user == "" || isSeparator(c.user[0])) {
			return fmt.Errorf("%w: classic carries no local part that is empty or begins with a separator", ErrTooLong)
		}
	}
	return nil
}

// sign writes the address of a claim with n characters of its hash.
func (r *Rewriter) sign(c claim, f Format, n int, now time.Time) (string, error) {
	key, ok := r.Keys.Signing(now)
	if !ok {
		return "", fmt.Errorf("%w: no key may sign any more", ErrConfig)
	}
	d := key.hasher.digest(f, c)
	if f == FormatClassic && r.Alphabet == AlphabetURL {
		d.urlSafe()
	}
	var space [128]byte // on the stack; longer ones are rare
	out := append(space[:0], "SRS0"...)
	if c.kind == kindSRS1 {
		out[3] = '1'
	}
	out = append(append(out, c.sep), d[:n]...)
	if c.kind != kindSRS1 {
		out = append(append(out, '='), c.day...)
	}
	out = append(append(out, '='), c.host...)
	out = append(append(out, '='), c.user...)
	return mailbox(out, c.domain)
}

// mailbox quotes and measures.
func mailbox(local []byte, domain string) (string, error) {
	// Quotes and escapes may double the length, hence the early look.
	if len(local) > maxLocal {
		return "", fmt.Errorf("%w: local part of %d octets, %d are allowed", ErrTooLong, len(local), maxLocal)
	}
	var space [128]byte
	out := appendMailbox(space[:0], local, domain)
	if n := len(out) - len(domain) - 1; n > maxLocal {
		return "", fmt.Errorf("%w: local part of %d octets, %d are allowed", ErrTooLong, n, maxLocal)
	}
	if len(out) > maxAddress {
		return "", fmt.Errorf("%w: address of %d octets, %d are allowed", ErrTooLong, len(out), maxAddress)
	}
	return string(out), nil
}

// clip bounds what an error quotes.
func clip(s string) string {
	if len(s) > maxAddress {
		return s[:maxAddress] + "…"
	}
	return s
}
