// Package spflint looks at the SPF record of a domain as its owner would: what
// is wrong with it, what it costs those who check it, and whom it authorises.
package spflint

import (
	"cmp"
	"context"
	"math/big"
	"net/netip"
	"slices"

	"srsd/spf"
)

// A Severity says how bad a Finding is.
type Severity string

// An error makes checks end in permerror or temperror, at least for some
// clients; a warning is what the owner may want to know.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// A Finding is one remark on a record.
type Finding struct {
	Severity Severity `json:"severity"`
	Domain   string   `json:"domain"`         // whose record
	Term     string   `json:"term,omitempty"` // as published; "" for the whole record
	Text     string   `json:"text"`
	Section  string   `json:"section,omitempty"` // of RFC 7208
}

// A Node is one record in the tree, or one term that looks something up.
type Node struct {
	Term     string         `json:"term,omitempty"`   // what led here; "" at the root
	Domain   string         `json:"domain,omitempty"` // the name that was looked up, "" where it depends on the message
	Record   string         `json:"record,omitempty"` // of include, redirect and the root
	Lookups  int            `json:"lookups"`          // terms that look something up: this one and all below it
	Void     bool           `json:"void,omitempty"`   // DNS had nothing, for either family
	Problem  string         `json:"problem,omitempty"`
	Networks []netip.Prefix `json:"networks,omitempty"` // that this record's or term's own mechanisms name
	Children []*Node        `json:"children,omitempty"`
}

// A Report is all there is to say about a domain's policy.
type Report struct {
	Domain      string    `json:"domain"`
	Findings    []Finding `json:"findings"` // errors first
	Tree        *Node     `json:"tree"`
	Lookups     int       `json:"lookups"`      // in the worst case: no mechanism matches. RFC 7208, section 4.6.4
	VoidLookups int       `json:"void_lookups"` // in that case
	Networks    int       `json:"networks"`     // that are authorised, those inside others left out
	Addresses4  *big.Int  `json:"ipv4_addresses"`
	Addresses6  *big.Int  `json:"ipv6_addresses"`
	Everybody   bool      `json:"everybody"` // +all, or a network of all addresses
}

// Errors counts the findings that are errors.
func (r Report) Errors() int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == Error {
			n++
		}
	}
	return n
}

// Inspect reads the record of a domain, or the draft of one if it is not empty,
// and everything that it leads to, whoever the client may be. It follows at most
// a hundred records.
func Inspect(ctx context.Context, r spf.Resolver, domain, draft string) Report {
	domain = fold(domain)
	if draft != "" {
		r = WithRecord(r, domain, draft)
	}
	w := walker{ctx: ctx, r: r, draft: draft != "", seen: map[netip.Prefix]string{}, done: map[string]*Node{}}
	root := w.record(domain, nil, true)
	rep := Report{Domain: domain, Tree: root, Lookups: root.Lookups, VoidLookups: w.voids, Everybody: w.everybody}
	w.limits(domain, root)
	nets := disjoint(w.authorised)
	rep.Networks, rep.Addresses4, rep.Addresses6 = len(nets), count(nets, true), count(nets, false)
	slices.SortStableFunc(w.findings, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) })
	rep.Findings = w.findings
	return rep
}

// WithRecord is a resolver for which a domain has one TXT record, a record not
// yet published. Everything else is asked of r.
func WithRecord(r spf.Resolver, domain, record string) spf.Resolver {
	return drafted{Resolver: r, domain: fold(domain), record: record}
}

type drafted struct {
	spf.Resolver
	domain, record string
}

func (d drafted) TXT(ctx context.Context, name string) ([]string, spf.Meta, error) {
	if fold(name) == d.domain {
		return []string{d.record}, spf.Meta{}, nil
	}
	return d.Resolver.TXT(ctx, name)
}
