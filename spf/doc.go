// Package spf decides whether a host may send mail for a domain: the Sender
// Policy Framework of RFC 7208, with RFC 8616 for internationalised mail.
//
// A Checker asks a Resolver and gives an Outcome:
//
//	c := spf.Checker{Resolver: r, Receiver: "mx.alumni.example"}
//	o := c.Check(ctx, ip, "mail.example.com", "ann@example.com")
//	if o.Result == spf.Fail { … o.Explanation … }
//
// A record is parsed whole before any of it is evaluated, so that an error
// anywhere is a permerror whoever the client is (section 4.6). Only addresses
// of the client's family are asked for. The package keeps no state, logs
// nothing and starts no goroutine. What the owner of a domain wants to know
// about its record is in package spflint.
//
// # Where the standard leaves a choice
//
// A name that cannot be asked for after macro expansion (an empty label, one
// over 63 octets) matches nothing (section 4.8 calls it undefined).
//
// Void lookups (section 4.6.4) are counted once a term: for the name that the
// term gives, not for the hosts that an mx term leads to. An IPv6 client that
// meets a host with IPv4 addresses only (or the other way round) gets an empty
// answer, although nothing is wrong with the record. Real mail is lost where
// that counts, so it does not: before the limit ends a check, such hosts are
// asked for addresses of the other family, and those that have some are taken
// off the count. Checker.StrictVoid is the letter instead.
//
// The names of a client (ptr, %{p}) are looked up once a check. The first %{p}
// counts as a lookup, later ones cost nothing and count nothing.
//
// A redirect or mechanism with %{s} or %{l} in it, met by a local part that is
// not ASCII, counts as absent (RFC 8616, section 4).
package spf
