package guard

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"srsd/envelope"
)

// What the guard says itself. Enhanced codes are of RFC 3463 and its registry.
var (
	replyNotSMTP    = reply(554, 5, 5, 1, "This is an SMTP server")
	replyEarly      = reply(554, 5, 5, 1, "You spoke before the greeting")
	replyBareInLine = reply(500, 5, 5, 2, "A line ends in CRLF; CR and LF stand nowhere else")
	replyControl    = reply(500, 5, 5, 2, "Control character in a command")
	replyLongLine   = reply(500, 5, 5, 2, "Line too long")
	replyEightBit   = reply(501, 5, 5, 2, "Only ASCII is allowed here")
	replyArgument   = reply(501, 5, 5, 4, "No argument is allowed here")
	replyUnknown    = reply(500, 5, 5, 2, "Command not recognized")
	replyNotOffered = reply(502, 5, 5, 1, "Command not offered")
	replyNoAuth     = reply(503, 5, 5, 1, "Authentication is not offered")
	replyHelloFirst = reply(503, 5, 5, 1, "Say EHLO first")
	replyMailFirst  = reply(503, 5, 5, 1, "Say MAIL first")
	replyRcptFirst  = reply(503, 5, 5, 1, "No valid recipients")
	replyDataTail   = reply(554, 5, 5, 1, "DATA was refused, and its text did not wait for the answer")
	replyNested     = reply(503, 5, 5, 1, "A transaction is under way")
	replyHello      = reply(501, 5, 5, 2, "Say EHLO with a domain or an address literal")
	replyTLSAlready = reply(503, 5, 5, 1, "TLS is active already")
	replyTLSReady   = reply(220, 2, 0, 0, "Ready to start TLS")
	replyTLSTail    = reply(554, 5, 5, 1, "STARTTLS must be the last command in clear")
	replyHelp       = reply(214, 2, 0, 0, "See RFC 5321")

	replyIdle    = reply(421, 4, 4, 2, "Timeout")
	replySlow    = reply(421, 4, 4, 2, "Timeout in the message")
	replyLost    = reply(421, 4, 4, 2, "Connection lost in the message")
	replyTooMany = reply(421, 4, 7, 0, "Too many errors or idle commands")

	replyBareInText = reply(550, 5, 6, 11, "The message has a bare CR or LF; its lines must end in CRLF")
	replyNULInText  = reply(550, 5, 6, 0, "The message has a NUL octet")
	replyEndless    = reply(552, 5, 3, 4, "The message does not end")
	replyLongText   = reply(550, 5, 6, 0, "The message has a line of more than 1048576 octets")
)

func reply(code, class, subject, detail int, text string) envelope.Reply {
	return envelope.NewReply(code, envelope.EnhancedCode{class, subject, detail}, text)
}

// Write takes what go-smtp says. It is sent when the client is waited for.
func (c *Conn) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.partial = append(c.partial, p...)
			return n, nil
		}
		line := p[:i]
		if len(c.partial) > 0 {
			line = append(c.partial, line...)
			c.partial = nil
		}
		c.serverSays(strings.TrimSuffix(string(line), "\r"))
		p = p[i+1:]
	}
}

// serverSays passes on one line of a reply, corrected.
func (c *Conn) serverSays(line string) {
	if len(line) < 3 {
		return
	}
	code, _ := strconv.Atoi(line[:3])
	last := len(line) == 3 || line[3] != '-'
	own, ours := c.instead(code)
	switch {
	case ours && last:
		code = own.Code
		c.say(own)
	case ours:
	case c.cmd == verbEhlo && code == 250:
		c.sayCapability(line, last)
	default:
		c.sayLine(line)
	}
	if last {
		c.answered(code)
	}
}

// instead is what the guard says in place of the server.
func (c *Conn) instead(code int) (envelope.Reply, bool) {
	switch {
	case c.phase == phaseAnswer && !c.text.fault.IsZero() && (c.text.told || code/100 == 2):
		return c.text.fault, true
	case c.cmd == verbMail && code == 250: // go-smtp repeats the address
		return reply(250, 2, 1, 0, "Sender OK"), true
	case c.cmd == verbRcpt && code == 250:
		return reply(250, 2, 1, 5, "Recipient OK"), true
	}
	return envelope.Reply{}, false
}

// sayCapability passes on a line of the reply to EHLO. What the guard does not
// let through is not offered; what it does itself is.
func (c *Conn) sayCapability(line string, last bool) {
	word, _, _ := strings.Cut(line[4:], " ")
	switch strings.ToUpper(word) {
	case "CHUNKING", "BINARYMIME", "STARTTLS", "AUTH", "REQUIRETLS", "RRVS", "DELIVERBY", "MT-PRIORITY":
		if last {
			c.sayLine("250 HELP") // offered by every server
		}
		return
	case "HELLO": // RFC 5321, section 4.1.1.1: the first word is the server's name
		if c.cfg.Hostname != "" {
			line = "250-" + c.cfg.Hostname
		}
		c.sayLine(line)
		if c.tls == nil && c.cfg.tls() != nil {
			c.sayLine("250-STARTTLS")
		}
		return
	}
	c.sayLine(line)
}

// answered takes note of the server's answer to the command under way.
func (c *Conn) answered(code int) {
	ok := code/100 == 2
	cmd := c.cmd
	c.cmd = 0
	switch {
	case c.phase == phaseBanner:
		c.phase = phaseCommand
		c.greet()
	case c.phase == phaseAnswer:
		c.phase = phaseCommand
		c.endTransaction()
		if ok {
			c.errors, c.junk, c.deferred = 0, 0, 0
		}
		if c.text.cut {
			c.log("message cut off", c.text.fault)
			if c.stop() == nil {
				c.linger()
			}
		}
		c.text = text{}
	case cmd == verbData && code == 354:
		c.phase = phaseText
		c.text = text{start: time.Now()}
	case (cmd == verbEhlo || cmd == verbHelo) && ok:
		c.greeted = true
		c.endTransaction()
	case cmd == verbRset && ok:
		c.endTransaction()
	case cmd == verbMail && ok:
		c.mail, c.utf8 = true, c.wantsUTF8
	case cmd == verbRcpt && ok:
		c.rcpts++
	}
	c.count(code)
}

func (c *Conn) endTransaction() {
	c.mail, c.utf8, c.rcpts = false, false, 0
	c.path = envelope.Address{}
}

// count keeps the score of what does not lead to a message.
func (c *Conn) count(code int) {
	switch {
	case code == 421 || code == 221:
		c.stop() // RFC 5321, section 3.8: the connection closes behind it
	case code/100 == 5:
		c.errors++
	case code/100 == 4:
		c.deferred++
	}
}

// refuse answers a command in place of the server.
func (c *Conn) refuse(r envelope.Reply) {
	c.say(r)
	c.count(r.Code)
}

func (c *Conn) say(r envelope.Reply) {
	text := r.Text
	if r.Code == 421 && c.cfg.Hostname != "" { // RFC 5321, section 4.2.2
		text = c.cfg.Hostname + " " + text
	}
	enhanced := r.Enhanced.String()
	if enhanced != "" {
		enhanced += " "
	}
	lines := strings.Split(text, "\n")
	for i, t := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		c.sayLine(strconv.Itoa(r.Code) + sep + enhanced + t)
	}
}

// sayLine keeps a line for the client. Whatever it repeats, it stays one
// line of printable characters.
func (c *Conn) sayLine(line string) {
	c.wmu.Lock()
	if !c.dead {
		for i := range len(line) {
			b := line[i]
			if b < ' ' || b == 0x7f {
				b = '?'
			}
			c.out = append(c.out, b)
		}
		c.out = append(c.out, '\r', '\n')
	}
	much := len(c.out) >= smallBuffer
	c.wmu.Unlock()
	if much {
		c.flush()
	}
}

func (c *Conn) log(message string, why error) {
	if c.cfg.Logger != nil {
		c.cfg.Logger.Info(message, "client", c.RemoteAddr().String(), "reply", why.Error())
	}
}
