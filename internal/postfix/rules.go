package postfix

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/sender"
	"srsd/srs"
)

// Rules are settings made ready for use. They do not change.
type rules struct {
	Settings
	local, excluded domains
	judge           *sender.Judge
}

func newRules(s Settings) *rules {
	return &rules{
		Settings: s, local: newDomains(s.LocalDomains), excluded: newDomains(s.Exclude),
		judge: sender.New(s.SPF, s.Sender, nil),
	}
}

// Domains is a set of domains in lower case; an entry that begins with a dot
// stands for all domains below it.
type domains map[string]bool

func newDomains(list []string) domains {
	d := make(domains, len(list))
	for _, s := range list {
		d[strings.ToLower(s)] = true
	}
	return d
}

func (d domains) has(domain string) bool {
	if len(d) == 0 {
		return false
	}
	if d[domain] {
		return true
	}
	for i := range len(domain) {
		if domain[i] == '.' && d[domain[i:]] {
			return true
		}
	}
	return false
}

// stays says whether mail for a domain, in lower case, stays in the house.
func (r *rules) stays(domain string) bool {
	if _, ok := r.Router.SRS[domain]; ok {
		return true
	}
	return r.local.has(domain) || r.Router.Table.Owns(domain)
}

// A result is the answer to a lookup, in the words of no protocol yet.
type result struct {
	status status
	text   string // the address found, or the cause of the trouble
}

type status int

const (
	absent  status = iota // no such address: the ordinary treatment
	found                 // text is what the address becomes
	trouble               // ask again later
)

func failed(cause string) result { return result{trouble, cause} }

// sender is what the reverse-path key becomes when mail leaves the house: absent
// where it stays as it is. At is the alias domain on whose behalf it leaves, or
// an SRS domain of ours, or "" for the first.
func (r *rules) sender(ctx context.Context, key, at string) result {
	domain := domainOf(key)
	// Postfix writes the null reverse-path as two quotes. Nobody speaks for a
	// name without a domain.
	if domain == "" || r.stays(domain) || r.excluded.has(domain) {
		return result{}
	}
	rewriter, ok := r.Router.SRS[at]
	if !ok {
		at = r.Router.SRSDomain(at)
		if rewriter, ok = r.Router.SRS[at]; !ok {
			return failed("no SRS domain")
		}
	}
	rewritten, err := rewriter.Forward(key)
	if errors.Is(err, srs.ErrTooLong) && r.Router.Keeper != nil {
		rewritten, err = r.Router.Keeper.Keep(ctx, at, key)
	}
	switch {
	case errors.Is(err, srs.ErrSyntax), errors.Is(err, srs.ErrTooLong):
		return result{}
	case err != nil:
		return failed(err.Error())
	case rewritten == "" || rewritten == key:
		return result{}
	}
	return result{found, rewritten}
}

// maxHome is how many SRS addresses of ours may stand inside one another.
const maxHome = 3

// recipient is whom mail to an SRS address of ours is for: absent for every other
// address, and for what is forged or has expired.
func (r *rules) recipient(ctx context.Context, key string) result {
	answer := result{}
	for range maxHome {
		rewriter, ok := r.Router.SRS[domainOf(key)]
		if !ok {
			return answer
		}
		original, err := rewriter.Reverse(key)
		if errors.Is(err, srs.ErrToken) && r.Router.Keeper != nil {
			original, err = r.Router.Keeper.Recall(ctx, key)
		}
		switch {
		case isTrouble(err):
			return failed(err.Error())
		case err != nil:
			return result{}
		}
		key, answer = original, result{found, original}
	}
	return result{}
}

// isTrouble says whether an error is about us and not about an address.
func isTrouble(err error) bool {
	if err == nil {
		return false
	}
	for _, about := range []error{
		srs.ErrNotSRS, srs.ErrNotOurs, srs.ErrSyntax, srs.ErrHash, srs.ErrExpired, srs.ErrFuture, srs.ErrTooLong, srs.ErrToken,
	} {
		if errors.Is(err, about) {
			return false
		}
	}
	return true
}

// aliases is what an alias becomes, in the form of virtual(5). What an alias
// refuses or drops has no such form: it is absent, and so unknown to Postfix.
func (r *rules) aliases(ctx context.Context, key string) result {
	address, err := envelope.ParseAddress(key)
	if err != nil {
		return result{}
	}
	d := r.Router.Route(ctx, forward.Request{Recipient: address})
	switch {
	case d.Kind == forward.Refused && d.Reply.Temporary():
		return failed(fmt.Sprint("alias: ", d.Err))
	case d.Kind != forward.Alias && d.Kind != forward.Postmaster:
		return result{}
	}
	list := make([]string, len(d.Routes))
	for i, route := range d.Routes {
		list[i] = route.Target.String()
	}
	return result{found, strings.Join(list, ", ")}
}

// domainOf is the domain of an address in lower case, "" where it has none.
func domainOf(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return ""
	}
	return strings.ToLower(address[at+1:])
}
