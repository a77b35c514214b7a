// Package receive is the way in: an SMTP server that takes mail for the aliases
// and the SRS addresses of this host and for nobody else.
//
// A connection is counted before anything is said to it (registry), gets a guard
// that lets only well-formed SMTP through (internal/guard), and is then served
// by go-smtp, which calls a session. The session asks an SPF check at MAIL, a
// Router at RCPT and a Deliverer at the final dot, and says what they answer; it
// decides nothing itself but what follows from an SPF result. The policy (names,
// limits, table) is one value that SetPolicy swaps whole: a transaction keeps
// the one that it began with.
package receive

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/sender"
	"srsd/spf"
)

// A Router says what becomes of a recipient.
type Router interface {
	Route(ctx context.Context, r forward.Request) forward.Decision
}

// A Deliverer takes a message over. Its reply is the answer to the final dot:
// 2yz only once the message is delivered or stored. The body holds our trace
// headers and the text. It is valid until Deliver returns, and longer for a
// deliverer that calls its Retain method, until it calls Release.
type Deliverer interface {
	Deliver(ctx context.Context, m envelope.Message, body envelope.Body) envelope.Reply
}

// A Resolver asks the DNS for what the session wants to know beside SPF:
// reverse names and block lists. Every spf.Resolver is one.
type Resolver interface {
	Addr(ctx context.Context, name string, v6 bool) ([]netip.Addr, spf.Meta, error)
	PTR(ctx context.Context, ip netip.Addr) ([]string, spf.Meta, error)
}

// Config is what a Server is made of and keeps for its life.
type Config struct {
	Deliverer Deliverer
	Policy    Policy             // the first; SetPolicy replaces it
	TLS       func() *tls.Config // asked for every handshake; nil: no STARTTLS
	TempDir   string             // for texts above 256 KiB; "": the system's
	Memory    int64              // octets of message texts in memory, all sessions together; 0: 256 MiB
	Resolver  Resolver           // nil: no reverse names, no lists
	Room      func() error       // asked at MAIL: an error says that the disk is too full to promise anything; nil: never asked
	Logger    *slog.Logger       // nil: nothing is logged
	Now       func() time.Time   // nil: time.Now
}

// Policy is what a reload may change. It is not changed after it was handed
// over. Zero numbers mean the default that the comment names.
type Policy struct {
	Hostname string // in the banner, in Received, as authserv-id
	Router   Router
	SPF      sender.SPF // nil: nothing is checked
	Sender   sender.Policy

	MaxMessage    int64 // octets of text, without our trace; 50 MiB
	MaxRecipients int   // of a message; 100
	MaxReceived   int   // Received fields that end a loop; 50
	MaxFailedSRS  int   // forged or expired SRS addresses before a client must go; 20

	MaxConnections           int // 10,000
	MaxConnectionsPerIP      int // 50
	MaxConnectionsPerNetwork int // of an IPv4 /24 or an IPv6 /64; 500

	MaxErrors      int           // of a session; 20
	MaxCommands    int           // of a session without a message between them; 100
	IdleTimeout    time.Duration // 5 min
	SessionTimeout time.Duration // 1 h
	GreetDelay     time.Duration // silence before the banner, who talks into it must go; 0: none

	ProxyNetworks []netip.Prefix // whose connections begin with a PROXY header
	ReverseNames  bool           // look for the client's name, for Received
	BlockLists    []List         // DNSBL, RFC 5782: who is listed reaches postmaster only
	AllowLists    []string       // zones of DNSWL: who is listed there is spared BlockLists

	judge *sender.Judge // of senders, by SPF and Sender
}

// A List is a DNS block list.
type List struct {
	Zone   string
	Action sender.Action // "": sender.Reject
}

// limits is how many connections there may be.
type limits struct {
	total, address, network int
}

func (p *Policy) limits() limits {
	return limits{p.MaxConnections, p.MaxConnectionsPerIP, p.MaxConnectionsPerNetwork}
}

// withDefaults fills in what is zero.
func (p Policy) withDefaults(now func() time.Time) *Policy {
	orInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	orTime := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	if p.MaxMessage <= 0 {
		p.MaxMessage = 50 << 20
	}
	orInt(&p.MaxRecipients, 100)
	orInt(&p.MaxReceived, 50)
	orInt(&p.MaxFailedSRS, 20)
	orInt(&p.MaxConnections, 10_000)
	orInt(&p.MaxConnectionsPerIP, 50)
	orInt(&p.MaxConnectionsPerNetwork, 500)
	orInt(&p.MaxErrors, 20)
	orInt(&p.MaxCommands, 100)
	orTime(&p.IdleTimeout, 5*time.Minute)
	orTime(&p.SessionTimeout, time.Hour)
	p.judge = sender.New(p.SPF, p.Sender, now)
	return &p
}

// contains says whether one of the networks holds ip.
func contains(networks []netip.Prefix, ip netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}
