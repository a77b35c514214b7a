// Package store keeps what must not be lost: the queue of deferred messages,
// counters, and small state. Queue and State are the two interfaces; Badger is
// the engine behind both, and storetest the suite that every engine must pass.
package store

import (
	"context"
	"errors"
	"io"
	"time"

	"srsd/envelope"
)

// Errors of every engine.
var (
	ErrNotFound  = errors.New("store: no such entry")
	ErrLeaseLost = errors.New("store: the lease is no longer held")
	ErrCorrupt   = errors.New("store: the stored body is damaged")
	ErrFull      = errors.New("store: too little free space")
	ErrInUse     = errors.New("store: the data directory is in use")
	ErrConflict  = errors.New("store: changed by somebody else")
)

// An Entry is one message in the queue. Its deliveries are what happens to its
// routes: each holds the routes that share a next-hop domain.
type Entry struct {
	envelope.Message
	Deliveries []Delivery
}

// A Delivery is the routes of one entry that share a next-hop domain, with one
// retry schedule. It is what is leased.
type Delivery struct {
	Entry    string           // queue id
	N        int              // its place among the entry's deliveries, from 0
	Domain   string           // of the targets, lower case; what "next hop" means to the queue
	Routes   []envelope.Route // what is still to be delivered
	State    DeliveryState
	Attempts []Attempt // what happened, oldest first; the engine keeps the last 20
	Tries    int       // attempts made in all
	Due      time.Time // of the next attempt; of a failed delivery: when it is forgotten
	Delayed  bool      // the report about the delay has been sent
}

// A DeliveryState says what becomes of a delivery.
type DeliveryState string

// The states of a delivery.
const (
	Queued DeliveryState = "queued" // waits for Due
	Leased DeliveryState = "leased" // an attempt is under way
	Held   DeliveryState = "held"   // waits for the operator
	Failed DeliveryState = "failed" // given up; kept so that the operator sees it, without its body
)

// An Attempt is one try at a delivery.
type Attempt struct {
	At     time.Time
	Remote string           // host and address that answered; "" where none did
	Reply  envelope.Reply   // what it said, or what we say for want of an answer
	Target envelope.Address // the target that it is about; null where all
}

// A Lease is a delivery that is ours until Until. Token fences: once somebody
// else has leased the delivery, or it has been dropped, an Outcome with the old
// token has no effect. Until then an outcome counts even after Until: it is the
// truth about an attempt.
type Lease struct {
	Delivery Delivery
	Message  envelope.Message // without Routes
	Token    uint64
	Until    time.Time
}

// LeaseQuery says what to lease.
type LeaseQuery struct {
	Now       time.Time               // zero: now, by the clock of the engine
	Max       int                     // at most this many
	TTL       time.Duration           // how long the leases last, whatever the clock does meanwhile
	PerDomain func(domain string) int // how many more of a domain are wanted now; nil: no limit
}

// An Outcome ends a lease, given back as it was received. Exactly one of its ways is taken: the delivery is
// done where Routes is empty and Failed false; it is given up where Failed is
// true; otherwise Routes are left and are due at Due.
type Outcome struct {
	Lease    Lease
	Routes   []envelope.Route // what is left to deliver
	Due      time.Time
	Attempts []Attempt // to be appended
	Failed   bool      // given up: listed as failed, the body goes when nothing else needs it
	Hold     bool      // the operator must look at it
	Delayed  bool      // the delay has been reported
	Spawn    *Spawn    // a message to enqueue in the same transaction: a report
}

// A Spawn is a new message that an outcome brings into the queue.
type Spawn struct {
	Entry Entry
	Body  envelope.Body
}

// A Filter selects entries and deliveries. Zero fields do not filter.
type Filter struct {
	IDs       []string
	Domain    string // next-hop domain
	Address   string // reverse-path, alias or target
	State     DeliveryState
	OlderThan time.Time // received before
}

// An Action is what Edit does to what a filter selects.
type Action string

// The actions. Retry means nothing to what is held or has failed. Hold and Drop
// take effect on a delivery whose attempt is under way when that has ended.
const (
	Retry   Action = "retry"   // due now
	Hold    Action = "hold"    // no attempts until released
	Release Action = "release" // back to the schedule
	Drop    Action = "drop"    // forgotten without a report, also what has failed
)

// A StoredBody is a Body that must be closed.
type StoredBody interface {
	envelope.Body
	io.Closer
}

// Queue is the durable queue of one srsd.
type Queue interface {
	// Enqueue stores an entry with its body. When it returns nil, both are on
	// disk. Storing the same id again is no error and has no effect. A delivery
	// in state Leased is stored under the lease that Enqueue returns for it (in
	// order), so that an attempt under way can end it; its TTL is ttl.
	Enqueue(ctx context.Context, e Entry, body envelope.Body, ttl time.Duration) ([]Lease, error)
	// Lease leases due deliveries in the order of their due times. A lease that
	// has run out is due at once.
	Lease(ctx context.Context, q LeaseQuery) ([]Lease, error)
	// Extend makes leases last until ttl from now. It returns those lost.
	Extend(ctx context.Context, leases []Lease, ttl time.Duration) (lost []Lease, err error)
	// Finish stores outcomes; errs has one error each, nil or ErrLeaseLost. The
	// last delivery gone, entry and body are gone.
	Finish(ctx context.Context, outcomes []Outcome) (errs []error, err error)
	// OpenBody opens a body and verifies its length and hash: ErrCorrupt, never
	// short data.
	OpenBody(ctx context.Context, id string) (StoredBody, error)
	// Wake waits until something may be due, at the latest until the context
	// ends. It may wake for nothing. What PerDomain held back in the last Lease
	// does not wake; a Finish does.
	Wake(ctx context.Context) error
	// List returns up to n entries from cursor on ("" is the start), in the
	// order of their ids, and the cursor for the next call, "" at the end. An
	// entry is listed whole where one of its deliveries is selected.
	List(ctx context.Context, f Filter, cursor string, n int) (entries []Entry, next string, err error)
	// Count counts the entries that have a delivery that is not failed.
	Count(ctx context.Context) (int, error)
	// Edit acts on all deliveries that f selects, and returns the number of
	// those that it changed.
	Edit(ctx context.Context, f Filter, a Action) (int, error)
}

// State is counters and small values, shared by all of srsd.
type State interface {
	// Incr adds delta to a counter that begins anew every window, and returns
	// its value. Up to a second of counting may be lost in a crash.
	Incr(ctx context.Context, key string, delta int64, window time.Duration) (int64, error)
	// Get returns a value: ErrNotFound where there is none.
	Get(ctx context.Context, space, key string) (Value, error)
	// Put stores a value for ttl (0: for good). With rev other than AnyRevision
	// it must be the revision stored now (0: none), else ErrConflict. A nil
	// value deletes.
	Put(ctx context.Context, space, key string, value []byte, rev int64, ttl time.Duration) error
	// Scan calls fn for the values of a space whose keys begin with prefix, in
	// order, until fn returns an error.
	Scan(ctx context.Context, space, prefix string, fn func(key string, v Value) error) error
}

// AnyRevision makes Put replace whatever is there.
const AnyRevision = -1

// A Value is what State stores, with the number of its revision.
type Value struct {
	Data []byte
	Rev  int64
}
