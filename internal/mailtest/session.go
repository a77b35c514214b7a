package mailtest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// errOver ends a session.
var errOver = errors.New("mailtest: the session is over")

// A session is one client at an MX.
type session struct {
	mx   *MX
	conn net.Conn
	r    *bufio.Reader
	now  Message // the transaction under way
}

func newSession(m *MX, c net.Conn) *session {
	s := &session{mx: m, conn: c, r: bufio.NewReader(c)}
	s.now.Client, _, _ = net.SplitHostPort(c.RemoteAddr().String())
	return s
}

func (s *session) run() {
	_, err := s.answer("banner", "", "220 "+s.mx.config.Hostname+" ESMTP")
	for err == nil {
		var line string
		if line, err = s.r.ReadString('\n'); err == nil {
			line = strings.TrimRight(line, "\r\n")
			s.mx.heard(line)
			err = s.command(line)
		}
	}
}

// answer says what the script has for this moment, else what is friendly.
func (s *session) answer(stage, address, friendly string) (reply string, err error) {
	if reply, err = s.choose(stage, address, friendly); err != nil {
		return "", err
	}
	return reply, s.say(reply)
}

// choose does what the script has for this moment, up to the reply.
func (s *session) choose(stage, address, friendly string) (reply string, err error) {
	a := s.mx.next(stage, address)
	if a.delay > 0 {
		select {
		case <-time.After(a.delay):
		case <-s.mx.closed:
			return "", errOver
		}
	}
	if a.hang {
		io.Copy(io.Discard, s.r)
	}
	if a.hang || a.drop {
		return "", errOver
	}
	if a.reply != "" {
		return a.reply, nil
	}
	return friendly, nil
}

// say sends a reply; each line gets its code.
func (s *session) say(reply string) error {
	code, text := reply[:3], strings.TrimPrefix(reply[3:], " ")
	lines := strings.Split(text, "\n")
	var b bytes.Buffer
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		fmt.Fprintf(&b, "%s%s%s\r\n", code, separator, line)
	}
	if _, err := s.conn.Write(b.Bytes()); err != nil {
		return err
	}
	if code == "421" {
		return errOver // RFC 5321, section 3.8
	}
	return nil
}

func (s *session) command(line string) error {
	verb, argument, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		return s.hello(argument, strings.Join(s.extensions(), "\n"))
	case "HELO":
		return s.hello(argument, s.mx.config.Hostname)
	case "STARTTLS":
		return s.startTLS()
	case "MAIL":
		return s.mail(line)
	case "RCPT":
		return s.rcpt(line)
	case "DATA":
		return s.data()
	case "RSET":
		s.reset()
		_, err := s.answer("rset", "", "250 2.0.0 forgotten")
		return err
	case "NOOP":
		return s.say("250 2.0.0 still here")
	case "QUIT":
		s.answer("quit", "", "221 2.0.0 bye")
		return errOver
	}
	return s.say("500 5.5.2 unknown command")
}

func (s *session) extensions() []string {
	x := []string{s.mx.config.Hostname, "PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}
	if s.mx.config.TLS != nil && !s.now.TLS {
		x = append(x, "STARTTLS")
	}
	return x
}

func (s *session) hello(name, text string) error {
	s.reset()
	s.now.HELO = name
	_, err := s.answer("ehlo", "", "250 "+text)
	return err
}

// reset forgets the transaction, not the session.
func (s *session) reset() {
	s.now = Message{Client: s.now.Client, HELO: s.now.HELO, TLS: s.now.TLS}
}

func (s *session) startTLS() error {
	if s.mx.config.TLS == nil || s.now.TLS {
		return s.say("502 5.5.1 not here")
	}
	reply, err := s.answer("starttls", "", "220 2.0.0 go ahead")
	if err != nil || reply[0] != '2' {
		return err
	}
	if reply, err := s.choose("handshake", "", ""); err != nil || reply != "" {
		s.conn.Write([]byte(reply + "\r\n"))
		return errOver
	}
	if s.r.Buffered() > 0 {
		return errOver // RFC 3207, section 4.2: nothing may come between
	}
	c := tls.Server(s.conn, s.mx.config.TLS)
	if err := c.Handshake(); err != nil {
		return err
	}
	s.conn, s.r = c, bufio.NewReader(c)
	s.now = Message{Client: s.now.Client, TLS: true}
	return nil
}

func (s *session) mail(line string) error {
	if s.now.HELO == "" || s.now.Mail != "" {
		return s.say("503 5.5.1 not now")
	}
	reply, err := s.answer("mail", path(line), "250 2.1.0 well")
	if err == nil && reply[0] == '2' {
		s.now.Mail = line
	}
	return err
}

func (s *session) rcpt(line string) error {
	if s.now.Mail == "" {
		return s.say("503 5.5.1 MAIL first")
	}
	reply, err := s.answer("rcpt", path(line), "250 2.1.5 well")
	if err == nil && reply[0] == '2' {
		s.now.Rcpts = append(s.now.Rcpts, line)
	}
	return err
}

func (s *session) data() error {
	if len(s.now.Rcpts) == 0 {
		return s.say("503 5.5.1 RCPT first")
	}
	reply, err := s.answer("data", "", "354 go on")
	if err != nil || reply[0] != '3' {
		return err
	}
	if s.now.Data, err = readData(s.r); err != nil {
		return err
	}
	defer s.reset()
	if s.now.Reply, err = s.choose("dot", "", "250 2.0.0 taken"); err != nil {
		return err
	}
	s.mx.record(s.now) // before the reply: whoever has heard 250 finds the message here
	return s.say(s.now.Reply)
}

// readData reads up to the line with the single dot; only CRLF ends a line.
func readData(r *bufio.Reader) ([]byte, error) {
	var data []byte
	atStart := true
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if atStart && string(line) == ".\r\n" {
			return data, nil
		}
		if atStart && line[0] == '.' {
			line = line[1:]
		}
		data = append(data, line...)
		atStart = bytes.HasSuffix(line, []byte("\r\n"))
	}
}
