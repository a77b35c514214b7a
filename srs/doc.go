// Package srs is the Sender Rewriting Scheme: it rewrites the reverse-path of
// forwarded mail so that SPF passes, and brings bounces home.
//
// A host that forwards alice@example.com's mail may not send in the name of
// example.com. So it sends in its own,
//
//	SRS0=VLDHWE7N=G3=example.com=alice@fwd.example
//
// and when a bounce arrives there, it reads the original sender out of the
// address. The hash keeps strangers from making such addresses, which would
// turn the host into an open relay; the timestamp makes them end.
//
// A [Rewriter] with a domain and keys does both: [Rewriter.Forward] and
// [Rewriter.Reverse]. The package has no clock but the one that it is given,
// starts no goroutine, logs nothing and needs the standard library only.
//
// What follows is the specification of the two formats: srsd, the default, and
// classic, which Mail::SRS, libsrs2 and PostSRSd share. The scheme is Meng Weng
// Wong's and Shevek's, "The Sender Rewriting Scheme" (2004).
//
// # Shape
//
// Both formats have the same shape, so that forwarders recognise each other's:
//
//	srs0  = "SRS0" sep hash "=" timestamp "=" host "=" user "@" domain
//	srs1  = "SRS1" sep hash "=" host "=" inner "@" domain
//	token = "SRS0" sep hash "=" timestamp "=" "=" id "@" domain
//	inner = sep hash "=" timestamp "=" host "=" user  ; what followed "SRS0"
//	sep   = "=" / "+" / "-"
//
// Domain is the SRS domain of the forwarder who signs. In srs0, host and user
// are the domain and the local part of the original sender, the case of both
// kept. In srs1, host is the SRS domain of the first forwarder and inner is the
// local part of its srs0 behind the tag: a second forwarder wraps srs0 in srs1,
// a third and all later ones replace domain and hash of the srs1 and nothing
// else, so that the address does not grow. A bounce goes from the last
// forwarder to the first at once.
//
// User, inner and id are all that follows the "=" before them, and may hold
// more of "=". A user stands without the quotes of a quoted string (RFC 5321, section 4.1.2); if
// the resulting local part is no dot-string, it is quoted as a whole, and the
// other way round on the return. Host may be an address literal, which asks for
// quotes too. UTF-8 is carried as it is (RFC 6531), domains as they are
// written. The tag, and every character that a hash covers, may change between
// upper and lower case of ASCII on the way.
//
// The local part has at most 64 octets, quotes included, and the address 254
// (RFC 5321, section 4.5.3.1). What exceeds them is kept elsewhere by the
// caller, and a token stands in its place: at most 30 octets of local part, with
// an id of 1 to 7 octets in base32 without padding.
//
// # Timestamp
//
// Two characters of base32 (RFC 4648, section 6: A to Z, 2 to 7), the more
// significant one first: the number of the UTC day since 1970-01-01, modulo
// 1024. Day 219 is "G3". Modulo 1024, the age of an address is today's number
// less its own; it is valid up to the maximum age (21 days), and from the
// future up to the tolerance (1 day). So an address becomes valid again after
// 1024 days under the same key: change keys at least every two years.
//
// # Hash, format srsd
//
//	mac  = HMAC-SHA256(secret, 0x01 kind sep f(domain) f(timestamp) f(host) f(user))
//	f(x) = two octets, the length of x, more significant one first; x in lower case
//	hash = the first n characters of base32(mac), n from 8 to 32, by default 8
//
// 0x01 is the version. Kind is one octet, "0" for srs0, "1" for srs1, "T" for a
// token; sep is the separator behind the tag. In srs1 the timestamp is empty
// and user is inner, with its separator; in a token host is empty and user the
// id as it is written, and n is 8. Lower case means A to Z only. Base32 is RFC
// 4648's, written in upper case and compared in any.
//
// Eight characters are 40 bits, and all of them survive case folding: at ten
// guesses a second, finding one address takes 1,700 years on average.
//
// Everything in the address is covered, with its boundaries, and so is what it
// is for. In an srs1 the inner timestamp is held to the same age as an srs0's.
// Forward wraps an SRS0 address in srs1 only if its text has the shape of inner
// and its timestamp is of age; any other is an ordinary address, and becomes
// the user of an srs0.
//
// # Hash, format classic
//
//	srs0 mac = HMAC-SHA1(secret, lower(timestamp) lower(host) lower(user))
//	srs1 mac = HMAC-SHA1(secret, lower(host) lower(inner))
//	hash     = the first n characters of base64(mac), n from 4 to 20, by default 4
//
// Case is folded when hashes are compared, and "-" and "_" (base64url, PostSRSd
// since 2.2.6) are the same as "+" and "/". That leaves four characters of
// classic some 20 bits: 600,000 guesses find an address.
//
// Nothing separates the fields, and the kind is not covered. So a valid hash of
// example.com=alice is one of example.co=malice too; a hash of an srs0 fits an
// srs1; and whoever may choose a sender can have text signed that means
// something else. Reverse therefore asks more than the classics do:
//
//   - a hash of accepted length, every character of which counts;
//   - a timestamp of two characters;
//   - a host with two labels or more, the last of two characters or more and
//     not all digits, or an address literal;
//   - a user that is not empty and does not begin with "=", "+" or "-", as inner
//     does;
//   - an inner of the shape above;
//   - an SRS domain of ours.
//
// Forward refuses, with [ErrTooLong], what would not come back. One hole is left
// that the format has no means to close: the boundary between host and user
// can be moved to where another valid domain name ends. That, and the length
// of the hash, are the reasons to sign in the srsd format, and to list classic
// in Accept until the last classic address has expired.
//
// The inner timestamp of a classic srs1 is not looked at; that is left to the
// first forwarder. Where a classic forwarder has rewritten a quoted local part,
// the quotes stand in the middle of the local part, which is no valid address:
//
//	SRS0=rWXu=G3=example.com="a b"@fwd.example
//
// They are signed as they stand, and Reverse accepts that in classic only.
//
// # Test vectors
//
// The secret is the nine octets tops3cret, the SRS domain fwd.example, the day
// G3 (2023-11-14), everything else by default. The senders are
// alice@example.com and SRS0=HHHH=G3=orig.example=alice@hop1.example, the id of
// the token is the three octets 1, 2, 3. First srsd, then classic:
//
//	SRS0=VLDHWE7N=G3=example.com=alice@fwd.example
//	SRS1=SWS2Y634=hop1.example==HHHH=G3=orig.example=alice@fwd.example
//	SRS0=LQ6GTOZL=G3==AEBAG@fwd.example
//	SRS0=OOpg=G3=example.com=alice@fwd.example
//	SRS1=6gOD=hop1.example==HHHH=G3=orig.example=alice@fwd.example
//
// # Keys
//
// A secrets file ([ParseKeys], [LoadKeys]) lists keys with ids and dates. The
// first key that may sign signs; all that may be accepted verify. To change
// keys, put a new one on top, and remove the old one, or let its accept-until
// end it, when its last address has expired.
package srs
