package spf

import (
	"context"
	"net/netip"
	"time"
)

// A Resolver asks the DNS. Names come as labels in presentation form, with or
// without a trailing dot, odd octets as \DDD.
//
// An error means trouble (SERVFAIL, REFUSED, a timeout, a truncated answer that
// TCP did not complete), says so in words and names the question: it makes a
// temperror. A name that does not exist is no error but Meta.NXDomain, an empty
// answer is no error and no records.
type Resolver interface {
	// TXT returns one string a record, its character-strings joined without
	// anything between them (RFC 7208, section 3.3). Identical records are all
	// returned: two are an error that SPF must see (section 4.5).
	TXT(ctx context.Context, name string) ([]string, Meta, error)
	// Addr returns the addresses of one family: AAAA records if v6, else A.
	Addr(ctx context.Context, name string, v6 bool) ([]netip.Addr, Meta, error)
	// MX returns the MX records in the order of the answer.
	MX(ctx context.Context, name string) ([]MX, Meta, error)
	// PTR returns the names of an address.
	PTR(ctx context.Context, ip netip.Addr) ([]string, Meta, error)
}

// An MX is one MX record; Host is a name in presentation form.
type MX struct {
	Host string
	Pref uint16
}

// Meta is what is known about an answer beside its records.
type Meta struct {
	TTL       time.Duration // how long the answer may be kept, also where it is empty
	NXDomain  bool          // the name does not exist
	Authentic bool          // validated by DNSSEC, as a trusted resolver says
}
