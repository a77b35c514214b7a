package forward

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"srsd/envelope"
	"srsd/srs"
)

// A Kind says what a recipient is.
type Kind string

// The kinds of recipients.
const (
	Alias      Kind = "alias"
	SRS        Kind = "srs" // an SRS address of ours: a bounce on its way home
	Postmaster Kind = "postmaster"
	Discard    Kind = "discard" // :blackhole: accepted, and delivered to nobody
	Refused    Kind = "refused"
)

// A Rewriter writes and reverses the SRS addresses of one SRS domain;
// *srs.Rewriter is one.
type Rewriter interface {
	Forward(address string) (string, error)
	Reverse(address string) (string, error)
}

// A Keeper keeps senders that are too long for an SRS address.
type Keeper interface {
	// Keep returns an address at an SRS domain that stands for sender.
	Keep(ctx context.Context, domain, sender string) (address string, err error)
	// Recall returns the sender that a token (srs.ErrToken) stands for:
	// srs.ErrExpired where it is no longer known, another error where the
	// answer is not to be had now.
	Recall(ctx context.Context, address string) (sender string, err error)
}

// A Router decides about recipients. Its fields are set before its first use
// and do not change; a reload makes another Router.
type Router struct {
	Table     *Table
	SRS       map[string]Rewriter             // by SRS domain, in lower case
	SRSDomain func(aliasDomain string) string // the SRS domain for an alias domain; lower case in and out
	AllowFrom []envelope.Address              // reverse-paths besides the null one that may use SRS addresses
	Keeper    Keeper                          // nil: senders that are too long go on as they are
}

// A Request is one RCPT.
type Request struct {
	ReversePath envelope.Address
	SPF         string // the SPF result for it
	Recipient   envelope.Address
	Notify      envelope.Notify
	Original    string     // ORCPT
	Client      netip.Addr // who asks; the Router itself does not look at it
	Memory      *Memory    // of the transaction; nil: none
}

// A Memory keeps the reverse-path that the routes of one transaction get, so
// that it is signed once and not for each RCPT. The zero Memory is empty.
type Memory struct {
	router            *Router
	domain            string
	sender, rewritten envelope.Address
}

// A Decision is what becomes of a recipient.
type Decision struct {
	Kind   Kind
	Reply  envelope.Reply   // where it is refused: for RCPT, without any target in it
	Routes []envelope.Route // where it is Alias, SRS or Postmaster
	Forged bool             // refused because an SRS address is forged or has expired
	Err    error            // the cause of a refusal, for the log; names targets
}

// The replies of a Router. None says more than the client must know.
var (
	replyUnknown   = envelope.NewReply(550, envelope.EnhancedCode{5, 1, 1}, "no such address here")
	replyRelay     = envelope.NewReply(550, envelope.EnhancedCode{5, 7, 1}, "relaying denied: this domain is not served here")
	replyForged    = envelope.NewReply(550, envelope.EnhancedCode{5, 1, 1}, "no such address here: it is no bounce address of ours, or it has expired")
	replyOnlyNull  = envelope.NewReply(550, envelope.EnhancedCode{5, 7, 1}, "this address takes only bounces, which come from the null reverse-path <>: write to the sender of the message")
	replyBroken    = envelope.NewReply(451, envelope.EnhancedCode{4, 3, 5}, "mail to this address cannot be forwarded at the moment")
	replyTemporary = envelope.NewReply(451, envelope.EnhancedCode{4, 3, 0}, "temporary failure, try again later")
)

// maxHome is how many SRS addresses of ours may stand inside one another.
const maxHome = 3

// Route decides what becomes of a recipient.
func (r *Router) Route(ctx context.Context, req Request) Decision {
	return r.route(ctx, req, req.Recipient, maxHome)
}

// route decides about an address that the client, or a bounce address of ours,
// has named.
func (r *Router) route(ctx context.Context, req Request, rcpt envelope.Address, home int) Decision {
	domain := foldDomain(rcpt.Domain())
	rewriter, isSRS := r.SRS[domain]
	switch {
	case foldLocal(rcpt.Local()) == postmaster && (domain == "" || isSRS || r.Table.domains[domain]):
		return r.postmaster(ctx, req, rcpt, domain)
	case isSRS && !r.Table.domains[domain], isSRS && srs.IsSRS(rcpt.Local()):
		return r.home(ctx, req, rcpt, rewriter, home)
	case r.Table.domains[domain]:
		return r.alias(ctx, req, rcpt, domain)
	}
	return Decision{Kind: Refused, Reply: replyRelay}
}

// alias decides about a recipient at a domain of the table.
func (r *Router) alias(ctx context.Context, req Request, rcpt envelope.Address, domain string) Decision {
	e, err := r.Table.Expand(rcpt)
	switch {
	case errors.Is(err, ErrUnknown):
		return Decision{Kind: Refused, Reply: replyUnknown, Err: err}
	case err != nil:
		return Decision{Kind: Refused, Reply: replyBroken, Err: err}
	case !e.Reply.IsZero():
		return Decision{Kind: Refused, Reply: e.Reply}
	case e.Discard:
		return Decision{Kind: Discard}
	}
	return r.forward(ctx, req, domain, Alias, e.Targets)
}

// postmaster must be reachable (RFC 5321, section 4.5.1): what is wrong with
// its alias must not be in the way.
func (r *Router) postmaster(ctx context.Context, req Request, rcpt envelope.Address, domain string) Decision {
	e, err := r.Table.Expand(rcpt)
	if err != nil || len(e.Targets) == 0 {
		e, err = r.Table.expandPostmaster()
	}
	if err != nil || len(e.Targets) == 0 {
		return Decision{Kind: Refused, Reply: replyBroken, Err: err}
	}
	if domain == "" {
		domain = r.Table.first
	}
	return r.forward(ctx, req, domain, Postmaster, e.Targets)
}

// forward makes the routes of an alias at a domain.
func (r *Router) forward(ctx context.Context, req Request, domain string, kind Kind, targets []Target) Decision {
	sender, err := r.reversePath(ctx, req, domain)
	if err != nil {
		return Decision{Kind: Refused, Reply: replyTemporary, Err: err}
	}
	routes := make([]envelope.Route, len(targets))
	for i, t := range targets {
		from := sender
		if !t.Owner.IsNull() && !req.ReversePath.IsNull() {
			from = t.Owner
		}
		routes[i] = envelope.Route{Alias: req.Recipient, Target: t.Address, ReversePath: from, Via: t.Via, Notify: req.Notify, Original: req.Original}
	}
	return Decision{Kind: kind, Routes: routes}
}

// reversePath is the sender's address on the way on. The null one stays null;
// our own addresses pass SPF from here as they are; what failed SPF is never
// signed, because it would come home to somebody who has not sent it.
func (r *Router) reversePath(ctx context.Context, req Request, domain string) (envelope.Address, error) {
	sender := req.ReversePath
	senderDomain := foldDomain(sender.Domain())
	_, isSRS := r.SRS[senderDomain]
	if sender.IsNull() || isSRS || r.Table.domains[senderDomain] || req.SPF == "fail" {
		return sender, nil
	}
	m := req.Memory
	if m != nil && m.router == r && m.domain == domain && m.sender == sender {
		return m.rewritten, nil
	}
	rewritten, err := r.rewrite(ctx, sender, domain)
	if m != nil && err == nil {
		*m = Memory{r, domain, sender, rewritten}
	}
	return rewritten, err
}

// rewrite makes the SRS address of a sender for an alias at a domain.
func (r *Router) rewrite(ctx context.Context, sender envelope.Address, domain string) (envelope.Address, error) {
	at := domain
	if _, ok := r.SRS[domain]; !ok {
		at = r.SRSDomain(domain)
	}
	rewriter, ok := r.SRS[at]
	if !ok {
		return envelope.Address{}, errors.New("forward: no SRS domain for " + domain)
	}
	rewritten, err := rewriter.Forward(sender.String())
	if errors.Is(err, srs.ErrTooLong) {
		if r.Keeper == nil {
			return sender, nil
		}
		rewritten, err = r.Keeper.Keep(ctx, at, sender.String())
	}
	if err != nil {
		return envelope.Address{}, err
	}
	return envelope.ParseAddress(rewritten)
}

// home decides about an address at an SRS domain: a bounce may go home, and
// nothing else may come.
func (r *Router) home(ctx context.Context, req Request, rcpt envelope.Address, rewriter Rewriter, home int) Decision {
	address := rcpt.String()
	sender, err := rewriter.Reverse(address)
	if errors.Is(err, srs.ErrToken) && r.Keeper != nil {
		sender, err = r.Keeper.Recall(ctx, address)
	}
	switch {
	case err == nil:
	case errors.Is(err, srs.ErrNotSRS):
		return Decision{Kind: Refused, Reply: replyUnknown, Err: err}
	case forged(err):
		return Decision{Kind: Refused, Reply: replyForged, Forged: true, Err: err}
	default:
		return Decision{Kind: Refused, Reply: replyTemporary, Err: err}
	}
	if !req.ReversePath.IsNull() && !slices.ContainsFunc(r.AllowFrom, func(a envelope.Address) bool { return same(a, req.ReversePath) }) {
		return Decision{Kind: Refused, Reply: replyOnlyNull}
	}
	target, err := envelope.ParseAddress(sender)
	if err != nil {
		return Decision{Kind: Refused, Reply: replyForged, Forged: true, Err: err}
	}
	return r.returned(ctx, req, target, home)
}

// returned sends a bounce to the sender that an SRS address of ours stood for.
// Where that is one of our own, the bounce has come home and goes on from here.
func (r *Router) returned(ctx context.Context, req Request, target envelope.Address, home int) Decision {
	domain := foldDomain(target.Domain())
	if _, isSRS := r.SRS[domain]; !isSRS && !r.Table.domains[domain] {
		route := envelope.Route{Alias: req.Recipient, Target: target, Return: true, Notify: req.Notify, Original: req.Original}
		return Decision{Kind: SRS, Routes: []envelope.Route{route}}
	}
	if home <= 1 {
		return Decision{Kind: Refused, Reply: replyForged, Forged: true, Err: errors.New("forward: bounce addresses inside one another")}
	}
	req.ReversePath = envelope.Address{}
	return r.route(ctx, req, target, home-1)
}

// forged says whether an SRS address has been refused for what it is.
func forged(err error) bool {
	for _, cause := range []error{srs.ErrNotOurs, srs.ErrSyntax, srs.ErrHash, srs.ErrExpired, srs.ErrFuture, srs.ErrTooLong} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}
