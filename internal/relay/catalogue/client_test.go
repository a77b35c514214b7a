package catalogue_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A sender is a mail client that says what it is told, to the octet, and keeps
// its connection from one message to the next.
type sender struct {
	net.Conn
	r       *bufio.Reader
	greeted bool
}

func dial(addr, from string) (*sender, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &sender{Conn: c, r: bufio.NewReader(c)}, nil
}

// reply reads one reply and returns its last line.
func (s *sender) reply() (string, error) {
	s.SetReadDeadline(time.Now().Add(60 * time.Second))
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimRight(line, "\r\n"), nil
		}
	}
}

// send sends a message and returns the reply to the final dot, or the first one
// that refuses before. An error is a connection that ended.
func (s *sender) send(from, to, text string) (string, error) {
	if !s.greeted {
		if r, err := s.reply(); err != nil || r[0] != '2' {
			return r, err
		}
		if r, err := s.say("EHLO mail.origin.example\r\n"); err != nil || r[0] != '2' {
			return r, err
		}
		s.greeted = true
	}
	if _, err := fmt.Fprintf(s, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n", from, to); err != nil {
		return "", err
	}
	refused := ""
	for range 3 {
		r, err := s.reply()
		if err != nil {
			return "", err
		}
		if refused == "" && r[0] > '3' {
			refused = r
		}
	}
	if refused != "" {
		_, err := s.say("RSET\r\n")
		return refused, err
	}
	if err := s.text(text); err != nil {
		return "", err
	}
	return s.say(".\r\n")
}

func (s *sender) say(line string) (string, error) {
	if _, err := io.WriteString(s, line); err != nil {
		return "", err
	}
	return s.reply()
}

// text sends a text that is empty or ends with CRLF, its dots stuffed.
func (s *sender) text(text string) error {
	s.SetWriteDeadline(time.Now().Add(60 * time.Second))
	if strings.HasPrefix(text, ".") {
		text = "." + text
	}
	_, err := io.WriteString(s, strings.ReplaceAll(text, "\r\n.", "\r\n.."))
	return err
}
