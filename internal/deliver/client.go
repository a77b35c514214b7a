package deliver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"srsd/envelope"
)

// A conn is one SMTP connection to a next hop.
type conn struct {
	key    connKey
	raw    net.Conn // as dialled
	net    net.Conn // the same, or TLS over it
	r      *bufio.Reader
	forget func() bool // no longer close it when srsd stops
	times  phases
	remote string // host and address, for the record
	ext    extensions
	tls    bool
	used   int       // transactions begun
	since  time.Time // idle since
	open   bool      // a transaction has begun and not ended: RSET first
	flight flight    // the buffer for its commands
}

// extensions are what the server offers.
type extensions struct {
	pipelining, eightBit, utf8, dsn, startTLS bool
	size                                      int64    // its limit; 0 for none
	sizes                                     bool     // it knows SIZE
	auth                                      []string // mechanisms, upper case
}

// errTLS means that TLS failed where clear text may still do.
var errTLS = errors.New("deliver: TLS failed")

// errNoServer wraps what makes a host useless for now: another one may do.
var errNoServer = errors.New("deliver: the host does not serve")

// start speaks until the server is ready for MAIL. An error is errTLS, or says
// why this host is no use now. Nothing is sent before its banner: a server may
// take that for abuse (RFC 5321, section 4.3.1).
func (c *conn) start(ctx context.Context, hostname string, s Security, t *tls.Config, auth Credentials) error {
	reply, err := c.read(c.times.greeting)
	if err != nil {
		return fmt.Errorf("%w: banner: %w", errNoServer, err)
	}
	if !reply.Accepted() {
		return reply
	}
	if err := c.hello(hostname); err != nil {
		return err
	}
	if s != None && (c.ext.startTLS || s != Opportunistic) {
		if err := c.startTLS(ctx, s, t); err != nil {
			return err
		}
		if err := c.hello(hostname); err != nil {
			return err
		}
	}
	if auth.Username != "" {
		return c.auth(auth)
	}
	return nil
}

// hello says EHLO, and HELO where the server does not know that (RFC 5321,
// section 3.2).
func (c *conn) hello(hostname string) error {
	c.ext = extensions{}
	reply, err := c.command(c.times.command, "EHLO "+hostname)
	if err != nil {
		return fmt.Errorf("%w: EHLO: %w", errNoServer, err)
	}
	if reply.Accepted() {
		c.ext.parse(reply.Text)
		return nil
	}
	if reply.Code == 421 {
		return reply
	}
	if reply, err = c.command(c.times.command, "HELO "+hostname); err != nil {
		return fmt.Errorf("%w: HELO: %w", errNoServer, err)
	}
	if !reply.Accepted() {
		return reply
	}
	return nil
}

// parse reads what EHLO said. Keywords are case-insensitive (RFC 5321, section
// 2.4); the first line is the server's name. "AUTH=" is how old servers say it.
func (e *extensions) parse(text string) {
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(strings.ToUpper(strings.Replace(line, "=", " ", 1)))
		if i == 0 || len(words) == 0 {
			continue
		}
		switch words[0] {
		case "PIPELINING":
			e.pipelining = true
		case "8BITMIME":
			e.eightBit = true
		case "SMTPUTF8":
			e.utf8 = true
		case "DSN":
			e.dsn = true
		case "STARTTLS":
			e.startTLS = true
		case "AUTH":
			e.auth = append(e.auth, words[1:]...)
		case "SIZE":
			e.sizes = true
			if len(words) > 1 {
				e.size, _ = strconv.ParseInt(words[1], 10, 64)
			}
		}
	}
}

// startTLS makes the connection secret, RFC 3207.
func (c *conn) startTLS(ctx context.Context, s Security, t *tls.Config) error {
	if !c.ext.startTLS {
		return envelope.NewReply(451, envelope.EnhancedCode{4, 7, 10}, "TLS is required, and the server does not offer it")
	}
	reply, err := c.command(c.times.command, "STARTTLS")
	if err != nil {
		return fmt.Errorf("%w: STARTTLS: %w", errTLS, err)
	}
	if !reply.Accepted() {
		return fmt.Errorf("%w: %w", errTLS, reply)
	}
	if c.r.Buffered() > 0 { // RFC 3207, section 4.2: what came in clear must not count
		return fmt.Errorf("%w: the server spoke before the handshake", errTLS)
	}
	config := t.Clone()
	config.ServerName = strings.TrimSuffix(c.key.host, ".")
	// RFC 7435: without authentication, TLS still keeps out who only listens.
	config.InsecureSkipVerify = s != Verified
	if s == Opportunistic && config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS10 // still better than what comes next: clear text
	}
	secret := tls.Client(c.net, config)
	ctx, cancel := context.WithTimeout(ctx, c.times.command)
	defer cancel()
	if err := secret.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: handshake: %w", errTLS, err)
	}
	c.net, c.tls = secret, true
	c.r.Reset(secret)
	return nil
}

// command sends a line and reads the reply.
func (c *conn) command(limit time.Duration, line string) (envelope.Reply, error) {
	if err := c.write([]byte(line+"\r\n"), c.times.command); err != nil {
		return envelope.Reply{}, err
	}
	return c.read(limit)
}

func (c *conn) read(limit time.Duration) (envelope.Reply, error) {
	c.net.SetReadDeadline(time.Now().Add(limit))
	return readReply(c.r)
}

func (c *conn) write(p []byte, limit time.Duration) error {
	c.net.SetWriteDeadline(time.Now().Add(limit))
	_, err := c.net.Write(p)
	return err
}

// quit ends a connection politely, and at once.
func (c *conn) quit() {
	c.write([]byte("QUIT\r\n"), time.Second)
	c.close()
}

// close ends a connection, also one that somebody is writing to.
func (c *conn) close() {
	c.forget()
	c.raw.Close()
}
