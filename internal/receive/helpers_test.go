package receive_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/mailtest"
	"srsd/internal/receive"
	"srsd/spf"
)

var long = flag.Bool("long", false, "run the slow tests too")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 5 * time.Second

// delivered is one message as the deliverer got it.
type delivered struct {
	envelope.Message
	text string
}

// header is the part above the text that was sent.
func (d delivered) header(text string) string { return strings.TrimSuffix(d.text, text) }

// A backend is router, deliverer and SPF of a server under test.
type backend struct {
	mu       sync.Mutex
	messages []delivered
	deliver  func(context.Context, envelope.Message, envelope.Body) envelope.Reply
	spf      map[string]spf.Outcome // by reverse-path domain, or HELO name
	checks   atomic.Int32
	discard  bool // look at no message
}

func (b *backend) Deliver(ctx context.Context, m envelope.Message, body envelope.Body) envelope.Reply {
	if b.discard {
		return envelope.NewReply(250, envelope.EnhancedCode{2, 0, 0}, "accepted")
	}
	text := make([]byte, body.Size())
	if n, err := body.ReadAt(text, 0); int64(n) != body.Size() || err != nil && !errors.Is(err, io.EOF) {
		return envelope.NewReply(451, envelope.EnhancedCode{4, 3, 0}, "%d octets instead of %d: %v", n, body.Size(), err)
	}
	b.mu.Lock()
	b.messages = append(b.messages, delivered{m, string(text)})
	b.mu.Unlock()
	if b.deliver != nil {
		return b.deliver(ctx, m, body)
	}
	return envelope.NewReply(250, envelope.EnhancedCode{2, 0, 0}, "accepted")
}

// Route accepts everybody at alumni.example, postmasters, and SRS addresses
// with the right hash, and refuses the rest.
func (b *backend) Route(_ context.Context, r forward.Request) forward.Decision {
	local, domain := strings.ToLower(r.Recipient.Local()), strings.ToLower(r.Recipient.Domain())
	no := func(d int, forged bool) forward.Decision {
		return forward.Decision{Kind: forward.Refused, Forged: forged, Reply: envelope.NewReply(550, envelope.EnhancedCode{5, d, 1}, "no such address here")}
	}
	route := envelope.Route{Alias: r.Recipient, Notify: r.Notify, Original: r.Original, ReversePath: r.ReversePath}
	switch {
	case local == "postmaster" && (domain == "" || domain == "alumni.example"):
		route.Target = envelope.MustParse("root@target.example")
		return forward.Decision{Kind: forward.Postmaster, Routes: []envelope.Route{route}}
	case domain == "srs.alumni.example":
		if !strings.HasPrefix(local, "srs0=good=") {
			return no(1, true)
		}
		route.Target, route.Return = envelope.MustParse("ann@sender.example"), true
		return forward.Decision{Kind: forward.SRS, Routes: []envelope.Route{route}}
	case domain != "alumni.example":
		return no(7, false)
	case strings.HasPrefix(local, "nobody"):
		return no(1, false)
	case local == "hole":
		return forward.Decision{Kind: forward.Discard}
	}
	route.Target, _ = envelope.NewAddress(r.Recipient.Local(), "target.example")
	return forward.Decision{Kind: forward.Alias, Routes: []envelope.Route{route}}
}

func (b *backend) Check(_ context.Context, _ netip.Addr, helo, from string) spf.Outcome {
	b.checks.Add(1)
	domain, identity := helo, spf.HELO
	if from != "" {
		domain, identity = from[strings.LastIndexByte(from, '@')+1:], spf.MailFrom
	}
	o, ok := b.spf[strings.ToLower(domain)]
	if !ok {
		o = spf.Outcome{Result: spf.Pass, Mechanism: "ip4:127.0.0.0/8"}
	}
	o.Domain, o.Identity = domain, identity
	return o
}

func (b *backend) all() []delivered {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]delivered(nil), b.messages...)
}

// last is the message that came last.
func (b *backend) last(t *testing.T) delivered {
	t.Helper()
	all := b.all()
	if len(all) == 0 {
		t.Fatal("nothing was delivered")
	}
	return all[len(all)-1]
}

// A bed is a server under test.
type bed struct {
	*backend
	server *receive.Server
	addr   string
	log    *lockedBuffer
}

// start runs a server on a loopback address of its own.
func start(t testing.TB, change ...func(*receive.Config)) *bed {
	t.Helper()
	b := &bed{backend: &backend{spf: map[string]spf.Outcome{}}, log: &lockedBuffer{}}
	c := receive.Config{
		Deliverer: b.backend, TempDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(b.log, nil)),
		Policy: receive.Policy{Hostname: "mx.alumni.example", Router: b.backend, SPF: b.backend, IdleTimeout: patience},
	}
	for _, f := range change {
		f(&c)
	}
	b.server = receive.New(c)
	b.addr = b.listen(t, b.server.Serve)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		b.server.Shutdown(ctx)
	})
	return b
}

// listen serves another port.
func (b *bed) listen(t testing.TB, serve func(net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.77.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(l) }()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// A peer is an SMTP client that does what it is told, to the octet.
type peer struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// dial connects from a loopback address; "" is any.
func dial(t testing.TB, addr, from string) *peer {
	t.Helper()
	p, err := tryDial(t, addr, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func tryDial(t testing.TB, addr, from string) (*peer, error) {
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &peer{Conn: c, t: t, r: bufio.NewReader(c)}, nil
}

// open connects and greets.
func (b *bed) open(t testing.TB) *peer { return b.openFrom(t, "") }

func (b *bed) openFrom(t testing.TB, from string) *peer {
	t.Helper()
	p := dial(t, b.addr, from)
	p.want("220")
	p.say("EHLO client.example")
	p.want("250")
	return p
}

func (p *peer) raw(s string) { io.WriteString(p.Conn, s) }

func (p *peer) say(line string) { p.raw(line + "\r\n") }

// reply reads one reply, all its lines; "" where the connection has ended.
func (p *peer) reply() string { return p.replyWithin(patience) }

func (p *peer) replyWithin(d time.Duration) string {
	p.SetReadDeadline(time.Now().Add(d))
	var b strings.Builder
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return "silence"
			}
			return ""
		}
		b.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimRight(b.String(), "\r\n")
		}
	}
}

// want reads a reply that must begin with prefix.
func (p *peer) want(prefix string) string {
	p.t.Helper()
	got := p.reply()
	if !strings.HasPrefix(got, prefix) {
		p.t.Errorf("got %q, want %q", got, prefix)
	}
	return got
}

// do says a line and wants a reply.
func (p *peer) do(line, prefix string) string {
	p.t.Helper()
	p.say(line)
	got := p.reply()
	if !strings.HasPrefix(got, prefix) {
		p.t.Errorf("%.80q: got %q, want %q", line, got, prefix)
	}
	return got
}

// envelope says MAIL and RCPT, which must be accepted.
func (p *peer) envelope(from string, to ...string) {
	p.t.Helper()
	p.do("MAIL FROM:<"+from+">", "250")
	for _, r := range to {
		p.do("RCPT TO:<"+r+">", "250")
	}
}

// data sends a text, dot-stuffed, and returns the answer.
func (p *peer) data(text string) string {
	p.t.Helper()
	p.do("DATA", "354")
	if strings.HasPrefix(text, ".") {
		text = "." + text
	}
	p.raw(strings.ReplaceAll(text, "\r\n.", "\r\n..") + ".\r\n")
	return p.reply()
}

// send sends a whole message and returns the answer to its dot.
func (p *peer) send(text string) string {
	p.t.Helper()
	p.envelope("ann@sender.example", "jo@alumni.example")
	return p.data(text)
}

const hello = "Subject: hello\r\n\r\nHello Jo.\r\n"

// certificate is a new one for mx.alumni.example.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	c, err := mailtest.Certificate("mx.alumni.example")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{c}}
}

// secure makes the peer speak TLS from here on.
func (p *peer) secure() {
	p.t.Helper()
	c := tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	p.Conn, p.r = c, bufio.NewReader(c)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func numbered(format string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

func tlsFunc(c *tls.Config) func() *tls.Config { return func() *tls.Config { return c } }
