package deliver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// A group is the routes of a message that can share a transaction: one next
// hop, one reverse-path.
type group struct {
	hop   string
	from  envelope.Address
	home  bool // one route, the way home of a bounce
	rcpts []recipient
}

// A result is what came of one route.
type result struct {
	route  envelope.Route
	reply  envelope.Reply
	remote string
	noDSN  bool
}

// groups sorts routes into groups, in the order in which they come.
func groups(p *Policy, routes []envelope.Route) []*group {
	if len(routes) == 1 {
		return []*group{newGroup(p.hop(routes[0].Target), routes[0])}
	}
	type key struct {
		hop  string
		from envelope.Address
	}
	open := map[key]*group{}
	seen := map[*group]map[envelope.Address]int{}
	var all []*group
	for _, r := range routes {
		k := key{p.hop(r.Target), r.ReversePath}
		g := open[k]
		if g != nil {
			if i, ok := seen[g][r.Target]; ok && !r.Return {
				g.rcpts[i].same = append(g.rcpts[i].same, r)
				continue
			}
		}
		if g == nil || len(g.rcpts) >= maxRecipients || r.Return {
			g = &group{hop: k.hop, from: k.from, home: r.Return}
			all = append(all, g)
			if !r.Return { // what goes home is made for one sender only
				open[k] = g
			}
			seen[g] = map[envelope.Address]int{}
		}
		seen[g][r.Target] = len(g.rcpts)
		g.rcpts = append(g.rcpts, recipient{route: r})
	}
	return all
}

func newGroup(hop string, r envelope.Route) *group {
	return &group{hop: hop, from: r.ReversePath, home: r.Return, rcpts: []recipient{{route: r}}}
}

// head is what goes in front of the body: Delivered-To names the alias where
// there is just one, so that a loop is found at its second pass (RFC 9228). A
// report of ours goes to its addressee itself, behind no alias.
func (g *group) head() string {
	alias := g.rcpts[0].route.Alias
	if g.home || alias.IsNull() || alias == g.rcpts[0].route.Target {
		return ""
	}
	for _, r := range g.rcpts {
		if r.route.Alias != alias {
			return ""
		}
		for _, s := range r.same {
			if s.Alias != alias {
				return ""
			}
		}
	}
	return "Delivered-To: " + alias.String() + "\r\n"
}

// results lists what came of each route.
func (g *group) results() []result {
	all := make([]result, 0, len(g.rcpts))
	for i := range g.rcpts {
		r := &g.rcpts[i]
		all = append(all, result{r.route, r.reply, r.remote, r.noDSN})
		for _, s := range r.same {
			all = append(all, result{s, r.reply, r.remote, r.noDSN})
		}
	}
	return all
}

// attempt tries to deliver a group, to one host after the other; the caller has
// its turn at the hop. Afterwards each recipient has a reply.
func (d *Deliverer) attempt(p *Policy, m *envelope.Message, g *group, body envelope.Body) {
	began := d.config.Now()
	t, err := d.transaction(m, g, body)
	if err != nil {
		d.log.LogAttrs(d.life, slog.LevelError, "message cannot be read", slog.String("id", m.ID), slog.Any("error", err))
		t = &transaction{m: m, rcpts: g.rcpts}
		t.answer(envelope.NewReply(451, envelope.EnhancedCode{4, 3, 0}, "the message cannot be read"), "")
		d.hops.release(g.hop, p, unknown, envelope.Reply{}, began, d.config.Now())
		return
	}
	health, why := d.walkAndSend(p, t, g)
	if back := d.hops.release(g.hop, p, health, why, began, d.config.Now()); back {
		d.revive(p, g.hop)
	}
	d.record(m, g, began)
	d.observe(g)
}

// revive makes due what waits for a hop that is back.
func (d *Deliverer) revive(p *Policy, hop string) {
	f := store.Filter{Domain: hop, State: store.Queued}
	if p.Smarthost != "" {
		f.Domain = ""
	}
	d.work.add()
	go func() {
		defer d.work.done()
		d.edit(f, store.Retry)
	}()
}

// transaction prepares a group's transaction.
func (d *Deliverer) transaction(m *envelope.Message, g *group, body envelope.Body) (*transaction, error) {
	if g.home && d.config.Home != nil {
		b, err := d.config.Home(d.life, *m, g.rcpts[0].route, body)
		if err != nil {
			return nil, err
		}
		body = b
	}
	head := g.head()
	return &transaction{
		m: m, from: g.from, rcpts: g.rcpts, head: head, body: body,
		size: int64(len(head)) + body.Size(),
		utf8: m.UTF8 && !asciiHeader(body),
	}, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// walkAndSend goes from host to host until each recipient has a reply that
// holds. A temporary refusal of MAIL or RCPT is taken to a second host, because
// that one may know better; one of the message is not.
func (d *Deliverer) walkAndSend(p *Policy, t *transaction, g *group) (health, envelope.Reply) {
	w := newWalk(d.life, p, d.config.Resolver, g.hop, d.ownName)
	last, health, dialogues := result{}, unknown, 0
	for t.open() && dialogues < 2 {
		h, ok := w.next(d.life)
		if !ok {
			break
		}
		for _, addr := range h.addrs {
			t.stage = untouched
			err := d.session(p, g.hop, connKey{h.name, addr, p.security(g.hop), p}, t)
			if t.stage > untouched || err == nil {
				health = alive
				dialogues++
			} else if health == unknown && !ours(err) {
				health = dead
			}
			if err != nil {
				last.reply, last.remote = explain(p, err), remoteName(h.name, addr)
			}
			if t.stage == dotted || t.stage > untouched && err == nil {
				break
			}
		}
		t.reconsider(dialogues)
	}
	if last.reply.IsZero() {
		last.reply = w.why
		if w.why == replyDNS {
			health = dead
		}
	}
	t.close(last)
	return health, last.reply
}

// open says whether a recipient is without a reply.
func (t *transaction) open() bool {
	for i := range t.rcpts {
		if t.rcpts[i].reply.IsZero() {
			return true
		}
	}
	return false
}

// reconsider reopens the recipients that another host may accept, and closes
// those that may have been delivered.
func (t *transaction) reconsider(dialogues int) {
	for i := range t.rcpts {
		r := &t.rcpts[i]
		switch {
		case t.stage == dotted && r.asked && r.reply.IsZero():
			r.reply = replyLost
		case r.reply.Temporary() && !r.asked && dialogues < 2:
			r.held, r.reply = r.reply, envelope.Reply{}
		}
	}
}

// close gives those without a reply the one that they had, or the last error.
func (t *transaction) close(last result) {
	for i := range t.rcpts {
		if r := &t.rcpts[i]; r.reply.IsZero() && !r.held.IsZero() {
			r.reply = r.held
		}
	}
	t.answer(last.reply, last.remote)
}

// session runs a transaction on a kept connection or a new one. A kept one that
// turns out to be dead before the server has said a word costs nothing.
func (d *Deliverer) session(p *Policy, hop string, key connKey, t *transaction) error {
	for {
		c := d.pool.get(key)
		kept := c != nil
		if !kept {
			var err error
			if c, err = d.connect(p, key); err != nil {
				return err
			}
		}
		err := c.send(t)
		if err == nil {
			if d.hops.regular(hop, d.config.Now()) {
				d.pool.put(c, d.policy.Load())
			} else {
				c.quit()
			}
			return nil
		}
		c.close()
		if !kept || t.stage != untouched {
			return err
		}
	}
}

// connect makes a new connection, in clear where opportunistic TLS fails.
func (d *Deliverer) connect(p *Policy, key connKey) (*conn, error) {
	security := key.security
	for {
		raw, err := d.dial(d.life, p, key.addr)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoServer, err)
		}
		c := &conn{key: key, raw: raw, net: raw, r: bufio.NewReader(raw), times: p.phases(), remote: remoteName(key.host, key.addr)}
		c.forget = context.AfterFunc(d.life, func() { raw.Close() })
		auth := Credentials{}
		if p.Smarthost != "" {
			auth = p.Auth
		}
		if err = c.start(d.life, d.config.Hostname, security, d.config.TLS, auth); err == nil {
			return c, nil
		}
		c.close()
		if !errors.Is(err, errTLS) || security != Opportunistic {
			return nil, err
		}
		d.log.LogAttrs(d.life, slog.LevelInfo, "TLS failed, going on in clear", slog.String("remote", c.remote), slog.Any("error", err))
		security = None
	}
}

// ours says whether a connection failed for want of something here, which says
// nothing about the other side.
func ours(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func remoteName(host string, addr netip.AddrPort) string {
	return host + " [" + addr.Addr().String() + "]"
}

// explain makes a reply of an error. It says what went wrong and no names: an
// error's own text may hold addresses. That a smarthost will not serve us is no
// verdict about a message, and may be mended.
func explain(p *Policy, err error) envelope.Reply {
	var reply envelope.Reply
	var errno syscall.Errno
	var timeout net.Error
	reason := "the connection was closed"
	switch {
	case errors.Is(err, errTLS):
		return envelope.NewReply(451, envelope.EnhancedCode{4, 7, 5}, "TLS is required and failed")
	case errors.As(err, &reply):
		if reply = refusal(reply); p.Smarthost != "" && reply.Permanent() {
			return envelope.NewReply(451, envelope.EnhancedCode{4, 4, 1}, "the smarthost does not serve us: %d", reply.Code)
		}
		return reply
	case errors.Is(err, errReply):
		return envelope.NewReply(451, envelope.EnhancedCode{4, 5, 0}, "the next server does not speak SMTP")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		reason = "timed out"
	case errors.As(err, &errno):
		reason = errno.Error()
	}
	return envelope.NewReply(451, envelope.EnhancedCode{4, 4, 1}, "the next server did not answer: %s", reason)
}

// record writes one line a route into the log. What a line has in common with
// the one before is formatted once.
func (d *Deliverer) record(m *envelope.Message, g *group, began time.Time) {
	if !d.log.Enabled(d.life, slog.LevelInfo) {
		return
	}
	now := d.config.Now()
	var log *slog.Logger
	var last result
	for i, r := range g.results() {
		if i == 0 || r.reply != last.reply || r.remote != last.remote {
			log, last = d.log.With(slog.String("id", m.ID), slog.String("reverse_path", g.from.String()), slog.String("remote", r.remote),
				slog.String("reply", visible(r.reply.String(), 400)), slog.Duration("took", now.Sub(began)), slog.Duration("delay", now.Sub(m.Received))), r
		}
		event := "deferred"
		switch {
		case r.reply.Accepted():
			event = "delivered"
		case r.reply.Permanent():
			event = "refused"
		}
		log.LogAttrs(d.life, slog.LevelInfo, event, slog.String("recipient", r.route.Alias.String()), slog.String("target", r.route.Target.String()))
	}
}
