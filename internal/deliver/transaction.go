package deliver

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"srsd/envelope"
)

// A transaction is one MAIL … DATA, and what came of it.
type transaction struct {
	m     *envelope.Message
	from  envelope.Address
	rcpts []recipient
	head  string // in front of the body
	body  envelope.Body
	size  int64
	utf8  bool // the header section needs SMTPUTF8

	stage stage
}

// A recipient is one RCPT, for one or more routes to the same target.
type recipient struct {
	route  envelope.Route
	same   []envelope.Route // further routes to the target
	reply  envelope.Reply   // zero until there is one
	remote string           // who said so
	noDSN  bool             // accepted by a host that does not know DSN
	asked  bool             // RCPT is in the flight; after its reply: waits for the dot
	held   envelope.Reply   // a temporary refusal by a host before
}

// A stage is how far a transaction came.
type stage int

const (
	untouched stage = iota // MAIL has not been answered
	talking
	dotted // the final dot may be at the server
)

// A flight is commands in one buffer, with the place where each ends.
type flight struct {
	buf  []byte
	ends []int
	next int // the command whose reply comes next
}

func (f *flight) add(words ...string) {
	for _, w := range words {
		f.buf = append(f.buf, w...)
	}
	f.buf = append(f.buf, '\r', '\n')
	f.ends = append(f.ends, len(f.buf))
}

// The replies that we give for a server that cannot take a message.
var (
	replyNoUTF8 = envelope.NewReply(553, envelope.EnhancedCode{5, 6, 7}, "the next server cannot take internationalized addresses or headers")
	replyTooBig = envelope.NewReply(552, envelope.EnhancedCode{5, 3, 4}, "the message is larger than the next server allows")
	replyLost   = envelope.NewReply(451, envelope.EnhancedCode{4, 4, 2}, "the connection was lost before the message was answered for; a copy may have arrived")
)

// send does a transaction: MAIL, RCPT and DATA in one flight where the server
// allows that (RFC 2920). Each recipient gets its reply. An error means that the
// connection is of no more use; recipients without a reply have none then.
func (c *conn) send(t *transaction) error {
	if !c.prepare(t) {
		return nil
	}
	c.used++
	if c.ext.pipelining {
		if err := c.write(c.flight.buf, c.times.command); err != nil {
			return err
		}
	}
	if c.open {
		if reply, err := c.ask(c.times.command); err != nil || !reply.Accepted() {
			return firstError(err, reply)
		}
	}
	accepted, err := c.recipients(t)
	if err != nil || accepted == 0 && !c.ext.pipelining {
		return err
	}
	return c.data(t, accepted)
}

// prepare writes the commands into the flight and answers for the server where
// its extensions do not suffice. It returns false where nobody is left to ask.
func (c *conn) prepare(t *transaction) bool {
	f := &c.flight
	f.buf, f.ends, f.next = f.buf[:0], f.ends[:0], 0
	from, ok := c.path(t.from)
	switch {
	case !ok, t.utf8 && !c.ext.utf8:
		t.answer(replyNoUTF8, c.remote)
		return false
	case c.ext.size > 0 && t.size > c.ext.size:
		t.answer(replyTooBig, c.remote)
		return false
	}
	if c.open {
		f.add("RSET")
	}
	f.add("MAIL FROM:", from, c.mailParameters(t))
	n := 0
	for i := range t.rcpts {
		r := &t.rcpts[i]
		r.asked = false
		if !r.reply.IsZero() {
			continue
		}
		to, ok := c.path(r.route.Target)
		if !ok {
			r.reply, r.remote = replyNoUTF8, c.remote
			continue
		}
		r.asked = true
		f.add("RCPT TO:", to, c.rcptParameters(r.route))
		n++
	}
	f.add("DATA")
	return n > 0
}

// path is an address as this server can take it, in angle brackets. A server
// without SMTPUTF8 gets domains as A-labels (RFC 5890); a local part has no such
// form (RFC 6531, section 3.2).
func (c *conn) path(a envelope.Address) (string, bool) {
	if a.IsASCII() || c.ext.utf8 {
		return a.Path(), true
	}
	domain, err := idna.Lookup.ToASCII(a.Domain())
	if err != nil {
		return "", false
	}
	a, err = a.WithDomain(domain)
	return a.Path(), err == nil && a.IsASCII()
}

// mailParameters are those of RFC 1870, 6152, 6531 and 3461 that the server
// knows. A message with 8-bit octets goes as it is to a server without 8BITMIME
// too, as nearly all mailers do it: to convert it would break its signatures,
// and hardly a server is left that minds.
func (c *conn) mailParameters(t *transaction) string {
	var p []byte
	if c.ext.sizes {
		p = strconv.AppendInt(append(p, " SIZE="...), t.size, 10)
	}
	if t.m.EightBit && c.ext.eightBit {
		p = append(p, " BODY=8BITMIME"...)
	}
	if c.ext.utf8 && (t.m.UTF8 || !t.from.IsASCII() || slices.ContainsFunc(t.rcpts, func(r recipient) bool { return !r.route.Target.IsASCII() })) {
		p = append(p, " SMTPUTF8"...)
	}
	if c.ext.dsn && (t.m.Return == "FULL" || t.m.Return == "HDRS") {
		p = append(append(p, " RET="...), t.m.Return...)
	}
	if c.ext.dsn && t.m.EnvelopeID != "" {
		p = append(append(p, " ENVID="...), xtext(t.m.EnvelopeID)...)
	}
	return string(p)
}

// rcptParameters are those of RFC 3461, section 4.1 and 4.2.
func (c *conn) rcptParameters(r envelope.Route) string {
	if !c.ext.dsn || r.Notify == 0 && r.Original == "" {
		return ""
	}
	var events []string
	for _, e := range []struct {
		bit  envelope.Notify
		name string
	}{{envelope.NotifyNever, "NEVER"}, {envelope.NotifySuccess, "SUCCESS"}, {envelope.NotifyFailure, "FAILURE"}, {envelope.NotifyDelay, "DELAY"}} {
		if r.Notify&e.bit != 0 {
			events = append(events, e.name)
		}
	}
	p := ""
	if len(events) > 0 {
		p = " NOTIFY=" + strings.Join(events, ",")
	}
	if r.Original != "" && !strings.ContainsFunc(r.Original, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		p += " ORCPT=" + r.Original
	}
	return p
}

// xtext encodes as RFC 3461, section 4, says.
func xtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// ask returns the reply to the next command of the flight, which it sends where
// the flight has not gone out as one.
func (c *conn) ask(limit time.Duration) (envelope.Reply, error) {
	f := &c.flight
	if !c.ext.pipelining {
		start := 0
		if f.next > 0 {
			start = f.ends[f.next-1]
		}
		if err := c.write(f.buf[start:f.ends[f.next]], c.times.command); err != nil {
			return envelope.Reply{}, err
		}
	}
	f.next++
	return c.read(limit)
}

// recipients hears the replies to MAIL and RCPT and counts the accepted.
func (c *conn) recipients(t *transaction) (accepted int, err error) {
	mail, err := c.ask(c.times.command)
	if err != nil {
		return 0, err
	}
	if mail.Code == 421 {
		return 0, mail // closing, before it has looked at the message: its idle timer, most times
	}
	t.stage, c.open = talking, true
	if !mail.Accepted() {
		t.answer(refusal(mail), c.remote)
		if !c.ext.pipelining {
			c.open = false
			return 0, nil
		}
	}
	for i := range t.rcpts {
		r := &t.rcpts[i]
		if !r.asked {
			continue
		}
		reply, err := c.ask(c.times.command)
		if err != nil {
			return accepted, err
		}
		r.asked = mail.Accepted() && reply.Accepted() // from here on: waits for the dot
		switch {
		case r.asked:
			accepted++
		case r.reply.IsZero():
			r.reply, r.remote = refusal(reply), c.remote
		}
	}
	return accepted, nil
}

// data does DATA for those who were accepted.
func (c *conn) data(t *transaction, accepted int) error {
	reply, err := c.ask(c.times.data)
	if err != nil {
		return err
	}
	switch {
	case accepted == 0 && reply.Code == 354:
		return fmt.Errorf("%w: 354 without a recipient", errReply) // RFC 2920, section 3.1: better closed than an empty message
	case accepted == 0:
		return nil
	case reply.Code != 354:
		t.finish(refusal(reply), c)
		return nil
	}
	t.stage = dotted
	head := t.head
	if !c.ext.utf8 && !isASCII(head) { // it cannot name the alias there
		head = ""
	}
	if err := c.sendBody(head, t.body); err != nil {
		if reply, ok := c.lastWords(err); ok {
			t.finish(reply, c)
		}
		return err
	}
	reply, err = c.read(c.times.dot)
	if err != nil {
		return err
	}
	c.open = false
	if !reply.Accepted() {
		reply = refusal(reply)
	}
	t.finish(reply, c)
	return nil
}

// lastWords reads what a server said before it hung up in the middle of a
// message: 552, most times. What sounds like consent is none.
func (c *conn) lastWords(err error) (envelope.Reply, bool) {
	if _, ours := err.(bodyError); ours {
		return envelope.Reply{}, false
	}
	reply, err := c.read(time.Second)
	return reply, err == nil && (reply.Temporary() || reply.Permanent())
}

// finish gives a reply to those who wait for the dot.
func (t *transaction) finish(reply envelope.Reply, c *conn) {
	for i := range t.rcpts {
		if r := &t.rcpts[i]; r.asked {
			r.reply, r.remote, r.noDSN = reply, c.remote, !c.ext.dsn
		}
	}
}

// answer gives a reply to those who have none.
func (t *transaction) answer(reply envelope.Reply, remote string) {
	for i := range t.rcpts {
		if r := &t.rcpts[i]; r.reply.IsZero() {
			r.reply, r.remote = reply, remote
		}
	}
}

// refusal is a reply that is not 2yz, as 4yz or 5yz: what else a server may say
// there is nonsense, and may have passed tomorrow.
func refusal(r envelope.Reply) envelope.Reply {
	if r.Temporary() || r.Permanent() {
		return r
	}
	return envelope.NewReply(451, envelope.EnhancedCode{4, 5, 0}, "unexpected reply %d", r.Code)
}

func firstError(err error, reply envelope.Reply) error {
	if err != nil {
		return err
	}
	return reply
}
