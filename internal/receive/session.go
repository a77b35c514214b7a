package receive

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/sender"
)

// A session is what one client does between its greeting and its end, as
// go-smtp calls it: from one goroutine.
type session struct {
	server *Server
	smtp   *smtp.Conn
	conn   *conn
	name   string // of the client, forward-confirmed
	named  bool   // name has been looked for
	listed *listing
	forged int // SRS addresses that were
	tx     transaction
}

// A transaction is one message's envelope while it is said.
type transaction struct {
	open       bool
	id         string  // once the text comes
	policy     *Policy // of when it began
	from       envelope.Address
	helo       string
	options    smtp.MailOptions
	sender     sender.Verdict
	listed     envelope.Reply     // for everybody but postmaster
	recipients []envelope.Address // those accepted
	routes     []envelope.Route
	targets    map[string]bool // keys of targets, where there are several
	memory     forward.Memory
}

// newSession is called at the first EHLO or HELO.
func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	own, ok := c.Conn().(*conn)
	if !ok {
		return nil, toSMTP(replyTrouble)
	}
	return &session{server: s, smtp: c, conn: own}, nil
}

// Reset forgets the transaction, not the client.
func (s *session) Reset() {
	s.tx = transaction{}
	s.conn.setPhase(greeting)
}

// Logout is called when the connection ends; a session holds nothing to free.
func (s *session) Logout() error { return nil }

// Mail begins a transaction.
func (s *session) Mail(_ string, o *smtp.MailOptions) error {
	// RFC 5321, section 4.1.4. Whoever checks a sender once must not be given
	// a second one.
	if s.tx.open {
		return toSMTP(replyNested)
	}
	p := s.server.policy.Load()
	if o.Size > p.MaxMessage {
		return toSMTP(replyTooBig)
	}
	if s.server.budget.exhausted() {
		return toSMTP(replyNoMemory)
	}
	if err := s.server.room(); err != nil {
		s.server.calm.Warn("no room on disk", "error", err)
		return toSMTP(replyNoSpace)
	}
	tx := transaction{policy: p, from: s.conn.Path(), helo: s.smtp.Hostname(), options: *o}
	tx.listed = s.checkLists(p)
	tx.sender = p.judge.Check(s.server.context, s.conn.ip, tx.helo, tx.from.String())
	if r := tx.sender.Reply; !r.IsZero() {
		s.refused(&tx, envelope.Address{}, r)
		return toSMTP(r)
	}
	tx.open = true
	s.tx = tx
	return nil
}

// Rcpt asks the router about one recipient.
func (s *session) Rcpt(_ string, o *smtp.RcptOptions) error {
	if !s.tx.open {
		return toSMTP(replyNoMail)
	}
	p := s.tx.policy
	rcpt := s.conn.Path()
	if strings.EqualFold(rcpt.Local(), "postmaster") && strings.EqualFold(rcpt.Domain(), p.Hostname) {
		// The host's own postmaster is the bare one (RFC 5321, section 4.5.1).
		rcpt, _ = envelope.NewAddress(rcpt.Local(), "")
	}
	// RFC 5321, section 4.5.1: who is listed in error must be able to say so.
	if !s.tx.listed.IsZero() && !strings.EqualFold(rcpt.Local(), "postmaster") {
		s.refused(&s.tx, rcpt, s.tx.listed)
		return toSMTP(s.tx.listed)
	}
	d := p.Router.Route(s.server.context, forward.Request{
		ReversePath: s.tx.from,
		SPF:         string(s.tx.sender.Result),
		Recipient:   rcpt,
		Notify:      notify(o.Notify),
		Original:    original(o),
		Client:      s.conn.ip,
		Memory:      &s.tx.memory,
	})
	if d.Forged {
		s.forged++
		if s.server.forgeries.add(s.conn.ip, s.server.now()) || s.forged >= p.MaxFailedSRS {
			s.refused(&s.tx, rcpt, replyGuessing)
			return toSMTP(replyGuessing)
		}
	}
	if r := refusal(d); !r.IsZero() {
		if d.Err != nil {
			level := slog.LevelDebug
			if r.Temporary() { // something of ours is broken
				level = slog.LevelWarn
			}
			s.server.log.Log(s.server.context, level, "cause of a refusal", "recipient", rcpt.String(), "error", d.Err)
		}
		s.refused(&s.tx, rcpt, r)
		return toSMTP(r)
	}
	s.accept(rcpt, d.Routes)
	return nil
}

// refusal is the reply to a recipient that is not accepted.
func refusal(d forward.Decision) envelope.Reply {
	switch {
	case d.Kind != forward.Refused:
		return envelope.Reply{}
	case d.Reply.Code < 400 || d.Reply.Code > 599:
		return replyTrouble
	default:
		return d.Reply
	}
}

// accept adds a recipient's routes. A target that two recipients reach gets one
// copy.
func (s *session) accept(rcpt envelope.Address, routes []envelope.Route) {
	s.tx.recipients = append(s.tx.recipients, rcpt)
	s.conn.setPhase(addressing)
	if len(s.tx.recipients) == 1 {
		s.tx.routes = slices.Clip(routes) // the router may have more behind them
		return
	}
	if s.tx.targets == nil {
		s.tx.targets = map[string]bool{}
		for _, r := range s.tx.routes {
			s.tx.targets[r.Target.Key()] = true
		}
	}
	for _, r := range routes {
		if key := r.Target.Key(); !s.tx.targets[key] {
			s.tx.targets[key] = true
			s.tx.routes = append(s.tx.routes, r)
		}
	}
}

// Data takes the message text and answers the final dot.
func (s *session) Data(io.Reader) error {
	s.conn.setPhase(sending)
	body, err := s.read()
	if err != nil {
		reply := replyFor(err)
		s.refused(&s.tx, envelope.Address{}, reply)
		return toSMTP(reply)
	}
	defer body.Release()
	if !s.conn.setPhase(delivering) {
		return toSMTP(replyShed) // which nobody hears
	}
	answer := s.deliver(body)
	if !answer.Accepted() {
		s.refused(&s.tx, envelope.Address{}, answer)
	}
	return toSMTP(answer)
}

// read takes the text from the connection and checks its header. The guard reads
// what is left of a text that is refused, so that the session stays in step.
func (s *session) read() (*message, error) {
	now := s.server.now()
	s.tx.id = s.server.ids.new(now)
	m, err := newMessage(&s.server.budget, &s.server.chunks, s.server.tempDir, s.tx.policy.MaxMessage, s.trace(now).appendTo)
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done { // also where a layer below panics, which ends this session only
			m.Release()
		}
	}()
	if err := m.readFrom(textReader{s.conn, s.conn.Data()}); err != nil {
		return nil, err
	}
	if err := s.checkHeader(m); err != nil {
		return nil, err
	}
	done = true
	return m, nil
}

// trace is the header that this message gets.
func (s *session) trace(now time.Time) trace {
	t := trace{
		hostname: s.tx.policy.Hostname, client: s.client(), tls: s.conn.TLS(),
		extended: !s.conn.helo, utf8: s.tx.options.UTF8, id: s.tx.id, reversePath: s.tx.from,
		checks: s.tx.sender.Checks, note: s.tx.sender.Note, now: now,
	}
	if len(s.tx.recipients) == 1 {
		t.recipient = s.tx.recipients[0]
	}
	if s.listed != nil {
		t.lists = s.listed.zones
	}
	return t
}

// checkHeader looks for loops and removes what claims to be our judgement.
func (s *session) checkHeader(m *message) error {
	found := scanHeader(m.header(), s.tx.policy.Hostname)
	const oursAtMost = 5
	switch {
	case found.folded:
		// It would continue our own last field.
		return replyFolded
	case found.received >= s.tx.policy.MaxReceived, found.ours >= oursAtMost:
		return replyLoop
	}
	if len(found.deliveredTo) > 0 && s.isRecipient(found.deliveredTo) {
		return replyLoop
	}
	for i := range found.forged {
		found.forged[i][0] += m.trace
		found.forged[i][1] += m.trace
	}
	m.cut(found.forged)
	return nil
}

// isRecipient says whether one of the addresses is a recipient of ours.
func (s *session) isRecipient(addresses []envelope.Address) bool {
	ours := make(map[string]bool, len(s.tx.recipients))
	for _, r := range s.tx.recipients {
		ours[r.Key()] = true
	}
	for _, a := range addresses {
		if ours[a.Key()] {
			return true
		}
	}
	return false
}

// deliver hands the message over and logs what came of it.
func (s *session) deliver(body *message) envelope.Reply {
	m := envelope.Message{
		ID: s.tx.id, Received: s.server.now(), ReversePath: s.tx.from, SPF: string(s.tx.sender.Result), Client: s.client(),
		EightBit: s.tx.options.Body == smtp.Body8BitMIME, UTF8: s.tx.options.UTF8,
		Return: string(s.tx.options.Return), EnvelopeID: s.tx.options.EnvelopeID,
		Size: body.Size(), Routes: s.tx.routes,
	}
	answer := replyDiscarded
	if len(m.Routes) > 0 {
		answer = s.server.deliverer.Deliver(s.server.context, m, body)
	}
	if answer.Code < 200 || answer.Code > 599 {
		answer = replyTrouble
	}
	if answer.Accepted() {
		s.server.log.LogAttrs(context.Background(), slog.LevelInfo, "accepted",
			slog.String("id", m.ID), slog.Any("client", m.Client.IP), slog.String("reverse_path", s.tx.from.String()),
			slog.String("recipient", s.tx.recipients[0].String()), slog.Int("recipients", len(s.tx.recipients)),
			slog.Int64("size", m.Size), slog.String("spf", m.SPF))
	}
	return answer
}

// client is the host that brought the message.
func (s *session) client() envelope.Client {
	return envelope.Client{IP: s.conn.ip, HELO: s.tx.helo, Name: s.name}
}

// refused logs a refusal.
func (s *session) refused(tx *transaction, rcpt envelope.Address, r envelope.Reply) {
	attrs := make([]slog.Attr, 0, 5)
	if tx.id != "" {
		attrs = append(attrs, slog.String("id", tx.id))
	}
	attrs = append(attrs, slog.Any("client", s.conn.ip), slog.String("reverse_path", tx.from.String()))
	if !rcpt.IsNull() {
		attrs = append(attrs, slog.String("recipient", rcpt.String()))
	}
	attrs = append(attrs, slog.String("reply", r.String()))
	s.server.log.LogAttrs(context.Background(), slog.LevelInfo, "refused", attrs...)
}
