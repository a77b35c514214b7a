package guard

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"srsd/envelope"
	"srsd/internal/mailtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A backend keeps what go-smtp gives it.
type backend struct {
	mu       sync.Mutex
	mails    []string // reverse-paths accepted
	rcpts    []string // recipients accepted
	messages []string
	sessions []*session
	hook     func(*session) error // at the end of Data, instead of acceptance
	early    bool                 // Data returns without reading
}

func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	s := &session{backend: b, smtp: c}
	s.guard, _ = c.Conn().(*Conn)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions = append(b.sessions, s)
	return s, nil
}

func (b *backend) got() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.messages...)
}

type session struct {
	*backend
	smtp  *smtp.Conn
	guard *Conn // nil where go-smtp is not guarded
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

func (s *session) path(given string) string {
	if s.guard == nil {
		return given
	}
	return s.guard.Path().String()
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, s.path(from))
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(to, "nobody") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody"}
	}
	s.rcpts = append(s.rcpts, s.path(to))
	return nil
}

func (s *session) Data(r io.Reader) error {
	if s.guard != nil {
		r = s.guard.Data()
	}
	if s.early {
		return s.hook(s)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		var reply envelope.Reply
		if s.guard != nil && !errors.As(err, &reply) {
			return errors.New("test: not a reply: " + err.Error())
		}
		return err
	}
	if s.hook != nil {
		return s.hook(s)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, string(b))
	return nil
}

// A listener guards what it accepts; cfg nil does not.
type listener struct {
	net.Listener
	cfg *Config
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.cfg == nil {
		return c, err
	}
	return New(c, l.cfg), nil
}

// A pipe is a listener for connections made within the process: in a bubble of
// testing/synctest, time passes by itself.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipe() pipe { return pipe{make(chan net.Conn), make(chan struct{})} }

func (p pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipe) Close() error   { close(p.done); return nil }
func (p pipe) Addr() net.Addr { return &net.TCPAddr{} }
func (p pipe) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

func newServer(b *backend) *smtp.Server {
	s := smtp.NewServer(b)
	s.Domain = "mx.test"
	s.MaxLineLength = 0
	s.MaxMessageBytes = 1 << 20
	s.MaxRecipients = 100
	s.EnableSMTPUTF8, s.EnableDSN = true, true
	s.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

// serve starts go-smtp on loopback, guarded unless cfg is nil, and returns
// what opens connections to it.
func serve(t testing.TB, b *backend, cfg *Config) func() *client {
	t.Helper()
	s := newServer(b)
	if cfg == nil {
		s.MaxLineLength = 2000 // go-smtp's own default
	}
	return serveOn(t, s, cfg)
}

func serveOn(t testing.TB, s *smtp.Server, cfg *Config) func() *client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { s.Serve(listener{l, cfg}); close(done) }()
	t.Cleanup(func() { s.Close(); <-done })
	return func() *client {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return newClient(t, conn)
	}
}

// A client speaks octets.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client { return &client{c, t, bufio.NewReader(c)} }

func (c *client) send(s string) {
	c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c.Conn, s)
}

// reply is the next reply, its lines without CRLF; "" when the connection ends,
// "-" when nothing comes within d.
func (c *client) within(d time.Duration) string {
	c.SetReadDeadline(time.Now().Add(d))
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return "-"
		case err != nil:
			return ""
		}
		lines = append(lines, strings.TrimSuffix(line, "\r\n"))
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

func (c *client) reply() string { return c.within(10 * time.Second) }

func (c *client) cmd(line string) string {
	c.send(line + "\r\n")
	return c.reply()
}

// want sends lines and checks that each is answered with its code.
func (c *client) want(pairs ...string) {
	c.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := c.cmd(pairs[i]); !strings.HasPrefix(got, pairs[i+1]) {
			c.t.Fatalf("%.80q: %q, want %s", pairs[i], got, pairs[i+1])
		}
	}
}

// open reads the banner and says EHLO.
func (c *client) open() *client {
	c.t.Helper()
	if got := c.reply(); !strings.HasPrefix(got, "220") {
		c.t.Fatalf("banner %q", got)
	}
	c.want("EHLO client.test", "250")
	return c
}

// inData goes on to 354.
func (c *client) inData() *client {
	c.t.Helper()
	c.open().want("MAIL FROM:<a@a.test>", "250", "RCPT TO:<b@b.test>", "250", "DATA", "354")
	return c
}

// codes are the codes of all replies, one at least, until the connection ends
// ("closed") or is silent for a while.
func (c *client) codes(silence time.Duration) []string {
	var out []string
	wait := 10 * time.Second
	for ; ; wait = silence {
		switch r := c.within(wait); r {
		case "-":
			return out
		case "":
			return append(out, "closed")
		default:
			out = append(out, r[:3])
		}
	}
}

// startTLS does the client's part of the handshake.
func (c *client) startTLS() error {
	conn := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.Conn, c.r = conn, bufio.NewReader(conn)
	return nil
}

// serverTLS is a certificate made on the spot.
var serverTLS = sync.OnceValue(func() *tls.Config {
	c, err := mailtest.Certificate("mx.test")
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{c}}
})
