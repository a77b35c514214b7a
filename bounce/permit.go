package bounce

import "srsd/envelope"

// An Extent is how much of a message a report about it may carry. The zero
// Extent is no report at all.
type Extent int

// The extents, from least to most.
const (
	NoReport Extent = iota
	Headers         // the header section of the message
	Full            // the message itself, while it is small
)

// An Action is what a report says about a recipient (RFC 3464, section 2.3.3).
type Action string

// The actions.
const (
	Failed   Action = "failed"
	Delayed  Action = "delayed"
	Relayed  Action = "relayed"  // delivered to a host that sends no reports of success
	Expanded Action = "expanded" // delivered to the targets of an alias
)

// bySPF is who may be sent a report: where the sender's address is not
// authenticated, a report may hit somebody who never wrote. Results that are
// not here get none.
var bySPF = map[string]Extent{
	"pass":    Full,
	"none":    Headers,
	"neutral": Headers,
}

// Permit says which report the reverse-path of a message may get about a
// recipient, from the SPF result that the message came with and the NOTIFY that
// the sender asked for (RFC 3461, section 4.1). A null reverse-path gets none,
// ever (RFC 5321, section 6.1).
func Permit(reversePath envelope.Address, spf string, notify envelope.Notify, action Action) Extent {
	if reversePath.IsNull() || !wanted(notify, action) {
		return NoReport
	}
	return bySPF[spf]
}

// Capped says whether reports to senders with this SPF result are limited per
// address and day.
func Capped(spf string) bool { return bySPF[spf] != Full }

func wanted(n envelope.Notify, action Action) bool {
	switch {
	case n&envelope.NotifyNever != 0:
		return false
	case action == Failed:
		return n == 0 || n&envelope.NotifyFailure != 0
	case action == Delayed:
		return n == 0 || n&envelope.NotifyDelay != 0
	default:
		return n&envelope.NotifySuccess != 0
	}
}
