package mailtest

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
)

// A Message is one transaction that an MX saw through to the end of its data.
type Message struct {
	Client string   // the client's IP address
	HELO   string   // what it called itself
	TLS    bool     // whether it came encrypted
	Mail   string   // the MAIL command as it came: "MAIL FROM:<…> SIZE=…"
	Rcpts  []string // the RCPT commands that were accepted, as they came
	Data   []byte   // the text, octet for octet, dots unstuffed
	Reply  string   // what the server said to it
}

// Accepted says whether the message was taken.
func (m Message) Accepted() bool { return strings.HasPrefix(m.Reply, "2") }

// From is the reverse-path without angle brackets.
func (m Message) From() string { return path(m.Mail) }

// To lists the recipients without angle brackets.
func (m Message) To() []string {
	to := make([]string, len(m.Rcpts))
	for i, line := range m.Rcpts {
		to[i] = path(line)
	}
	return to
}

// path returns what is between the angle brackets of a MAIL or RCPT command.
func path(line string) string {
	_, line, _ = strings.Cut(line, "<")
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case quoted && line[i] == '\\':
			i++
		case line[i] == '"':
			quoted = !quoted
		case line[i] == '>' && !quoted:
			return line[:i]
		}
	}
	return line
}

// An MXConfig says what a mail server is. The zero MXConfig is a plain one on a
// free port of 127.0.0.1.
type MXConfig struct {
	Addr     string      // "host:port"; "": "127.0.0.1:0"
	Hostname string      // as it greets; "": "mx.target.example"
	TLS      *tls.Config // offers STARTTLS where it is set
}

// An MX is a mail server that records what it gets and answers what it is told.
// Untold, it takes everything.
type MX struct {
	config   MXConfig
	listener net.Listener
	running  sync.WaitGroup
	closed   chan struct{}

	mu       sync.Mutex
	script   script
	conns    map[net.Conn]bool
	dialled  int
	commands []string
	messages []Message
	news     chan struct{} // closed and replaced when a message has come
}

// NewMX starts a server.
func NewMX(c MXConfig) (*MX, error) {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Hostname == "" {
		c.Hostname = "mx.target.example"
	}
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return nil, err
	}
	m := &MX{config: c, listener: l, closed: make(chan struct{}), conns: map[net.Conn]bool{}, news: make(chan struct{})}
	m.running.Go(m.accept)
	return m, nil
}

// Addr is where the server listens, "127.0.0.1:port".
func (m *MX) Addr() string { return m.listener.Addr().String() }

// Script tells the server what to do, one line a moment:
//
//	banner 554 5.3.2 closed for the night
//	ehlo 250 mx.target.example\nPIPELINING
//	rcpt kim@target.example 450 4.2.1 busy
//	rcpt kim@target.example 250 2.1.5 at last
//	mail <> 550 5.7.1 no bounces
//	dot drop
//
// The moments are banner, ehlo, starttls, handshake (what happens in place of
// the TLS handshake), mail, rcpt, data, dot (the end of the data), rset and
// quit; mail and rcpt may be for one address only. What happens is a reply (\n
// begins its next line), "drop" (the connection ends), or "hang" (nothing,
// until the client gives up); "wait 300ms" may stand before a reply, or alone.
// Several lines for a moment are used in turn, and the last one stays. A reply
// of 421 ends the session. The script starts from its beginning.
func (m *MX) Script(text string) error {
	s, err := parseScript(text)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.script = s
	return nil
}

// Messages returns the messages taken so far.
func (m *MX) Messages() []Message {
	var taken []Message
	for _, x := range m.All() {
		if x.Accepted() {
			taken = append(taken, x)
		}
	}
	return taken
}

// All returns the messages taken and refused at the end of their data.
func (m *MX) All() []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Message(nil), m.messages...)
}

// Wait returns the messages taken as soon as there are n of them. Its error is
// the context's, with what there is by then.
func (m *MX) Wait(ctx context.Context, n int) ([]Message, error) {
	for {
		m.mu.Lock()
		news := m.news
		m.mu.Unlock()
		if got := m.Messages(); len(got) >= n {
			return got, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return m.Messages(), context.Cause(ctx)
		}
	}
}

// Commands returns the command lines of all sessions so far.
func (m *MX) Commands() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.commands...)
}

// Sessions says how many connections there have been.
func (m *MX) Sessions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dialled
}

// Close ends the server and its sessions.
func (m *MX) Close() error {
	m.mu.Lock()
	select {
	case <-m.closed:
	default:
		close(m.closed)
	}
	for c := range m.conns {
		c.Close()
	}
	m.mu.Unlock()
	err := m.listener.Close()
	m.running.Wait()
	return err
}

func (m *MX) accept() {
	for {
		c, err := m.listener.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.conns[c] = true
		m.dialled++
		m.mu.Unlock()
		select {
		case <-m.closed:
			c.Close()
		default:
		}
		m.running.Go(func() {
			newSession(m, c).run()
			c.Close()
			m.mu.Lock()
			delete(m.conns, c)
			m.mu.Unlock()
		})
	}
}

func (m *MX) next(stage, address string) action {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.script.next(stage, address)
}

func (m *MX) heard(command string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands = append(m.commands, command)
}

func (m *MX) record(x Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages = append(m.messages, x)
	close(m.news)
	m.news = make(chan struct{})
}
