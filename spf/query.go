package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The four questions. Each gives a trouble where the Resolver failed or the time
// is over; RFC 7208, section 5: DNS errors other than "no such name" make a
// temperror.

func (e *evaluation) txt(name string) ([]string, Meta, *trouble) {
	if bad := e.expired(); bad != nil {
		return nil, Meta{}, bad
	}
	name, start := present(name), e.start()
	txt, meta, err := e.checker.Resolver.TXT(e.ctx, name)
	if e.checker.Trace != nil {
		e.traceQuery("TXT", name, txt, meta, start, err)
	}
	return txt, meta, e.answered(meta, err)
}

func (e *evaluation) addr(name string, v6 bool) ([]netip.Addr, Meta, *trouble) {
	if bad := e.expired(); bad != nil {
		return nil, Meta{}, bad
	}
	kind := "A"
	if v6 {
		kind = "AAAA"
	}
	name, start := present(name), e.start()
	ips, meta, err := e.checker.Resolver.Addr(e.ctx, name, v6)
	if e.checker.Trace != nil {
		e.traceQuery(kind, name, words(ips), meta, start, err)
	}
	return ips, meta, e.answered(meta, err)
}

func (e *evaluation) mx(name string) ([]MX, Meta, *trouble) {
	if bad := e.expired(); bad != nil {
		return nil, Meta{}, bad
	}
	name, start := present(name), e.start()
	mxs, meta, err := e.checker.Resolver.MX(e.ctx, name)
	if e.checker.Trace != nil {
		var answer []string
		for _, mx := range mxs {
			answer = append(answer, fmt.Sprintf("%d %s", mx.Pref, mx.Host))
		}
		e.traceQuery("MX", name, answer, meta, start, err)
	}
	return mxs, meta, e.answered(meta, err)
}

func (e *evaluation) ptr() ([]string, Meta, *trouble) {
	if bad := e.expired(); bad != nil {
		return nil, Meta{}, bad
	}
	start := e.start()
	names, meta, err := e.checker.Resolver.PTR(e.ctx, e.ip)
	if e.checker.Trace != nil {
		e.traceQuery("PTR", e.ip.String(), names, meta, start, err)
	}
	return names, meta, e.answered(meta, err)
}

// expired says whether the time for the check is over. RFC 7208, section 4.6.4.
func (e *evaluation) expired() *trouble {
	err := e.ctx.Err()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return &trouble{TempError, "the time limit for a check is exceeded"}
	}
	return &trouble{TempError, "the check was cancelled"}
}

// answered keeps the shortest TTL and turns an error into a temperror.
func (e *evaluation) answered(meta Meta, err error) *trouble {
	if err != nil {
		if bad := e.expired(); bad != nil {
			return bad
		}
		return &trouble{TempError, "DNS trouble: " + printable(err.Error())}
	}
	if e.ttl < 0 || meta.TTL < e.ttl {
		e.ttl = meta.TTL
	}
	return nil
}

// explanation fetches and expands what exp= names, RFC 7208, section 6.2: only
// for fail, and whatever is wrong with it counts as no exp=.
func (e *evaluation) explanation(v verdict) string {
	if v.result != Fail || v.exp == "" {
		return ""
	}
	e.explaining = true
	name, usable, bad := e.target(v.exp, v.expDomain)
	if bad != nil || !usable {
		return ""
	}
	txt, _, bad := e.txt(name)
	if bad != nil || len(txt) != 1 || !isPrintable(txt[0]) {
		return "" // Section 6.2: one record, and ASCII alone.
	}
	if _, cause := checkMacros(txt[0], true); cause != "" {
		return ""
	}
	text, ok, bad := e.expand(txt[0], v.expDomain)
	if bad != nil || !ok || !isPrintable(text) {
		return ""
	}
	return text
}

func (e *evaluation) start() time.Time {
	if e.checker.Trace == nil {
		return time.Time{}
	}
	return e.checker.now()
}

// syntaxWords is the first of the errors of Parse in words.
func syntaxWords(err error, domain string) string {
	var s *SyntaxError
	if errors.As(err, &s) {
		return "syntax error in " + s.Term + " of " + present(domain) + ": " + s.Cause
	}
	return err.Error()
}

func words(ips []netip.Addr) []string {
	var s []string
	for _, ip := range ips {
		s = append(s, ip.String())
	}
	return s
}
