package postfix

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/sender"
	"srsd/spf"
	"srsd/srs"
)

// maxRecipients is how many recipients of one message a milter session keeps.
const maxRecipients = 10_000

// A milter is one session with Postfix's smtpd or cleanup: one SMTP connection
// with any number of messages.
type milter struct {
	server *Server
	conn   *conn
	params bool // it may add recipients with their ESMTP parameters

	client netip.Addr
	helo   string
	login  string // the user that has authenticated
	id     string // Postfix's queue id
	mail   *mail
}

// A mail is a message under way.
type mail struct {
	rules      *rules // those of its beginning
	from       envelope.Address
	known      bool     // from is an address; else it passes as it is
	params     []string // of MAIL
	spf        sender.Verdict
	header     string // Received-SPF; "" where nothing was checked
	recipients []recipient
}

// A recipient is one RCPT that Postfix has accepted.
type recipient struct {
	raw     string // as Postfix named it
	params  []string
	instead []envelope.Address // whom the message is for instead
	domain  string             // the alias domain on whose behalf the message leaves
	leaves  bool               // the message leaves the house for it
	owner   envelope.Address   // takes the bounces, if it is not null
}

// serveMilter speaks the milter protocol, version 6, as MTAs do.
func (s *Server) serveMilter(c *conn) error {
	m := &milter{server: s, conn: c}
	var buffer []byte
	for {
		packet, err := readPacket(c.r, buffer)
		if err != nil {
			return err
		}
		buffer = packet
		goOn, err := m.handle(packet[0], packet[1:])
		if err != nil || !goOn {
			return err
		}
	}
}

// handle answers one packet; goOn is false where the session has ended.
func (m *milter) handle(command byte, data []byte) (goOn bool, err error) {
	switch command {
	case cmdNegotiate:
		return true, m.negotiate(data)
	case cmdMacros:
		return true, m.macros(data)
	case cmdConnect:
		return true, m.connect(data)
	case cmdHelo:
		fields, err := cstrings(data)
		if err == nil {
			m.helo = fields[0]
			m.answer(replyContinue)
		}
		return true, err
	case cmdMail:
		return true, m.begin(data)
	case cmdRcpt:
		return true, m.rcpt(data)
	case cmdEnd:
		return true, m.end()
	case cmdAbort:
		m.reset()
		return true, nil
	case cmdQuit:
		return false, nil
	case cmdQuitNew: // the same connection will bring another SMTP session
		m.reset()
		*m = milter{server: m.server, conn: m.conn, params: m.params}
		return true, nil
	case cmdData, cmdHeader, cmdEndHeader, cmdBody, cmdUnknown:
		m.answer(replyContinue) // asked not to be sent; not every MTA obeys
		return true, nil
	}
	return false, fmt.Errorf("%w: milter command %q", errMalformed, command)
}

func (m *milter) answer(reply byte, data ...string) {
	writePacket(m.conn.w, reply, data...)
}

// refuse answers MAIL or RCPT with a reply of ours. A milter's percent signs
// are doubled.
func (m *milter) refuse(r envelope.Reply) {
	m.answer(replyCode, strings.ReplaceAll(r.String(), "%", "%%")+"\x00")
}

func (m *milter) reset() {
	m.mail = nil
	m.conn.setBusy(false)
}

// negotiate agrees on version 6, on changing the envelope, and on being spared
// the text.
func (m *milter) negotiate(data []byte) error {
	o, err := parseOptions(data)
	if err != nil {
		return err
	}
	const needed = actChangeFrom | actAddRcpt | actDelRcpt | actAddHeader
	if o.version < milterVersion || o.actions&needed != needed {
		return fmt.Errorf("postfix: milter version %d with actions %#x: version %d and changes of sender, recipients and header are needed",
			o.version, o.actions, milterVersion)
	}
	m.params = o.actions&actAddRcptParams != 0
	o.version = milterVersion
	o.actions &= needed | actAddRcptParams
	o.protocol &= protoNoData | protoNoHeaders | protoNoEndHeader | protoNoBody | protoNoUnknown
	m.answer(cmdNegotiate, string(o.append(nil)))
	return nil
}

// macros keeps what Postfix tells beside the commands.
func (m *milter) macros(data []byte) error {
	if len(data) == 0 {
		return fmt.Errorf("%w: empty macros", errMalformed)
	}
	if data[0] == cmdMail {
		m.login = ""
	}
	fields, err := cstrings(data[1:])
	if err != nil && len(data) > 1 {
		return err
	}
	for i := 0; i+1 < len(fields); i += 2 {
		switch fields[i] {
		case "i":
			m.id = fields[i+1]
		case "{auth_authen}":
			m.login = fields[i+1]
		}
	}
	return nil
}

func (m *milter) connect(data []byte) error {
	name, rest, ok := bytes.Cut(data, []byte{0})
	if !ok || len(rest) == 0 {
		return fmt.Errorf("%w: milter connect", errMalformed)
	}
	_ = name // what the DNS says; nothing here depends on it
	m.client, m.helo = netip.Addr{}, ""
	if family := rest[0]; (family == '4' || family == '6') && len(rest) > 3 {
		address, _, _ := strings.Cut(string(rest[3:]), "\x00") // behind the port
		ip, err := netip.ParseAddr(strings.TrimPrefix(address, "IPv6:"))
		if err == nil {
			m.client = ip.Unmap()
		}
	}
	m.answer(replyContinue)
	return nil
}

// begin is MAIL.
func (m *milter) begin(data []byte) error {
	fields, err := cstrings(data)
	if err != nil {
		return err
	}
	m.conn.setBusy(true)
	t := &mail{rules: m.server.rules.Load(), params: fields[1:]}
	t.from, t.known = parsePath(fields[0])
	m.mail = t
	if t.rules.MilterSPF && m.login == "" {
		t.spf = t.rules.judge.Check(m.server.ctx, m.client, m.helo, t.from.String())
		t.header = t.rules.receivedSPF(t.spf, m.client, m.helo, t.from.String())
		if !t.spf.Reply.IsZero() {
			m.server.log.Info("refused", "client", m.client.String(), "reverse_path", fields[0], "reply", t.spf.Reply.String())
			m.refuse(t.spf.Reply)
			m.reset()
			return nil
		}
	}
	m.answer(replyContinue)
	return nil
}

// rcpt is RCPT, for a recipient that Postfix would take.
func (m *milter) rcpt(data []byte) error {
	fields, err := cstrings(data)
	if err != nil {
		return err
	}
	t := m.mail
	if t == nil {
		return fmt.Errorf("%w: milter RCPT without MAIL", errMalformed)
	}
	if len(t.recipients) >= maxRecipients {
		m.refuse(replyTooMany)
		return nil
	}
	rcpt, reply := t.recipient(m.server, fields)
	if !reply.IsZero() {
		m.server.log.Info("refused", "client", m.client.String(), "reverse_path", t.from.String(), "recipient", fields[0], "reply", reply.String())
		m.refuse(reply)
		return nil
	}
	t.recipients = append(t.recipients, rcpt)
	m.answer(replyContinue)
	return nil
}

var (
	replyTooMany = envelope.NewReply(452, envelope.EnhancedCode{4, 5, 3}, "too many recipients")
	replyTrouble = envelope.NewReply(451, envelope.EnhancedCode{4, 3, 0}, "temporary failure, try again later")
)

// recipient finds out where a recipient leads.
func (t *mail) recipient(s *Server, fields []string) (recipient, envelope.Reply) {
	rcpt := recipient{raw: fields[0], params: fields[1:]}
	address, ok := parsePath(fields[0])
	if !ok || address.IsNull() {
		return rcpt, envelope.Reply{}
	}
	domain := strings.ToLower(address.Domain())
	rcpt.domain = domain
	_, isSRS := t.rules.Router.SRS[domain]
	switch {
	case isSRS && !srs.IsSRS(address.Local()) && t.rules.local.has(domain):
		return rcpt, envelope.Reply{} // the domain has mailboxes, too
	case isSRS:
		d := t.rules.route(s, t.from, address)
		for _, route := range d.Routes {
			rcpt.instead = append(rcpt.instead, route.Target)
			rcpt.leaves = rcpt.leaves || !t.rules.stays(strings.ToLower(route.Target.Domain()))
		}
		if strings.EqualFold(address.Local(), "postmaster") {
			return rcpt, envelope.Reply{} // must be reachable; who is it may be up to Postfix
		}
		return rcpt, d.Reply
	case t.rules.Router.Table.Owns(domain):
		return t.alias(rcpt, address)
	}
	rcpt.leaves = !t.rules.stays(domain)
	return rcpt, envelope.Reply{}
}

// alias looks at the targets of an alias; Postfix expands it itself, and knows
// what is none.
func (t *mail) alias(rcpt recipient, address envelope.Address) (recipient, envelope.Reply) {
	e, err := t.rules.Router.Table.Expand(address)
	if err != nil && !isUnknown(err) {
		return rcpt, replyTrouble
	}
	for _, target := range e.Targets {
		if !t.rules.stays(strings.ToLower(target.Address.Domain())) {
			rcpt.leaves, rcpt.owner = true, target.Owner
		}
	}
	return rcpt, e.Reply
}

// end is the end of the message: the changes, then the word that it may go on.
func (m *milter) end() error {
	t := m.mail
	if t == nil {
		return fmt.Errorf("%w: milter end of message without MAIL", errMalformed)
	}
	if !m.change(t) {
		m.answer(replyTempFail)
		m.reset()
		return nil
	}
	m.answer(replyAccept)
	m.reset()
	return nil
}

// change asks for all changes of the message; false where it must wait.
func (m *milter) change(t *mail) bool {
	sender := t.sender(m.server.ctx)
	if sender.status == trouble {
		m.server.logResult(t.from.String(), sender)
		return false
	}
	for _, rcpt := range t.recipients {
		if len(rcpt.instead) == 0 {
			continue
		}
		m.answer(modDelRcpt, rcpt.raw+"\x00")
		for _, a := range rcpt.instead {
			m.addRecipient(a, rcpt.params)
		}
		m.server.log.Info("bounce goes home", "id", m.id, "recipient", rcpt.raw)
	}
	if sender.status == found {
		m.answer(modChangeFrom, cstring(append([]string{"<" + sender.text + ">"}, strings.Join(t.params, " "))...))
		m.server.log.Info("rewritten", "id", m.id, "reverse_path", t.from.String())
	}
	if t.header != "" {
		m.answer(modInsertHeader, "\x00\x00\x00\x00"+cstring("Received-SPF", strings.ReplaceAll(t.header, "\r\n", "\n")))
	}
	return true
}

func (m *milter) addRecipient(a envelope.Address, params []string) {
	if m.params && len(params) > 0 {
		m.answer(modAddRcptParams, cstring(a.Path(), strings.Join(params, " ")))
		return
	}
	m.answer(modAddRcpt, cstring(a.Path()))
}

// sender is what the reverse-path becomes: a message has only one, so it is
// rewritten for all recipients as soon as one of them leaves the house.
func (t *mail) sender(ctx context.Context) result {
	if !t.known || t.from.IsNull() || t.spf.Result == spf.Fail {
		return result{}
	}
	i := slices.IndexFunc(t.recipients, func(r recipient) bool { return r.leaves })
	switch {
	case i < 0 && !t.rules.RewriteLocal:
		return result{}
	case i < 0:
		i = 0
	}
	at := ""
	if i < len(t.recipients) {
		if owner := t.recipients[i].owner; !owner.IsNull() {
			return result{found, owner.String()}
		}
		at = t.recipients[i].domain
	}
	return t.rules.sender(ctx, t.from.String(), at)
}

// route asks the router about an address at an SRS domain of ours.
func (r *rules) route(s *Server, from, to envelope.Address) forward.Decision {
	d := r.Router.Route(s.ctx, forward.Request{ReversePath: from, Recipient: to})
	if d.Reply.Temporary() && d.Err != nil {
		s.log.Error("lookup failed", "recipient", to.String(), "error", d.Err)
	}
	return d
}

// parsePath reads the path of MAIL or RCPT, with or without its angle brackets.
func parsePath(s string) (a envelope.Address, ok bool) {
	if strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") {
		s = s[1 : len(s)-1]
	}
	if s == "" {
		return a, true
	}
	a, err := envelope.ParseAddress(s)
	return a, err == nil
}
