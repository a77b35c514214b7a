package spf

import (
	"net/netip"
	"strings"
)

const (
	lineWidth = 78  // what a header line should keep to (RFC 5322, section 2.1.1)
	maxWord   = 400 // octets of one value or word; a longer one is cut, so that no line comes near 998
)

// ReceivedSPF is the body of the Received-SPF field of RFC 7208, section 9.1:
// what stands between "Received-SPF: " and the final CRLF, folded. All of it is
// printable ASCII, whatever the arguments are: they come from a stranger. From is
// the reverse-path without angle brackets, "" for the null one; receiver is the
// name of the host that has checked.
func (o Outcome) ReceivedSPF(receiver string, ip netip.Addr, helo, from string) string {
	f := folder{column: len("Received-SPF: ")}
	f.word(string(o.Result))
	comment := o.Reason
	if receiver != "" {
		comment = receiver + ": " + comment
	}
	words := strings.Fields(printable(comment))
	for i, w := range words {
		w = escape(w, `()\`)
		if i == 0 {
			w = "(" + w
		}
		if i == len(words)-1 {
			w += ")"
		}
		f.word(w)
	}
	if from == "" {
		from = "<>"
	}
	f.pair("receiver", receiver, ";")
	f.pair("client-ip", ip.Unmap().WithZone("").String(), ";")
	f.pair("envelope-from", from, ";")
	f.pair("helo", helo, ";")
	f.pair("mechanism", o.Mechanism, ";")
	f.pair("identity", o.Identity, "")
	return f.b.String()
}

// A folder writes words with a space or a line break between them.
type folder struct {
	b      strings.Builder
	column int
}

func (f *folder) word(w string) {
	switch {
	case f.b.Len() == 0:
	case f.column+1+len(w) > lineWidth:
		f.b.WriteString("\r\n\t")
		f.column = 1
	default:
		f.b.WriteByte(' ')
		f.column++
	}
	f.b.WriteString(w)
	f.column += len(w)
}

// pair writes key=value, the value as a dot-atom if it is one, else quoted.
func (f *folder) pair(key, value, end string) {
	if value == "" {
		return
	}
	if !isDotAtom(value) || len(value) > maxWord {
		value = `"` + escape(printable(value), `"\`) + `"`
	}
	f.word(key + "=" + value + end)
}

// escape puts a backslash before each of the special octets (RFC 5322, section
// 3.2.1) and cuts what is too long.
func escape(s, special string) string {
	if len(s) <= maxWord && !strings.ContainsAny(s, special) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if b.Len() >= maxWord {
			b.WriteString("...")
			break
		}
		if strings.IndexByte(special, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isDotAtom says whether s is the dot-atom-text of RFC 5322, section 3.2.3.
func isDotAtom(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if part == "" {
			return false
		}
		for i := range len(part) {
			if c := part[i]; !isAlnum(c) && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) < 0 {
				return false
			}
		}
	}
	return true
}
