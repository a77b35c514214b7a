package catalogue_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// An arrival is a message that a sink has said 250 to.
type arrival struct {
	mail  string   // the MAIL command, as it came
	rcpts []string // the RCPT commands that were accepted
	data  []byte   // dots unstuffed
	at    time.Time
	tls   bool
}

// path is the text between the first angle brackets of a command.
func path(command string) string {
	_, command, _ = strings.Cut(command, "<")
	return command[:max(0, strings.LastIndexByte(command, '>'))]
}

// A sink is a mail server that does what a function says.
type sink struct {
	listener net.Listener
	running  sync.WaitGroup
	tls      *tls.Config // STARTTLS is offered where it is set
	auth     bool        // AUTH PLAIN is offered
	liberal  bool        // any of the line ends that some server takes ends a text

	mu      sync.Mutex
	answer  func(stage, line string) string // a reply, "hang", "drop", or "" for a friendly one; stages: banner, starttls, auth, mail, rcpt, data, dot
	conns   map[net.Conn]bool
	closed  bool
	dialled int
	peak    int // connections at a time
	lines   []string
	clear   []string // what came without TLS
	got     []arrival
}

// newSink starts a sink. prepare sets what may not change later.
func newSink(t *testing.T, addr string, prepare ...func(*sink)) *sink {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{listener: l, conns: map[net.Conn]bool{}}
	for _, p := range prepare {
		p(s)
	}
	s.running.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

func (s *sink) close() {
	s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *sink) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			c.Close()
		}
		s.conns[c] = true
		s.dialled++
		s.peak = max(s.peak, len(s.conns))
		s.mu.Unlock()
		s.running.Go(func() {
			(&visit{sink: s, conn: c, r: bufio.NewReaderSize(c, 64<<10)}).run()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			c.Close()
		})
	}
}

// behave changes what the sink answers; nil makes it friendly.
func (s *sink) behave(answer func(stage, line string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// always answers one stage so.
func always(stage, reply string) func(string, string) string {
	return func(at, _ string) string {
		if at == stage {
			return reply
		}
		return ""
	}
}

func (s *sink) arrivals() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]arrival(nil), s.got...)
}

// count is how many messages have come, connections were made, and were open
// at a time.
func (s *sink) count() (messages, dialled, peak int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got), s.dialled, s.peak
}

// wait waits for n messages.
func (s *sink) wait(t *testing.T, n int) []arrival {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages at %s", n, s.listener.Addr()), func() bool { got, _, _ := s.count(); return got >= n })
	return s.arrivals()
}

// commands are the command lines so far; those in clear only where asked.
func (s *sink) commands(inClear bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if inClear {
		return append([]string(nil), s.clear...)
	}
	return append([]string(nil), s.lines...)
}

// A visit is one connection to a sink.
type visit struct {
	sink *sink
	conn net.Conn
	r    *bufio.Reader
	tls  bool
	now  arrival
}

// do answers, and says whether the reply was a good one; ok is false when the
// connection is to end.
func (v *visit) do(stage, line, friendly string) (good, ok bool) {
	v.sink.mu.Lock()
	answer, reply := v.sink.answer, ""
	v.sink.mu.Unlock()
	if answer != nil {
		reply = answer(stage, line)
	}
	switch reply {
	case "hang":
		io.Copy(io.Discard, v.r)
		return false, false
	case "drop":
		return false, false
	case "":
		reply = friendly
	}
	if stage == "dot" && reply[0] == '2' { // before the reply: whoever has heard it finds the message here
		v.now.at, v.now.tls = time.Now(), v.tls
		v.sink.mu.Lock()
		v.sink.got = append(v.sink.got, v.now)
		v.sink.mu.Unlock()
	}
	_, err := io.WriteString(v.conn, reply+"\r\n")
	return reply[0] < '4', err == nil
}

func (v *visit) run() {
	_, ok := v.do("banner", "", "220 mx ESMTP")
	for ok {
		line, err := v.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		v.sink.mu.Lock()
		v.sink.lines = append(v.sink.lines, line)
		if !v.tls {
			v.sink.clear = append(v.sink.clear, line)
		}
		v.sink.mu.Unlock()
		_, ok = v.command(line)
	}
}

func (v *visit) command(line string) (good, ok bool) {
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	switch verb {
	case "EHLO":
		hello := "250-mx\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n"
		if v.sink.tls != nil && !v.tls {
			hello += "250-STARTTLS\r\n"
		}
		if v.sink.auth {
			hello += "250-AUTH PLAIN\r\n"
		}
		return v.do("ehlo", line, hello+"250 ENHANCEDSTATUSCODES")
	case "STARTTLS":
		if good, ok := v.do("starttls", line, "220 2.0.0 go ahead"); !good || !ok {
			return good, ok
		}
		c := tls.Server(v.conn, v.sink.tls)
		if c.Handshake() != nil {
			return false, false
		}
		v.conn, v.r, v.tls = c, bufio.NewReader(c), true
		return true, true
	case "AUTH":
		return v.do("auth", line, "235 2.7.0 welcome")
	case "MAIL":
		v.now = arrival{mail: line}
		return v.do("mail", line, "250 2.1.0 ok")
	case "RCPT":
		good, ok := v.do("rcpt", line, "250 2.1.5 ok")
		if good {
			v.now.rcpts = append(v.now.rcpts, line)
		}
		return good, ok
	case "DATA":
		return v.data(line)
	case "RSET":
		v.now = arrival{}
		return v.do("rset", line, "250 2.0.0 ok")
	case "QUIT":
		v.do("quit", line, "221 2.0.0 bye")
		return true, false
	}
	return v.do("unknown", line, "500 5.5.2 what?")
}

func (v *visit) data(line string) (good, ok bool) {
	if len(v.now.rcpts) == 0 {
		return v.do("rset", line, "503 5.5.1 RCPT first")
	}
	if good, ok := v.do("data", line, "354 go on"); !good || !ok {
		return good, ok
	}
	end := []string{"\r\n.\r\n"}
	if v.sink.liberal {
		end = liberalEnds
	}
	var err error
	if v.now.data, err = readText(v.r, end); err != nil {
		return false, false
	}
	return v.do("dot", line, "250 2.0.0 taken")
}

// liberalEnds are what one server or another has taken for the end of a text.
var liberalEnds = []string{"\r\n.\r\n", "\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r.\n", "\n.\r"}

// readText reads up to one of the ends, and takes the dots away that were
// stuffed.
func readText(r *bufio.Reader, ends []string) ([]byte, error) {
	text := []byte("\r\n")
	for {
		b, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		text = append(text, b)
		if b != '\n' && b != '\r' {
			continue
		}
		for _, end := range ends {
			if bytes.HasSuffix(text, []byte(end)) {
				text = append(text[:len(text)-len(end)], "\r\n"...)
				return bytes.ReplaceAll(text, []byte("\r\n.."), []byte("\r\n."))[2:], nil
			}
		}
	}
}
