package deliver

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"srsd/envelope"
)

// auth logs in, RFC 4954, with PLAIN (RFC 4616) or LOGIN. Passwords travel
// under TLS only, and neither error nor log ever holds one.
func (c *conn) auth(a Credentials) error {
	if !c.tls {
		return envelope.NewReply(451, envelope.EnhancedCode{4, 7, 10}, "the smarthost does not offer TLS, and a password is not sent in clear")
	}
	var reply envelope.Reply
	var err error
	switch {
	case slices.Contains(c.ext.auth, "PLAIN"):
		reply, err = c.command(c.times.command, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+a.Username+"\x00"+a.Password)))
	case slices.Contains(c.ext.auth, "LOGIN"):
		reply, err = c.login(a)
	default:
		return envelope.NewReply(451, envelope.EnhancedCode{4, 7, 4}, "the smarthost offers neither AUTH PLAIN nor LOGIN")
	}
	if err != nil {
		return fmt.Errorf("%w: AUTH: %w", errNoServer, err)
	}
	if !reply.Accepted() {
		// Our credentials are wrong, not the message: it waits until somebody
		// has put them right. The server's text may repeat what we sent.
		return envelope.NewReply(454, envelope.EnhancedCode{4, 7, 8}, "the smarthost refuses our credentials with %d", reply.Code)
	}
	return nil
}

func (c *conn) login(a Credentials) (envelope.Reply, error) {
	reply, err := c.command(c.times.command, "AUTH LOGIN")
	for _, word := range []string{a.Username, a.Password} {
		if err != nil || reply.Code != 334 {
			return reply, err
		}
		reply, err = c.command(c.times.command, base64.StdEncoding.EncodeToString([]byte(word)))
	}
	if err == nil && reply.Code == 334 {
		err = errors.New("the server asks for more than a name and a password")
	}
	return reply, err
}
