package envelope

import (
	"io"
	"net/netip"
	"time"
)

// A Message is what travels with a message text through srsd: who sent it, how
// it came, and where it goes. It holds no text.
type Message struct {
	ID          string    // queue id: unique, sortable by time, 16 or fewer letters and digits
	Received    time.Time // when its last octet came
	ReversePath Address   // of the original sender; zero for reports
	SPF         string    // the SPF result for the reverse-path (the HELO name where it is null): "pass", "fail", …
	Client      Client    // who brought it; zero for our own reports
	EightBit    bool      // BODY=8BITMIME (RFC 6152)
	UTF8        bool      // SMTPUTF8 (RFC 6531)
	Return      string    // RET: "FULL", "HDRS" or "" (RFC 3461, section 4.3)
	EnvelopeID  string    // ENVID, xtext decoded (RFC 3461, section 4.4)
	Size        int64     // of the text with our trace headers, in octets
	Routes      []Route   // at least one
}

// A Client is the host that brought a message.
type Client struct {
	IP   netip.Addr
	HELO string
	Name string // forward-confirmed reverse name, "" where there is none or nobody asked
}

// A Route is one expanded result: a target, and the reverse-path to use on the
// way there.
type Route struct {
	Alias       Address   // the recipient as the client named it: the only name that anyone but the target may see
	Target      Address   // where it goes
	ReversePath Address   // what MAIL FROM says on the way there: rewritten, or null
	Via         []Address // the aliases passed between Alias and Target, in order
	Return      bool      // the way home of a bounce: Alias is an SRS address of ours, Target the original sender
	Notify      Notify    // NOTIFY (RFC 3461, section 4.1)
	Original    string    // ORCPT as it goes on the wire, "rfc822;jo@alumni.example"; "" where the client gave none
}

// Notify is the set of events that the sender wants a report about.
type Notify uint8

// The values of NOTIFY, RFC 3461, section 4.1. The zero Notify is the absence
// of the parameter: failures, and delays where it pleases us.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// A Body is a message text that can be read many times, also at once:
// *bytes.Reader and *io.SectionReader are Bodies. Its lines end in CRLF and it
// is not dot-stuffed.
type Body interface {
	io.ReaderAt
	Size() int64
}
