package spflint

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"srsd/spf"
)

// checkText looks at a record as a text.
func (w *walker) checkText(domain, text string) {
	if n := len(text); n > 450 {
		w.find(Warning, domain, "", "3.4", "%d octets: more than 450 may not fit a DNS answer over UDP", n)
	}
	if n := len(text); n > 255 && w.draft && len(w.path) == 0 {
		w.find(Warning, domain, "", "3.3", "%d octets: publish it as several strings of at most 255, they are joined without a space", n)
	}
}

// checkSet looks at all TXT records of a name together.
func (w *walker) checkSet(domain string, txt []string) {
	size := 0
	for _, s := range txt {
		size += len(s) + len(s)/255 + 13
	}
	// 1232 octets of EDNS0, less header, question and OPT record.
	if size > 1200-len(domain) {
		w.find(Warning, domain, "", "3.4", "all TXT records of this name take about %d octets: who cannot ask by TCP gets no answer", size)
	}
}

// checkLookalikes finds TXT records that were meant to be SPF records.
func (w *walker) checkLookalikes(domain string, txt []string) {
	for _, s := range txt {
		t := strings.ToLower(strings.Trim(s, " \t\"'"))
		if len(spf.Records([]string{s})) == 0 && (strings.HasPrefix(t, "v=spf") || strings.HasPrefix(t, "spf1") || strings.HasPrefix(t, "v=pf1")) {
			w.find(Warning, domain, "", "4.5", "%.60q is no SPF record: one begins with \"v=spf1\" and a space", s)
		}
	}
}

// checkTerm looks at a mechanism that will be evaluated.
func (w *walker) checkTerm(t spf.Term, domain string, earlier []spf.Term) {
	same := func(o spf.Term) bool { return strings.EqualFold(o.Text, t.Text) }
	if t.LooksUp() && slices.ContainsFunc(earlier, same) {
		w.find(Warning, domain, t.Text, "", "stands in the record before")
	}
	switch t.Name {
	case "all":
		if t.Qualifier == '+' {
			w.find(Warning, domain, t.Text, "8.3", "authorises every host of the Internet")
		}
		if t.Qualifier == '?' && len(w.path) == 1 { // in an included record it means no match
			w.find(Warning, domain, t.Text, "8.2", "says nothing about all other hosts: forgers get neutral")
		}
	case "ptr":
		w.find(Warning, domain, t.Text, "5.5", "ptr is slow and unreliable, and should not be used")
	case "ip4", "ip6":
		w.checkNetwork(t, domain)
	}
	w.checkMacros(t, domain)
}

func (w *walker) checkNetwork(t spf.Term, domain string) {
	p, ip := t.Prefix, t.Prefix.Addr()
	if _, again := w.seen[p.Masked()]; again {
		return
	}
	if p.Masked().Addr() != ip {
		w.find(Warning, domain, t.Text, "5.6", "the address lies inside the network, which is %s", p.Masked())
	}
	switch {
	case ip.Is4In6():
		w.find(Warning, domain, t.Text, "5", "matches nobody: clients with such an address are IPv4 clients")
	case ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast():
		w.find(Warning, domain, t.Text, "", "no mail comes from this network over the Internet")
	}
	if ip.Is4() && p.Bits() < 12 || ip.Is6() && p.Bits() < 20 {
		w.find(Warning, domain, t.Text, "", "a very large network")
	}
}

func (w *walker) checkMacros(t spf.Term, domain string) {
	if !t.HasMacro() {
		return
	}
	s := strings.ToLower(t.Domain)
	if strings.Contains(s, "%{s") || strings.Contains(s, "%{l") {
		w.find(Warning, domain, t.Text, "7.2", "asks DNS for every single sender, and matches no internationalised address (RFC 8616)")
	}
	if strings.Contains(s, "%{p") {
		w.find(Warning, domain, t.Text, "7.2", "the macro p is slow and unreliable, and should not be used")
	}
}

func (w *walker) checkModifier(t spf.Term, domain string, all bool) {
	switch t.Name {
	case "redirect":
		if all {
			w.find(Warning, domain, t.Text, "6.1", "never used, because the record has all")
		}
		w.checkMacros(t, domain)
	case "exp":
	default:
		w.find(Warning, domain, t.Text, "6", "an unknown modifier, which is ignored")
	}
}

// checkExp looks at the explanation that exp= names.
func (w *walker) checkExp(spec, domain string) {
	term := "exp=" + spec
	if strings.Contains(spec, "%") {
		return
	}
	txt, _, err := w.r.TXT(w.ctx, strings.TrimSuffix(spec, "."))
	switch {
	case err != nil:
		w.find(Warning, domain, term, "6.2", "DNS trouble, so there is no explanation: %v", err)
	case len(txt) != 1:
		w.find(Warning, domain, term, "6.2", "%d TXT records there, one is needed for an explanation", len(txt))
	case strings.ContainsFunc(txt[0], func(r rune) bool { return r < ' ' || r > '~' }):
		w.find(Warning, domain, term, "6.2", "the explanation is not printable ASCII, so it is ignored")
	}
}

// limits looks at the tree as a whole.
func (w *walker) limits(domain string, root *Node) {
	switch n := root.Lookups; {
	case n > 10:
		w.find(Error, domain, "", "4.6.4", "%d terms need DNS, 10 are allowed: clients that match late or not at all get permerror", n)
	case n >= 8:
		w.find(Warning, domain, "", "4.6.4", "%d terms need DNS, 10 are allowed: an included record may grow", n)
	}
	if w.voids > 2 {
		w.find(Error, domain, "", "4.6.4", "%d terms find nothing in DNS, 2 are allowed: clients that match late or not at all get permerror", w.voids)
	}
	if w.only4 > 2 {
		w.find(Warning, domain, "", "4.6.4", "%d terms name hosts without IPv6 addresses: strict checkers count each as void for an IPv6 client, and 2 are allowed", w.only4)
	}
	w.covered()
}

// covered finds networks inside other authorised networks.
func (w *walker) covered() {
	nets := slices.SortedFunc(maps.Keys(w.seen), netip.Prefix.Compare)
	wide := disjoint(nets)
	for _, p := range nets {
		i := slices.IndexFunc(wide, func(q netip.Prefix) bool { return q.Bits() < p.Bits() && q.Contains(p.Addr()) })
		if i >= 0 {
			w.find(Warning, w.seen[p], p.String(), "", "the network lies in %s of %s", wide[i], w.seen[wide[i]])
		}
	}
}
