package mailtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Client speaks dialogues with a mail server.
type Client struct {
	// Patience is how long a reply may take; 0: 10 seconds.
	Patience time.Duration
	// Log gets every line of the conversation, with "C: " or "S: " before it;
	// nil: nobody does.
	Log func(line string)

	conn    net.Conn
	r       *bufio.Reader
	pending []string // the lines of a reply that is not yet done with
}

// Dial connects to a server, from a local IP address or from any where that is
// empty.
func Dial(ctx context.Context, addr, from string) (*Client, error) {
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, r: bufio.NewReader(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Run speaks a dialogue, one step a line:
//
//	S: 220                     a reply must begin so (any one of its lines)
//	C: EHLO origin.example     the line is sent, with CRLF
//	S: 250-SIZE                with a hyphen: and more is asked of the same reply
//	S: 250
//	C: DATA
//	S: 354
//	| Subject: a message       a line of a message: dots stuffed, with CRLF
//	|
//	| .one dot
//	C: .
//	C> RSET\nNOOP\r\n          raw, in Go's syntax; nothing is added
//	TLS                        the handshake, after STARTTLS was answered
//	S: closed                  the server ends the connection
//
// Several C: lines in a row are pipelined. Empty lines and lines that begin
// with # say nothing. The first thing that is not as written is the error.
func (c *Client) Run(dialogue string) error {
	n := 0
	for line := range strings.Lines(dialogue) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if err := c.step(line); err != nil {
			return fmt.Errorf("mailtest: line %d of the dialogue: %q: %w", n, line, err)
		}
	}
	return nil
}

func (c *Client) step(line string) error {
	if strings.TrimSpace(line) == "" || line[0] == '#' {
		return nil
	}
	switch kind, rest, _ := strings.Cut(line, " "); kind {
	case "C:":
		return c.Send(rest + "\r\n")
	case "C>":
		raw, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
		if err != nil {
			return fmt.Errorf("no text in Go's syntax: %w", err)
		}
		return c.Send(raw)
	case "|":
		if strings.HasPrefix(rest, ".") {
			rest = "." + rest
		}
		return c.Send(rest + "\r\n")
	case "TLS":
		return c.StartTLS()
	case "S:":
		return c.expect(rest)
	}
	return errors.New("no step begins so")
}

// Send sends octets as they are.
func (c *Client) Send(raw string) error {
	for line := range strings.Lines(raw) {
		c.log("C: " + line)
	}
	c.conn.SetWriteDeadline(time.Now().Add(c.patience()))
	_, err := io.WriteString(c.conn, raw)
	return err
}

// Reply waits for a reply and returns its lines, without line ends.
func (c *Client) Reply() ([]string, error) {
	c.conn.SetReadDeadline(time.Now().Add(c.patience()))
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return lines, err
		}
		line = strings.TrimRight(line, "\r\n")
		c.log("S: " + line)
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return lines, nil
		}
	}
}

// StartTLS does the TLS handshake, whatever the server's certificate.
func (c *Client) StartTLS() error {
	t := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	t.SetDeadline(time.Now().Add(c.patience()))
	if err := t.Handshake(); err != nil {
		return err
	}
	c.conn, c.r = t, bufio.NewReader(t)
	return nil
}

func (c *Client) expect(want string) error {
	if c.pending == nil {
		lines, err := c.Reply()
		switch {
		case err == nil:
		case want == "closed" && len(lines) == 0 && !errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("no reply within %v", c.patience())
		default:
			return fmt.Errorf("instead of a reply: %w", err)
		}
		c.pending = lines
	}
	lines := c.pending
	more := len(want) > 3 && want[3] == '-'
	if !more {
		c.pending = nil
	}
	for _, line := range lines {
		if strings.HasPrefix(spaced(line), spaced(want)) {
			return nil
		}
	}
	return fmt.Errorf("the server says %q", strings.Join(lines, "\n"))
}

// spaced is a line of a reply with a space behind its code.
func spaced(line string) string {
	if len(line) > 3 && line[3] == '-' {
		return line[:3] + " " + line[4:]
	}
	return line
}

func (c *Client) log(line string) {
	if c.Log != nil {
		c.Log(strings.TrimRight(line, "\r\n"))
	}
}

func (c *Client) patience() time.Duration {
	if c.Patience > 0 {
		return c.Patience
	}
	return 10 * time.Second
}
