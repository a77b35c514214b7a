// Package postfix is the doors for Postfix: the services that Postfix asks about
// a sender or a recipient, each in a protocol that Postfix speaks.
//
//	Sender, Recipient  tcp_table(5): canonical maps, one a port
//	Socketmap          socketmap_table(5): the maps forward, reverse and aliases
//	Policy             SMTPD_POLICY_README: SPF, and who may use SRS addresses
//	Milter             MILTER_README: rewrites what leaves the house and nothing else
//
// A Server serves any number of listeners. Each connection has one goroutine,
// which answers requests in their order and writes when it would have to wait
// for more of them: a client that pipelines gets its answers in one packet. What
// the answers depend on is one immutable value, Settings, that SetSettings swaps
// whole; no connection ends for it.
//
// Postfix turns "not found" into the ordinary treatment of an address, and
// everything else into 451. So an address is never an error here, whatever it
// looks like: what is forged, expired, foreign or no address at all is not found,
// and only trouble of our own is a temporary failure.
package postfix

import (
	"log/slog"
	"time"

	"srsd/forward"
	"srsd/internal/sender"
)

// A Door is a protocol and what is asked in it.
type Door string

// The doors.
const (
	Sender    Door = "sender_tcp"
	Recipient Door = "recipient_tcp"
	Socketmap Door = "socketmap"
	Milter    Door = "milter"
	Policy    Door = "policy"
)

// Config is what a Server is made of and keeps for its life.
type Config struct {
	Settings       Settings
	Logger         *slog.Logger  // nil: nothing is logged
	MaxConnections int           // of all doors together, then they are closed at once; 0: 10,000
	IdleTimeout    time.Duration // the longest wait for a client; 0: 30 min
}

// Settings are what a reload may change. They are not changed after they were
// handed over.
type Settings struct {
	Hostname string // in trace headers

	// Router brings the alias table, the rewriters of all SRS domains, and who
	// may use SRS addresses.
	Router *forward.Router

	// LocalDomains are domains whose mail stays in the house, beside those of
	// the alias table: senders in them are not rewritten, recipients in them do
	// not leave. ".example.com" stands for all domains below it.
	LocalDomains []string
	// Exclude are sender domains that are never rewritten, in the same form.
	Exclude []string
	// RewriteLocal makes the milter rewrite where no recipient leaves, too.
	RewriteLocal bool

	SPF       sender.SPF // nil: nothing is checked
	Sender    sender.Policy
	MilterSPF bool // the milter checks SPF and adds its header; else only the policy service does
}
