package receive

import (
	"crypto/tls"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/spf"
)

// A trace is what our header fields tell. Every string in it was parsed before
// (names by envelope.CheckDomain, addresses by envelope.ParseAddress); what was
// not, goes through appendComment.
type trace struct {
	hostname    string
	client      envelope.Client
	tls         *tls.ConnectionState // nil: in clear
	extended    bool                 // EHLO, not HELO
	utf8        bool
	id          string
	recipient   envelope.Address // zero: more than one
	reversePath envelope.Address
	checks      []spf.Outcome // SPF, the decisive one last; none: not checked
	note        string        // why the decisive check did not count where it failed
	lists       []string      // block lists that the client is on
	now         time.Time
}

// appendTo appends our fields. What was found out about the message stands
// above the Received that tells whom it came from (RFC 7208, section 9.1; RFC
// 8601, section 4.1).
func (t trace) appendTo(b []byte) []byte {
	b = t.appendResults(b)
	for _, o := range t.checks {
		b = append(b, "Received-SPF: "...)
		b = append(b, o.ReceivedSPF(t.hostname, t.client.IP, t.client.HELO, t.reversePath.String())...)
		b = append(b, "\r\n"...)
	}
	return t.appendReceived(b)
}

// appendReceived follows RFC 5321, section 4.4, and for the protocol names
// RFC 3848 and RFC 6531, section 4.3.
func (t trace) appendReceived(b []byte) []byte {
	b = append(b, "Received: from "...)
	b = append(b, t.client.HELO...)
	b = append(b, " ("...)
	if t.client.Name != "" {
		b = append(b, t.client.Name...)
		b = append(b, ' ')
	}
	b = append(b, '[')
	b = appendIP(b, t.client)
	b = append(b, "])\r\n\tby "...)
	b = append(b, t.hostname...)
	b = append(b, " with "...)
	b = append(b, t.protocol()...)
	if t.tls != nil {
		b = append(b, " ("...)
		b = append(b, tls.VersionName(t.tls.Version)...)
		b = append(b, ' ')
		b = append(b, tls.CipherSuiteName(t.tls.CipherSuite)...)
		b = append(b, ')')
	}
	b = append(b, " id "...)
	b = append(b, t.id...)
	if !t.recipient.IsNull() && t.recipient.IsASCII() {
		b = append(b, "\r\n\tfor <"...)
		b = append(b, t.recipient.String()...)
		b = append(b, '>')
	}
	b = append(b, ";\r\n\t"...)
	b = t.now.AppendFormat(b, time.RFC1123Z)
	return append(b, "\r\n"...)
}

func (t trace) protocol() string {
	switch secure := t.tls != nil; {
	case t.utf8 && secure:
		return "UTF8SMTPS"
	case t.utf8:
		return "UTF8SMTP"
	case secure && t.extended:
		return "ESMTPS"
	case t.extended:
		return "ESMTP"
	case secure:
		return "SMTPS"
	default:
		return "SMTP"
	}
}

// appendIP writes the address as a literal has it, RFC 5321, section 4.1.3.
func appendIP(b []byte, c envelope.Client) []byte {
	if c.IP.Is6() {
		b = append(b, "IPv6:"...)
	}
	return c.IP.AppendTo(b)
}

// appendResults follows RFC 8601, sections 2.2 and 2.7.2.
func (t trace) appendResults(b []byte) []byte {
	b = append(b, "Authentication-Results: "...)
	b = append(b, t.hostname...)
	if len(t.checks) == 0 && len(t.lists) == 0 {
		return append(b, "; none\r\n"...)
	}
	for i, o := range t.checks {
		b = append(b, ";\r\n\tspf="...)
		b = append(b, o.Result...)
		if t.note != "" && i == len(t.checks)-1 {
			b = append(b, " ("...)
			b = appendComment(b, t.note)
			b = append(b, ')')
		}
		if o.Identity == spf.HELO {
			b = append(b, " smtp.helo="...)
			b = appendValue(b, t.client.HELO)
		} else {
			b = append(b, " smtp.mailfrom="...)
			b = appendValue(b, t.reversePath.String())
		}
	}
	for _, zone := range t.lists {
		b = append(b, ";\r\n\tdnsbl=fail dns.zone="...)
		b = append(b, zone...)
	}
	return append(b, "\r\n"...)
}

// appendValue appends a name or an address as a pvalue of RFC 8601, section 2.2:
// where it ends in an address literal, it must be quoted.
func appendValue(b []byte, s string) []byte {
	if !strings.HasSuffix(s, "]") {
		return append(b, s...)
	}
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// appendComment appends s as text within a comment: printable ASCII only, what
// could end or open one with a backslash (RFC 5322, section 3.2.2), and not
// more than a line holds.
func appendComment(b []byte, s string) []byte {
	const most = 300
	for i := 0; i < len(s) && i < most; i++ {
		switch c := s[i]; {
		case c < ' ' || c > '~':
			b = append(b, '?')
		case c == '(' || c == ')' || c == '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return b
}
