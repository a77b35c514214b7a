// Package bounce is about reports, the messages that tell a sender what became
// of a message (RFC 3464): who may be sent one (Permit), how srsd writes its own
// (Report), and how a report of somebody else that comes home through srsd is
// made to name the alias instead of the address behind it (Hide).
package bounce

import (
	"bytes"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"

	"srsd/envelope"
)

// MaxReturned is how many octets of the original message a report carries at
// most; a larger message is returned as its header section.
const MaxReturned = 50_000

// A Report is a message about what became of another message. It names aliases
// only: a caller never gives it a target.
type Report struct {
	Hostname   string           // of this relay: Reporting-MTA and the domain of our addresses
	ID         string           // makes the Message-ID and the MIME boundary
	Date       time.Time        // now
	To         envelope.Address // the original sender
	Action     Action
	Recipients []Recipient   // at least one
	Received   time.Time     // when the original message came
	EnvelopeID string        // ENVID of the original, "" where it had none
	RetryUntil time.Time     // of a delayed message: when srsd gives up
	Extent     Extent        // Headers or Full
	Original   envelope.Body // the original message; nil where nothing of it is left
}

// A Recipient is one recipient that a report is about.
type Recipient struct {
	Alias    envelope.Address // as the sender knows it
	Original string           // ORCPT, "rfc822;jo@alumni.example"; "" where the sender gave none
	Reply    envelope.Reply   // of the target, scrubbed of its address
	At       time.Time        // of the last attempt
}

// Bytes is the whole message, with CRLF at the end of every line.
func (r Report) Bytes() ([]byte, error) {
	returned, full, err := r.returned()
	if err != nil {
		return nil, fmt.Errorf("bounce: reading the original message: %w", err)
	}
	var b bytes.Buffer
	utf8 := r.isUTF8()
	boundary := r.boundary(returned)
	r.writeHeader(&b, boundary, utf8 || hasEightBit(returned))
	r.writeText(&b, boundary)
	r.writeStatus(&b, boundary, utf8)
	if len(returned) > 0 {
		writeReturned(&b, boundary, returned, full, utf8)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes(), nil
}

// isUTF8 says whether the report needs the forms of RFC 6533.
func (r Report) isUTF8() bool {
	for _, rcpt := range r.Recipients {
		if !rcpt.Alias.IsASCII() {
			return true
		}
	}
	return !r.To.IsASCII()
}

// boundary is a line that occurs nowhere in the returned text.
func (r Report) boundary(returned []byte) string {
	boundary := "report-" + r.ID
	for bytes.Contains(returned, []byte("--"+boundary)) {
		boundary += "-"
	}
	return boundary
}

func (r Report) writeHeader(b *bytes.Buffer, boundary string, eightBit bool) {
	subject := map[Action]string{
		Failed: "Your message could not be delivered", Delayed: "Your message is delayed",
		Relayed: "Your message has been passed on", Expanded: "Your message has been passed on",
	}[r.Action]
	fmt.Fprintf(b, "From: Mail delivery at %s <MAILER-DAEMON@%s>\r\n", r.Hostname, r.Hostname)
	fmt.Fprintf(b, "To: <%s>\r\nSubject: %s\r\nDate: %s\r\n", r.To, subject, r.Date.Format(time.RFC1123Z))
	fmt.Fprintf(b, "Message-ID: <report.%s@%s>\r\n", r.ID, r.Hostname)
	// RFC 3834, section 5: nobody answers this automatically.
	b.WriteString("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n")
	fmt.Fprintf(b, "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n", boundary)
	if eightBit {
		b.WriteString("Content-Transfer-Encoding: 8bit\r\n")
	}
	b.WriteString("\r\n")
}

// writeText is the part for people.
func (r Report) writeText(b *bytes.Buffer, boundary string) {
	fmt.Fprintf(b, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", boundary)
	var text strings.Builder
	switch r.Action {
	case Failed:
		text.WriteString("Your message could not be delivered to:\r\n")
	case Delayed:
		fmt.Fprintf(&text, "Your message has not been delivered yet. You need not send it again:\r\n"+
			"%s goes on trying until %s.\r\n\r\nIt is still on its way to:\r\n", r.Hostname, r.RetryUntil.Format(time.RFC1123Z))
	default:
		text.WriteString("Your message has been passed on. Whether it was read is not known.\r\nIt went to:\r\n")
	}
	for _, rcpt := range r.Recipients {
		fmt.Fprintf(&text, "\r\n  %s\r\n", rcpt.Alias)
		if rcpt.Reply.IsZero() || r.Action == Relayed || r.Action == Expanded {
			continue
		}
		if r.Action == Failed && rcpt.Reply.Temporary() {
			fmt.Fprintf(&text, "    was tried from %s\r\n    to %s; the last answer:\r\n", r.Received.Format(time.RFC1123Z), rcpt.At.Format(time.RFC1123Z))
		}
		fmt.Fprintf(&text, "    %s\r\n", rcpt.Reply)
	}
	if r.Action == Failed {
		text.WriteString("\r\nBelow each address stands the answer of the system that refused it.\r\n")
	}
	fmt.Fprintf(&text, "\r\nThis report was written by %s.\r\n", r.Hostname)
	q := quotedprintable.NewWriter(b)
	io.WriteString(q, text.String()) // a bytes.Buffer takes all
	q.Close()
	b.WriteString("\r\n")
}

// writeStatus is the part for programs, RFC 3464, section 2.
func (r Report) writeStatus(b *bytes.Buffer, boundary string, utf8 bool) {
	kind, addressType := "message/delivery-status", "rfc822"
	if utf8 { // RFC 6533, section 3.
		kind, addressType = "message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit", "utf-8"
	}
	fmt.Fprintf(b, "--%s\r\nContent-Type: %s\r\n\r\n", boundary, kind)
	if r.EnvelopeID != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", printable(r.EnvelopeID))
	}
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\nArrival-Date: %s\r\n", r.Hostname, r.Received.Format(time.RFC1123Z))
	for _, rcpt := range r.Recipients {
		b.WriteString("\r\n")
		if rcpt.Original != "" {
			kind, address, _ := strings.Cut(rcpt.Original, ";")
			fmt.Fprintf(b, "Original-Recipient: %s; %s\r\n", printable(kind), printable(address))
		}
		fmt.Fprintf(b, "Final-Recipient: %s; %s\r\nAction: %s\r\nStatus: %s\r\n", addressType, rcpt.Alias, r.Action, r.status(rcpt))
		// Remote-MTA would name the host of the target; the alias is all that
		// the sender knows, and its host is this one.
		fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", r.Hostname)
		if !rcpt.Reply.IsZero() {
			fmt.Fprintf(b, "Diagnostic-Code: smtp; %s\r\n", fold(printable(rcpt.Reply.String())))
		}
		if !rcpt.At.IsZero() {
			fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", rcpt.At.Format(time.RFC1123Z))
		}
		if r.Action == Delayed {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", r.RetryUntil.Format(time.RFC1123Z))
		}
	}
	b.WriteString("\r\n")
}

// status is the Status field: its class agrees with the action, whatever the
// last reply was (RFC 3464, section 2.3.4).
func (r Report) status(rcpt Recipient) envelope.EnhancedCode {
	s := rcpt.Reply.Status()
	switch r.Action {
	case Failed:
		if s[0] != 5 && s[0] != 4 {
			s = envelope.EnhancedCode{5, 0, 0}
		}
	case Delayed:
		if s[0] != 4 {
			s = envelope.EnhancedCode{4, 0, 0}
		}
	default:
		if s[0] != 2 {
			s = envelope.EnhancedCode{2, 0, 0}
		}
	}
	return s
}

// returned is what goes back of the original message, and whether it is all.
func (r Report) returned() (text []byte, full bool, err error) {
	if r.Original == nil || r.Extent == NoReport {
		return nil, false, nil
	}
	full = r.Extent == Full && r.Original.Size() <= MaxReturned
	text = make([]byte, min(r.Original.Size(), MaxReturned))
	n, err := r.Original.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	text = text[:n]
	if !full {
		text = headerOf(text)
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\r\n")) {
		text = append(text, "\r\n"...)
	}
	return text, full, nil
}

// headerOf is the header section at the beginning of text, whole lines only.
func headerOf(text []byte) []byte {
	if bytes.HasPrefix(text, []byte("\r\n")) {
		return nil
	}
	if i := bytes.Index(text, []byte("\r\n\r\n")); i >= 0 {
		return text[:i+2]
	}
	if i := bytes.LastIndex(text, []byte("\r\n")); i >= 0 {
		return text[:i+2]
	}
	return nil
}

func writeReturned(b *bytes.Buffer, boundary string, text []byte, full, utf8 bool) {
	kind := "text/rfc822-headers" // RFC 6522, section 4.
	switch {
	case full && utf8:
		kind = "message/global" // RFC 6533, section 3.
	case full:
		kind = "message/rfc822"
	case utf8:
		kind = "message/global-headers"
	}
	fmt.Fprintf(b, "--%s\r\nContent-Type: %s\r\n", boundary, kind)
	if hasEightBit(text) {
		b.WriteString("Content-Transfer-Encoding: 8bit\r\n")
	}
	b.WriteString("\r\n")
	b.Write(text)
	b.WriteString("\r\n")
}

func hasEightBit(text []byte) bool {
	return bytes.ContainsFunc(text, func(r rune) bool { return r >= 0x80 })
}

// printable replaces what may not stand in a header field. UTF-8 stays: it is
// there only where the report is one of RFC 6533.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}

// fold breaks a long field body at blanks (RFC 5322, section 2.2.3).
func fold(s string) string {
	var b strings.Builder
	width := 20
	for i, word := range strings.Split(s, " ") {
		if i > 0 {
			if width+len(word) > 76 {
				b.WriteString("\r\n\t")
				width = 8
			} else {
				b.WriteByte(' ')
				width++
			}
		}
		b.WriteString(word)
		width += len(word)
	}
	return b.String()
}
