package receive_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/mail"
	"regexp"
	"strings"
	"testing"
	"time"

	"srsd/internal/receive"
)

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	close(p.done)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

var replyLine = regexp.MustCompile(`^[2345][0-9][0-9][- ][\t -~]*$`)

// FuzzSession: whatever a client says, every line it hears is a reply,
// nothing panics, what is delivered goes to a target of ours, begins with our
// trace, and its header can be read.
func FuzzSession(f *testing.F) {
	const envelope = "EHLO client.example\r\nMAIL FROM:<ann@sender.example>\r\nRCPT TO:<jo@alumni.example>\r\nDATA\r\n"
	for _, s := range []string{
		"", "QUIT\r\n", "HELO x\r\nNOOP\r\nRSET\r\nVRFY a\r\n", envelope + hello + ".\r\nQUIT\r\n", envelope + "x\r\r\n.\r\n",
		envelope + "Authentication-Results: mx.alumni.example; spf=pass\r\n" + hello + ".\r\nMAIL FROM:<>\r\n",
		"EHLO [127.0.0.1]\r\nMAIL FROM:<\"a b\"@sender.example> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x\r\nRCPT TO:<jö@alumni.example> NOTIFY=DELAY ORCPT=utf-8;j\\x{F6}@x\r\nDATA\r\n\r\n\xff\r\n.\r\n",
		"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nRCPT TO:<SRS0=good=AA=x=y@srs.alumni.example>\r\nDATA\r\n.\r\n", "STARTTLS\r\n", "GET / HTTP/1.0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	b := &bed{backend: &backend{}, log: &lockedBuffer{}}
	l := pipes{make(chan net.Conn), make(chan struct{})}
	b.server = receive.New(receive.Config{
		Deliverer: b.backend,
		Policy:    receive.Policy{Hostname: "mx.alumni.example", Router: b.backend, SPF: b.backend, MaxMessage: 1 << 20},
	})
	served := make(chan error, 1)
	go func() { served <- b.server.Serve(l) }()
	f.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		b.server.Shutdown(ctx)
		<-served
	})
	f.Fuzz(func(t *testing.T, input []byte) {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		ours.SetDeadline(time.Now().Add(patience))
		go func() {
			ours.Write(input)
			if !bytes.HasSuffix(input, []byte("\r\n.\r\nQUIT\r\n")) {
				ours.Write([]byte("\r\n.\r\nQUIT\r\n"))
			}
		}()
		heard, err := io.ReadAll(ours)
		ours.Close()
		if err != nil && !strings.Contains(err.Error(), "closed pipe") {
			t.Fatalf("%q: %v after %q", input, err, heard)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(heard), "\r\n"), "\r\n") {
			if !replyLine.MatchString(line) {
				t.Fatalf("%q: not a reply: %q", input, line)
			}
		}
		checkDelivered(t, b.backend)
	})
}

// checkDelivered looks at what came through, and forgets it.
func checkDelivered(t *testing.T, b *backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.messages {
		if !strings.HasPrefix(m.text, "Authentication-Results: mx.alumni.example") || m.Size != int64(len(m.text)) {
			t.Fatalf("not our trace: %q", m.text)
		}
		end := strings.Index(m.text, "\r\nReceived: ")
		trace := m.text[:end+2+strings.Index(m.text[end+2:], "\r\n\tby ")] + "\r\n\r\n"
		if _, err := mail.ReadMessage(strings.NewReader(trace)); err != nil {
			t.Fatalf("%v: %q", err, trace)
		}
		for _, r := range m.Routes {
			if d := r.Target.Domain(); d != "target.example" && d != "sender.example" {
				t.Fatalf("goes to %s", r.Target)
			}
		}
	}
	b.messages = nil
}
