package spflint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"srsd/spf"
)

// What is read at most: the records, and the terms that name hosts.
const (
	maxRecords = 100
	maxTerms   = 200
)

// A walker goes through a tree of records and remembers what it meets.
type walker struct {
	ctx   context.Context
	r     spf.Resolver
	draft bool

	findings   []Finding
	authorised []netip.Prefix
	seen       map[netip.Prefix]string // networks, and the record that named them first
	path       []string                // the records above, folded
	done       map[string]*Node        // the records read, by folded domain
	records    int
	asked      int // terms that name hosts
	voids      int
	only4      int // terms whose hosts have IPv4 addresses only
	everybody  bool
}

func (w *walker) find(s Severity, domain, term, section, format string, args ...any) {
	w.findings = append(w.findings, Finding{s, domain, term, fmt.Sprintf(format, args...), section})
}

// record reads the record of a domain into a node, and all below it. It counts
// towards the authorised addresses if allowed.
func (w *walker) record(domain string, n *Node, allowed bool) *Node {
	if n == nil {
		n = &Node{}
	}
	n.Domain = domain
	if slices.Contains(w.path, fold(domain)) {
		n.Problem = "a loop"
		w.find(Error, w.above(domain), n.Term, "4.6.4", "the record leads back to itself: every check that comes here ends in permerror")
		return n
	}
	if first := w.done[fold(domain)]; first != nil {
		n.Record, n.Problem, n.Lookups = first.Record, "read before", first.Lookups
		w.find(Warning, w.above(domain), n.Term, "", "the record is read a second time")
		return n
	}
	if w.records++; w.records > maxRecords {
		n.Problem = "not read: too many records"
		return n
	}
	text, ok := w.fetch(domain, n)
	if !ok {
		return n
	}
	n.Record = text
	w.checkText(domain, text)
	r, err := spf.Parse(text)
	for _, e := range each(err) {
		n.Problem = "syntax error"
		w.find(Error, domain, e.Term, "4.6", "%s", e.Cause)
	}
	w.path = append(w.path, fold(domain))
	w.terms(r, domain, n, allowed)
	w.path = w.path[:len(w.path)-1]
	w.done[fold(domain)] = n
	return n
}

// above is the domain of the record with the term that led here.
func (w *walker) above(domain string) string {
	if len(w.path) > 0 {
		return w.path[len(w.path)-1]
	}
	return domain
}

// each takes the error of spf.Parse apart.
func each(err error) (all []*spf.SyntaxError) {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range list.Unwrap() {
			all = append(all, each(err)...)
		}
	}
	if e, ok := errors.AsType[*spf.SyntaxError](err); ok && all == nil {
		all = append(all, e)
	}
	return all
}

// fetch finds the one SPF record of a domain.
func (w *walker) fetch(domain string, n *Node) (string, bool) {
	txt, meta, err := w.r.TXT(w.ctx, domain)
	if err != nil {
		n.Problem = "DNS trouble"
		w.find(Error, w.above(domain), n.Term, "4.4", "DNS trouble: %v", err)
		return "", false
	}
	records := spf.Records(txt)
	if len(records) == 1 {
		w.checkSet(domain, txt)
		return records[0], true
	}
	switch {
	case len(records) > 1:
		n.Problem = "several SPF records"
		w.find(Error, domain, n.Term, "4.5", "%d SPF records: checks end in permerror, keep one", len(records))
	case meta.NXDomain:
		n.Problem = "no such name"
	default:
		n.Problem = "no SPF record"
	}
	if len(records) == 0 && n.Term == "" {
		w.find(Error, domain, "", "4.5", "%s: checks end in none", n.Problem)
	} else if len(records) == 0 {
		w.find(Error, w.above(domain), n.Term, "5.2", "%s: checks that come here end in permerror", n.Problem)
	}
	w.checkLookalikes(domain, txt)
	return "", false
}

// terms walks the terms of a record in the order of evaluation.
func (w *walker) terms(r spf.Record, domain string, n *Node, allowed bool) {
	ended := false
	for i, t := range r.Terms {
		if t.Modifier() {
			w.checkModifier(t, domain, ended || hasAll(r))
			continue
		}
		if ended {
			w.find(Warning, domain, t.Text, "5.1", "never evaluated, because it stands after all")
			continue
		}
		w.checkTerm(t, domain, r.Terms[:i])
		ended = t.Name == "all"
		w.term(t, domain, n, allowed && t.Qualifier == '+')
	}
	if r.Redirect != "" && !ended {
		w.term(spf.Term{Text: "redirect=" + r.Redirect, Name: "redirect", Domain: r.Redirect}, domain, n, allowed)
	}
	if r.Redirect == "" && !ended && n.Term == "" {
		w.find(Warning, domain, "", "4.7", "neither all nor redirect= at the end: clients that match nothing get neutral")
	}
	if r.Exp != "" {
		w.checkExp(r.Exp, domain)
	}
}

// term walks one mechanism or redirect.
func (w *walker) term(t spf.Term, domain string, parent *Node, allowed bool) {
	switch t.Name {
	case "all":
		w.everybody = w.everybody || allowed
		return
	case "ip4", "ip6":
		w.network(t, domain, parent, allowed)
		return
	}
	n := &Node{Term: t.Text, Lookups: 1}
	parent.Children = append(parent.Children, n)
	if !t.HasMacro() {
		n.Domain = strings.TrimSuffix(cmp.Or(t.Domain, domain), ".")
		switch t.Name {
		case "include", "redirect":
			w.record(n.Domain, n, allowed)
		case "ptr": // depends on the client
		default:
			w.hostTerm(t, n, domain, allowed)
		}
	}
	parent.Lookups += n.Lookups
}

// hostTerm walks a, mx or exists.
func (w *walker) hostTerm(t spf.Term, n *Node, domain string, allowed bool) {
	if w.asked++; w.asked > maxTerms {
		n.Problem = "not asked for: too many terms"
		return
	}
	switch t.Name {
	case "a":
		w.hosts(t, n, domain, []string{n.Domain}, allowed)
	case "mx":
		w.mx(t, n, domain, allowed)
	case "exists":
		ips, _, err := w.r.Addr(w.ctx, n.Domain, false)
		w.found(t, n, domain, len(ips), err)
	}
}

// network takes note of ip4 and ip6.
func (w *walker) network(t spf.Term, domain string, n *Node, allowed bool) {
	p := t.Prefix.Masked()
	n.Networks = append(n.Networks, p)
	if first, ok := w.seen[p]; ok {
		w.find(Warning, domain, t.Text, "", "the network is in the record of %s already", first)
	} else {
		w.seen[p] = domain
	}
	if allowed {
		w.authorised = append(w.authorised, p)
		w.everybody = w.everybody || p.Bits() == 0
	}
}

// hosts asks for the addresses of hosts, of both families.
func (w *walker) hosts(t spf.Term, n *Node, domain string, hosts []string, allowed bool) {
	var found [2]int
	for _, host := range hosts {
		here := 0
		for i, v6 := range []bool{false, true} {
			ips, _, err := w.r.Addr(w.ctx, host, v6)
			if err != nil {
				w.find(Error, domain, t.Text, "5", "DNS trouble: %v", err)
				continue
			}
			found[i] += len(ips)
			here += len(ips)
			for _, ip := range ips {
				bits := t.Bits4
				if ip.Is6() {
					bits = t.Bits6
				}
				n.Networks = append(n.Networks, netip.PrefixFrom(ip, bits).Masked())
			}
		}
		if here == 0 && t.Name == "mx" {
			w.find(Warning, domain, t.Text, "5.4", "the mail host %s has no address", host)
		}
	}
	if allowed {
		w.authorised = append(w.authorised, n.Networks...)
	}
	if t.Name == "a" {
		w.found(t, n, domain, found[0]+found[1], nil)
		if found[0] > 0 && found[1] == 0 {
			w.only4++
		}
	}
}

func (w *walker) mx(t spf.Term, n *Node, domain string, allowed bool) {
	mxs, _, err := w.r.MX(w.ctx, n.Domain)
	w.found(t, n, domain, len(mxs), err)
	if len(mxs) > 10 {
		n.Problem = "too many MX records"
		w.find(Error, domain, t.Text, "4.6.4", "%s has %d MX records, more than 10 end in permerror", n.Domain, len(mxs))
		return
	}
	var hosts []string
	for _, mx := range mxs {
		if host := strings.TrimSuffix(mx.Host, "."); host != "" {
			hosts = append(hosts, host)
		}
	}
	w.hosts(t, n, domain, hosts, allowed)
}

// found takes note of a term that found nothing.
func (w *walker) found(t spf.Term, n *Node, domain string, records int, err error) {
	switch {
	case err != nil:
		n.Problem = "DNS trouble"
		w.find(Error, domain, t.Text, "5", "DNS trouble: %v", err)
	case records == 0:
		n.Void, n.Problem = true, "nothing found"
		w.voids++
		w.find(Warning, domain, t.Text, "4.6.4", "DNS has nothing for %s: a void lookup, 2 are allowed", n.Domain)
	}
}

func hasAll(r spf.Record) bool {
	return slices.ContainsFunc(r.Terms, func(t spf.Term) bool { return t.Name == "all" })
}

// fold is the one spelling of a domain: A-labels in lower case.
func fold(domain string) string {
	if a, err := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false)).ToASCII(domain); err == nil {
		domain = a
	}
	return strings.ToLower(strings.TrimSuffix(domain, "."))
}
