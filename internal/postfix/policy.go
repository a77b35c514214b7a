package postfix

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"srsd/envelope"
	"srsd/internal/sender"
	"srsd/srs"
)

// maxAttributes bounds one policy request, in lines; Postfix sends some thirty.
const maxAttributes = 200

// A policyRequest is what the service wants to know of a request; Postfix's
// SMTPD_POLICY_README lists the attributes.
type policyRequest struct {
	state, instance, client, helo, login string
	sender, recipient                    string
}

// servePolicy speaks the policy delegation protocol: SPF, and the rule that SRS
// addresses take bounces only.
func (s *Server) servePolicy(c *conn) error {
	var last judged
	for {
		q, err := readPolicy(c.r)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(c.w, "action=%s\n\n", s.action(&last, q)) // its error comes back with the next read
	}
}

// A judged is the verdict on a message, kept for its further recipients.
// Postfix asks about all of them in one connection.
type judged struct {
	instance string
	verdict  sender.Verdict
	header   string // Received-SPF, to be given once
}

// action is the answer: an action of access(5).
func (s *Server) action(last *judged, q policyRequest) string {
	r := s.rules.Load()
	if q.state == "RCPT" {
		if reply := r.mayUse(s, q.sender, q.recipient); !reply.IsZero() {
			s.log.Info("refused", "client", q.client, "reverse_path", q.sender, "recipient", q.recipient, "reply", reply.String())
			return reply.String()
		}
	}
	if q.login != "" || q.state != "RCPT" && q.state != "MAIL" {
		return "DUNNO"
	}
	if q.instance == "" || q.instance != last.instance {
		ip, _ := netip.ParseAddr(q.client) // a client without an address is none of the Internet's
		ip = ip.Unmap()
		v := r.judge.Check(s.ctx, ip, q.helo, q.sender)
		*last = judged{instance: q.instance, verdict: v, header: r.receivedSPF(v, ip, q.helo, q.sender)}
	}
	if reply := last.verdict.Reply; !reply.IsZero() {
		s.log.Info("refused", "client", q.client, "reverse_path", q.sender, "recipient", q.recipient, "reply", reply.String())
		return reply.String()
	}
	if header := last.header; header != "" {
		last.header = ""
		return "PREPEND Received-SPF: " + unfolded(header)
	}
	return "DUNNO"
}

// mayUse refuses what is forged or has expired among the SRS addresses of ours,
// and every sender but those who bring bounces. Canonical maps cannot: they
// know one address at a time.
func (r *rules) mayUse(s *Server, sender, recipient string) envelope.Reply {
	if _, ok := r.Router.SRS[domainOf(recipient)]; !ok {
		return envelope.Reply{}
	}
	to, err := envelope.ParseAddress(recipient)
	if err != nil || !srs.IsSRS(to.Local()) {
		return envelope.Reply{} // Postfix knows what is no address, or nobody's
	}
	var from envelope.Address
	if sender != "" {
		if from, err = envelope.ParseAddress(sender); err != nil {
			return replyOnlyBounces
		}
	}
	return r.route(s, from, to).Reply
}

var replyOnlyBounces = envelope.NewReply(550, envelope.EnhancedCode{5, 7, 1}, "this address takes only bounces")

// readPolicy reads one request: lines "name=value", then an empty one.
func readPolicy(r *bufio.Reader) (q policyRequest, err error) {
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull), n > maxAttributes:
			return q, fmt.Errorf("%w: a policy request without an end", errMalformed)
		case err != nil:
			return q, err
		}
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		if len(line) == 0 && n > 0 {
			return q, nil
		}
		name, value, ok := strings.Cut(string(line), "=")
		// The first line names the protocol: whoever speaks another ends here.
		if !ok || n == 0 && string(line) != "request=smtpd_access_policy" {
			return q, fmt.Errorf("%w: %.40q in a policy request", errMalformed, line)
		}
		q.set(name, value)
	}
}

func (q *policyRequest) set(name, value string) {
	switch name {
	case "protocol_state":
		q.state = value
	case "instance":
		q.instance = value
	case "client_address":
		q.client = value
	case "helo_name":
		q.helo = value
	case "sasl_username":
		q.login = value
	case "sender":
		q.sender = value
	case "recipient":
		q.recipient = value
	}
}
