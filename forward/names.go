package forward

import (
	"strings"

	"golang.org/x/net/idna"

	"srsd/envelope"
)

// foldDomain is a domain as it is compared: in lower case, A-labels for
// U-labels (RFC 5890, section 2.3.2.1).
func foldDomain(domain string) string {
	for i := 0; i < len(domain); i++ {
		if domain[i] >= 0x80 {
			if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
				return ascii
			}
			break
		}
	}
	return strings.ToLower(domain)
}

// foldLocal is a local part as it is compared. RFC 5321, section 2.4, leaves
// the case to the host of the mailbox; that is us, and nobody means two people
// by Jo and jo.
func foldLocal(local string) string { return strings.ToLower(local) }

// appendKey appends the key of a folded local part at a folded domain; an empty
// domain makes the key of a name that holds for all domains.
func appendKey(buf []byte, local, domain string) []byte {
	buf = append(buf, local...)
	if domain != "" {
		buf = append(append(buf, 0), domain...)
	}
	return buf
}

// cutKey is appendKey undone; it serves items of kind itemAddress as well.
func cutKey(key string) (local, domain string) {
	local, domain, _ = strings.Cut(key, "\x00")
	return local, domain
}

// showKey is a key as the operator writes it.
func showKey(key string) string {
	local, domain := cutKey(key)
	switch {
	case local == "" && domain != "":
		return "@" + domain
	case domain == "":
		return strings.TrimSuffix(showAddress(local, "x"), "@x")
	}
	return showAddress(local, domain)
}

func showAddress(local, domain string) string {
	if domain == "" {
		return showKey(local)
	}
	a, err := envelope.NewAddress(local, domain)
	if err != nil {
		return local + "@" + domain
	}
	return a.String()
}

// detail splits name+detail. A name that begins with the plus has none.
func detail(local string) (name string, ok bool) {
	i := strings.IndexByte(local, '+')
	if i <= 0 {
		return local, false
	}
	return local[:i], true
}

// A domain is what the parser knows about a domain that it has seen.
type domain struct {
	folded string
	ours   bool // in Config.Domains; true for every domain where there are none
	srs    bool
}

// maxDomains bounds the memory that the parser spends on remembering domains.
const maxDomains = 1 << 16

// domain checks a domain once and remembers it: a million aliases name few.
func (p *parser) domain(name string) (domain, error) {
	if d, ok := p.seen[name]; ok {
		return d, nil
	}
	if err := envelope.CheckDomain(name); err != nil {
		return domain{}, err
	}
	// Cloned, or the table would keep the text of the whole file in memory.
	name = strings.Clone(name)
	folded := foldDomain(name)
	d := domain{folded: folded, ours: p.t.domains[folded] || p.infer, srs: p.srs[folded]}
	if len(p.seen) < maxDomains {
		p.seen[name] = d
	}
	return d, nil
}

// address reads a word as an address, or as a local part alone, whose domain
// comes back empty. It is as strict as envelope.ParseAddress, and quick where
// the local part is a plain one.
func (p *parser) address(w string) (local string, d domain, name string, err error) {
	n := plainLocal(w)
	switch {
	case n > 0 && n == len(w):
		return w, domain{}, "", nil
	case n > 0 && w[n] == '@' && len(w) <= envelope.MaxAddress:
		name = w[n+1:]
		if d, err = p.domain(name); err == nil {
			return w[:n], d, name, nil
		}
		return "", domain{}, "", err
	}
	whole := w
	bare := !hasDomain(w)
	if bare {
		whole += "@x"
	}
	a, err := envelope.ParseAddress(whole)
	if err != nil {
		return "", domain{}, "", err
	}
	if bare {
		return a.Local(), domain{}, "", nil
	}
	d, err = p.domain(a.Domain())
	return a.Local(), d, a.Domain(), err
}

// plainLocal is the length of the dot-string of ASCII letters that w begins
// with, 0 where envelope.ParseAddress has to look at it.
func plainLocal(w string) int {
	i := 0
	for i < len(w) && (plain[w[i]] || w[i] == '.' && i > 0 && w[i-1] != '.') {
		i++
	}
	if i > envelope.MaxLocal || i > 0 && w[i-1] == '.' {
		return 0
	}
	return i
}

// hasDomain says whether there is an @ behind the quoted part of w, if any.
func hasDomain(w string) bool {
	if i := strings.LastIndexByte(w, '"'); i > 0 {
		w = w[i:]
	}
	return strings.IndexByte(w, '@') >= 0
}

// plain is atext of RFC 5321, section 4.1.2.
var plain = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~") {
		t[c] = true
	}
	return t
}()
