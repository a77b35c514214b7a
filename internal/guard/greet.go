package guard

import (
	"crypto/tls"
	"errors"
	"os"
	"time"
)

// greet comes before the banner leaves: the handshake, and the wait for
// clients that do not wait.
func (c *Conn) greet() {
	if c.cfg.Implicit {
		if err := c.startTLS(); err != nil {
			c.drop()
			return
		}
	}
	if c.cfg.GreetDelay == 0 {
		return
	}
	c.conn.SetReadDeadline(time.Now().Add(c.cfg.GreetDelay))
	n, err := c.conn.Read(c.in[c.w:])
	c.w += n
	switch {
	case n > 0:
		c.unsay()
		c.hangUp(replyEarly, true)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		c.drop()
	}
}

// drop ends a session without a word.
func (c *Conn) drop() {
	c.unsay()
	c.stop()
}

func (c *Conn) unsay() {
	c.wmu.Lock()
	c.out = c.out[:0]
	c.wmu.Unlock()
}

// startTLS does the server's part of the handshake on the connection.
func (c *Conn) startTLS() error {
	cfg := c.cfg.tls()
	if cfg == nil {
		return errors.New("guard: TLS is not configured")
	}
	conn := tls.Server(c.conn, cfg)
	c.conn.SetDeadline(time.Now().Add(min(c.cfg.idle(), time.Minute)))
	err := conn.Handshake()
	c.conn.SetDeadline(time.Time{})
	if err != nil {
		c.log("TLS handshake failed", err)
		return err
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	c.tls = conn
	return nil
}

// startTLSCommand changes to TLS. What the client said in clear is forgotten
// (RFC 3207, section 4.2): the guard lets nothing but EHLO begin a transaction
// now, and EHLO resets go-smtp.
func (c *Conn) startTLSCommand() {
	c.junk++
	switch {
	case c.tls != nil:
		c.refuse(replyTLSAlready)
	case c.cfg.tls() == nil:
		c.refuse(replyNotOffered)
	case c.r < c.w:
		c.hangUp(replyTLSTail, true)
	default:
		c.say(replyTLSReady)
		if c.flush() != nil || c.startTLS() != nil {
			c.drop()
			return
		}
		c.greeted = false
		c.endTransaction()
	}
}
