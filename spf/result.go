package spf

import "time"

// A Result is one of the seven results of RFC 7208, section 2.6, as the word
// that header fields use.
type Result string

// The results of RFC 7208, section 2.6.
const (
	None      Result = "none"      // no policy, or no domain that could have one
	Neutral   Result = "neutral"   // a policy that says nothing about this client
	Pass      Result = "pass"      // the client is authorised
	Fail      Result = "fail"      // the client is not authorised
	SoftFail  Result = "softfail"  // the client is probably not authorised
	TempError Result = "temperror" // DNS trouble: a later check may say more
	PermError Result = "permerror" // the published policy cannot be understood
)

// The identities of RFC 7208, sections 2.3 and 2.4.
const (
	HELO     = "helo"
	MailFrom = "mailfrom"
)

// An Outcome is what a check found.
type Outcome struct {
	Result      Result
	Identity    string // HELO or MailFrom
	Domain      string // the identity's domain, as A-labels
	Mechanism   string // the term of the domain's record (or of its redirect's) that decided, "default" if none matched, "" if there was no record to evaluate or it has errors
	Reason      string // why, in words and printable ASCII
	Explanation string // the domain's own words for a fail (exp=), printable ASCII; "" if it has none
	Lookups     int    // terms that looked something up, RFC 7208, section 4.6.4
	VoidLookups int    // those that found nothing

	// TTL is how long the outcome holds: the shortest TTL of all answers
	// used, 0 for temperror. It holds for the same client and domain; where
	// Personal is set only for the same HELO name and reverse-path, too.
	TTL      time.Duration
	Personal bool
}
