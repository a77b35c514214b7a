package srs

import "errors"

// What Forward, Reverse, Token and ParseToken refuse. Every error they return
// wraps exactly one of these and says in words which check refused; remote
// text stands in them quoted, never raw.
var (
	// ErrNotSRS: an ordinary address, no SRS0 or SRS1. Deliver it as it is.
	ErrNotSRS = errors.New("srs: not an SRS address")
	// ErrNotOurs: an SRS address at a domain that is not the Rewriter's.
	// Another forwarder signed it: deliver it as it is.
	ErrNotOurs = errors.New("srs: not at an SRS domain of ours")
	// ErrSyntax: no valid address, or an SRS address whose fields are not what
	// a forwarder writes. Refuse it for good.
	ErrSyntax = errors.New("srs: syntax")
	// ErrHash: no key made this hash, or it is shorter than accepted: a
	// forgery, or a key that has been retired. Refuse it for good.
	ErrHash = errors.New("srs: hash mismatch")
	// ErrExpired: the hash is right and the timestamp older than MaxAge.
	ErrExpired = errors.New("srs: expired")
	// ErrFuture: the hash is right and the timestamp further ahead than Future.
	ErrFuture = errors.New("srs: timestamp in the future")
	// ErrTooLong: Forward cannot carry this address. The rewritten local part
	// would exceed 64 octets or the address 254 (RFC 5321, section 4.5.3.1),
	// or the classic format could not bring it back safely. Keep the address
	// elsewhere and put a Token in its place.
	ErrTooLong = errors.New("srs: does not fit")
	// ErrToken: the address is a valid token, which only its keeper can
	// reverse; ParseToken returns the id.
	ErrToken = errors.New("srs: a token, its address is kept elsewhere")
	// ErrConfig: the Rewriter itself is wrong: see Validate.
	ErrConfig = errors.New("srs: configuration")
)
