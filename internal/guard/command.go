package guard

import (
	"strings"

	"srsd/envelope"
)

// A verb is a command that the guard hands to go-smtp and whose answer it
// takes note of.
type verb int

const (
	_ verb = iota
	verbEhlo
	verbHelo
	verbMail
	verbRcpt
	verbData
	verbRset
	verbOther
)

// command checks a line, and returns what go-smtp is to read: the command in
// its plainest form, or nil where the guard has answered it.
func (c *Conn) command(l line) []byte {
	if !l.bad.IsZero() {
		if c.known {
			c.refuse(l.bad)
		} else {
			c.hangUp(l.bad, true) // whoever begins like this will not get better
		}
		return nil
	}
	name, arg, _ := strings.Cut(strings.TrimRight(l.text, " \t"), " ")
	name = strings.ToUpper(name)
	if !c.isSMTP(name) {
		c.hangUp(replyNotSMTP, true)
		return nil
	}
	if r := checkText(name, l.text); !r.IsZero() {
		c.refuse(r)
		return nil
	}
	switch name {
	case "MAIL", "RCPT":
		return c.envelopeCommand(name, arg)
	case "EHLO", "HELO":
		return c.hello(name, arg)
	case "DATA", "RSET", "QUIT", "STARTTLS":
		return c.plainCommand(name, arg)
	case "NOOP", "VRFY":
		c.junk++
		return c.hand(verbOther, name)
	case "HELP":
		c.junk++
		c.say(replyHelp)
	case "BDAT":
		// What follows is a chunk, and never a command. How long it is, only
		// a client that honours EHLO would say reliably.
		c.hangUp(replyNotOffered, true)
	case "AUTH":
		c.refuse(replyNoAuth)
	case "EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML":
		c.refuse(replyNotOffered)
	default:
		c.refuse(replyUnknown)
	}
	return nil
}

// isSMTP says whether a client that begins with name may mean SMTP. Requests of
// other protocols can be made to carry SMTP commands in what follows them, so
// those are the last line that is read (ALPACA, cross-protocol forms).
func (c *Conn) isSMTP(name string) bool {
	switch name {
	case "EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP", "STARTTLS", "AUTH", "BDAT", "EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML":
		c.known = true
		return true
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT":
		return false
	}
	return c.known
}

// checkText refuses what may stand in no command, or not in this one.
func checkText(name, text string) envelope.Reply {
	for i := range len(text) {
		switch b := text[i]; {
		case b < ' ' || b == 0x7f:
			return replyControl
		case b >= 0x80 && name != "MAIL" && name != "RCPT":
			return replyEightBit
		}
	}
	return envelope.Reply{}
}

// hand makes a line for go-smtp.
func (c *Conn) hand(v verb, text string) []byte {
	c.cmd = v
	return append([]byte(text), '\r', '\n')
}

// plainCommand checks the commands that have no argument.
func (c *Conn) plainCommand(name, arg string) []byte {
	switch {
	case arg != "":
		c.refuse(replyArgument)
	case name == "STARTTLS":
		c.startTLSCommand()
	case name == "RSET":
		c.junk++
		return c.hand(verbRset, name)
	case name == "DATA":
		switch r := c.dataAllowed(); {
		case r.IsZero():
			return c.hand(verbData, name)
		case c.r < c.w:
			// RFC 2920, section 3.1: DATA ends a pipeline. What follows is text
			// that did not wait, and never a command.
			c.hangUp(replyDataTail, true)
		default:
			c.refuse(r)
		}
	default:
		return c.hand(verbOther, name)
	}
	return nil
}

func (c *Conn) dataAllowed() envelope.Reply {
	switch {
	case !c.greeted:
		return replyHelloFirst
	case !c.mail:
		return replyMailFirst
	case c.rcpts == 0:
		return replyRcptFirst
	}
	return envelope.Reply{}
}

// hello checks EHLO and HELO: the argument ends up in Received.
func (c *Conn) hello(name, arg string) []byte {
	c.junk++
	if !isHelo(arg) {
		c.refuse(replyHello)
		return nil
	}
	v := verbHelo
	if name == "EHLO" {
		v = verbEhlo
	}
	return c.hand(v, name+" "+arg)
}

// isHelo allows an address literal, or letters, digits, dots, hyphens and
// underscores in any order: real clients call themselves many things.
func isHelo(s string) bool {
	if s == "" || len(s) > maxHelo {
		return false
	}
	if s[0] == '[' {
		return envelope.CheckDomain(s) == nil
	}
	for i := range len(s) {
		if b := s[i]; !isAlnum(b) && b != '.' && b != '-' && b != '_' {
			return false
		}
	}
	return true
}

func isAlpha(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

func isAlnum(b byte) bool { return isAlpha(b) || '0' <= b && b <= '9' }
