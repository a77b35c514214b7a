package deliver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/spf"
	"srsd/store"
)

// A server is a mail server on the other end of a net.Pipe, so that it works in
// a bubble of testing/synctest too.
type server struct {
	mu       sync.Mutex
	extend   []string                       // its extensions; nil: PIPELINING, 8BITMIME, SIZE and DSN
	answer   func(stage, arg string) string // "" is consent, "drop" hangs up, "hang" says nothing any more
	wait     map[string]time.Duration       // before a stage is answered
	refuse   error                          // of connections
	dials    int
	open     int
	peak     int
	commands []string
	messages []received
}

type received struct {
	from string
	to   []string
	text string
	at   time.Time
}

func (s *server) dial() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	if s.refuse != nil {
		return nil, s.refuse
	}
	s.open++
	s.peak = max(s.peak, s.open)
	near, far := net.Pipe()
	go s.serve(far)
	return near, nil
}

// set changes the server while it runs.
func (s *server) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

func (s *server) got() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.messages...)
}

func (s *server) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

func (s *server) dialled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

var errDrop = errors.New("drop")

// say answers a stage; consent is what it says unless told otherwise.
func (s *server) say(c net.Conn, stage, arg, consent string, taken ...received) (ok bool, err error) {
	s.mu.Lock()
	wait := s.wait[stage]
	reply := ""
	if s.answer != nil {
		reply = s.answer(stage, arg)
	}
	s.mu.Unlock()
	if wait > 0 {
		time.Sleep(wait)
	}
	switch reply {
	case "":
		reply = consent
	case "drop":
		return false, errDrop
	case "hang":
		io.Copy(io.Discard, c)
		return false, errDrop
	}
	for _, m := range taken {
		if reply[0] == '2' {
			m.at = time.Now()
			s.set(func() { s.messages = append(s.messages, m) })
		}
	}
	if _, err = io.WriteString(c, reply+"\r\n"); strings.HasPrefix(reply, "421") {
		err = errDrop
	}
	return reply[0] == '2' || reply[0] == '3', err
}

func (s *server) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	}()
	r := bufio.NewReaderSize(c, 1<<17)
	if ok, err := s.say(c, "banner", "", "220 mx.target.example ESMTP"); !ok || err != nil {
		return
	}
	var now received
	mail := false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		s.mu.Lock()
		s.commands = append(s.commands, line)
		extend := s.extend
		s.mu.Unlock()
		if extend == nil {
			extend = []string{"PIPELINING", "8BITMIME", "SIZE 1000000", "DSN"}
		}
		verb, _, _ := strings.Cut(line, " ")
		ok := false
		switch verb {
		case "EHLO":
			_, err = s.say(c, "ehlo", line, strings.Join(append([]string{"250-mx.target.example"}, extend...), "\r\n250-")+"\r\n250 HELP")
		case "HELO", "RSET", "NOOP":
			now = received{}
			_, err = s.say(c, strings.ToLower(verb), line, "250 ok")
		case "MAIL":
			if ok, err = s.say(c, "mail", line, "250 2.1.0 ok"); ok {
				now, mail = received{from: between(line)}, true
			}
		case "RCPT":
			consent := "250 2.1.5 ok"
			if !mail {
				consent = "503 5.5.1 no MAIL"
			}
			if ok, err = s.say(c, "rcpt", between(line), consent); ok {
				now.to = append(now.to, between(line))
			}
		case "DATA":
			consent := "354 go on"
			if len(now.to) == 0 {
				consent = "503 5.5.1 no recipients"
			}
			if ok, err = s.say(c, "data", "", consent); ok {
				err = s.data(c, r, now)
				now = received{}
			}
		case "QUIT":
			return
		default:
			_, err = io.WriteString(c, "500 5.5.2 what?\r\n")
		}
		if err != nil {
			return
		}
	}
}

func (s *server) data(c net.Conn, r *bufio.Reader, m received) error {
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if line == ".\r\n" {
			break
		}
		text.WriteString(strings.TrimPrefix(line, "."))
	}
	m.text = text.String()
	_, err := s.say(c, "dot", m.to[0], "250 2.0.0 taken", m)
	return err
}

func between(line string) string {
	_, line, _ = strings.Cut(line, "<")
	line, _, _ = strings.Cut(line, ">")
	return line
}

// names is a DNS from a map; a name that is missing does not exist, and an error
// is trouble.
type names map[string]any

func (n names) MX(_ context.Context, name string) ([]spf.MX, spf.Meta, error) {
	switch x := n["MX "+name].(type) {
	case error:
		return nil, spf.Meta{}, x
	case []spf.MX:
		return x, spf.Meta{}, nil
	}
	return nil, spf.Meta{NXDomain: n["A "+name] == nil && n["AAAA "+name] == nil && n["exists "+name] == nil}, nil
}

func (n names) Addr(_ context.Context, name string, v6 bool) (out []netip.Addr, _ spf.Meta, err error) {
	kind := "A "
	if v6 {
		kind = "AAAA "
	}
	switch x := n[kind+name].(type) {
	case error:
		return nil, spf.Meta{}, x
	case string:
		for _, s := range strings.Fields(x) {
			out = append(out, netip.MustParseAddr(s))
		}
	}
	return out, spf.Meta{}, nil
}

// A world is a Deliverer with a queue, a DNS and mail servers by address. The
// domains target.example and other.example are there.
type world struct {
	*Deliverer
	queue   *memory
	dns     names
	servers map[string]*server
	told    []told
	mu      sync.Mutex
}

type told struct {
	kind  Kind
	about []Failure
	id    string
}

func newWorld(t testing.TB, change func(*Config)) *world {
	w := &world{dns: names{
		"MX target.example":   []spf.MX{{Host: "mx.target.example", Pref: 10}},
		"A mx.target.example": "192.88.99.10",
		"MX other.example":    []spf.MX{{Host: "mx.other.example", Pref: 10}},
		"A mx.other.example":  "192.88.99.11",
		"MX sender.example":   []spf.MX{{Host: "mx.sender.example", Pref: 10}},
		"A mx.sender.example": "192.88.99.20",
	}, servers: map[string]*server{"192.88.99.10": {}, "192.88.99.11": {}, "192.88.99.20": {}}}
	w.queue = newMemory(time.Now)
	c := Config{Hostname: "mx.alumni.example", Queue: w.queue, Resolver: w.dns, Reporter: w}
	c.Dial = func(_ context.Context, _, addr string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(addr)
		if s := w.servers[host]; s != nil {
			return s.dial()
		}
		return nil, errors.New("nobody there: " + addr)
	}
	if change != nil {
		change(&c)
	}
	w.Deliverer = New(c)
	t.Cleanup(func() { w.end(); w.pool.flush(true) })
	return w
}

func (w *world) target() *server { return w.servers["192.88.99.10"] }
func (w *world) other() *server  { return w.servers["192.88.99.11"] }
func (w *world) sender() *server { return w.servers["192.88.99.20"] }

// Report tells whoever passed SPF.
func (w *world) Report(_ context.Context, m envelope.Message, kind Kind, about []Failure, body envelope.Body) (*store.Spawn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.SPF != "pass" || m.ReversePath.IsNull() {
		return nil, nil
	}
	id := fmt.Sprintf("report%d", len(w.told))
	w.told = append(w.told, told{kind, about, id})
	return &store.Spawn{Body: bytes.NewReader([]byte("Subject: " + string(kind) + "\r\n\r\n")), Entry: store.Entry{
		Message: envelope.Message{ID: id, Received: time.Now()},
		Deliveries: []store.Delivery{{Entry: id, Domain: "sender.example", State: store.Queued, Due: time.Now(),
			Routes: []envelope.Route{{Target: m.ReversePath}}}},
	}}, nil
}

func (w *world) reports() []told {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]told(nil), w.told...)
}

// run runs the queue until stop is called, which waits for its end.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	return func() { cancel(); <-done }
}

// message is one from ann@sender.example for targets, each with the alias of
// the same local part at alumni.example.
func message(targets ...string) envelope.Message {
	m := envelope.Message{ID: "q1", Received: time.Now(), ReversePath: envelope.MustParse("ann@sender.example"), SPF: "pass"}
	for _, s := range targets {
		t := envelope.MustParse(s)
		alias, _ := envelope.NewAddress(strings.TrimSuffix(t.Local(), ".private"), "alumni.example")
		m.Routes = append(m.Routes, envelope.Route{Alias: alias, Target: t, ReversePath: envelope.MustParse("SRS0=h=t=sender.example=ann@srs.alumni.example")})
	}
	return m
}

const text = "Subject: x\r\n\r\n.dot\r\nbody\r\n"

func (w *world) deliver(m envelope.Message) envelope.Reply {
	return w.Deliver(context.Background(), m, bytes.NewReader([]byte(text)))
}
