package receive_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"srsd/internal/receive"
)

var fourKB = "Subject: hello\r\n\r\n" + strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz .,;:\r\n", 95)

// BenchmarkMessage is a message of 4 KB in an open session, pipelined as RFC
// 2920 allows, to a deliverer that throws it away; beside it, in the same run,
// what go-smtp alone takes for it, without guard, checks and trace.
func BenchmarkMessage(b *testing.B) {
	b.Run("front", func(b *testing.B) { messages(b, front(b)) })
	b.Run("go-smtp", func(b *testing.B) { messages(b, bareServer(b)) })
}

// BenchmarkSession is a session with one such message.
func BenchmarkSession(b *testing.B) {
	b.Run("front", func(b *testing.B) { sessions(b, front(b)) })
	b.Run("go-smtp", func(b *testing.B) { sessions(b, bareServer(b)) })
}

func front(b *testing.B) string {
	bed := start(b, func(c *receive.Config) { c.Logger = nil })
	bed.discard = true
	return bed.addr
}

func messages(b *testing.B, addr string) {
	p := dial(b, addr, "")
	p.want("220")
	p.do("EHLO client.example", "250")
	b.ReportAllocs()
	for b.Loop() {
		p.message()
	}
}

func sessions(b *testing.B, addr string) {
	for b.Loop() {
		p := dial(b, addr, "")
		p.want("220")
		p.do("EHLO client.example", "250")
		p.message()
		p.do("QUIT", "221")
		p.Close()
	}
}

func (p *peer) message() {
	p.raw("MAIL FROM:<ann@sender.example>\r\nRCPT TO:<jo@alumni.example>\r\nDATA\r\n")
	p.want("250")
	p.want("250")
	p.want("354")
	p.raw(fourKB + ".\r\n")
	p.want("250")
}

// bareServer is go-smtp with a session that takes everything.
func bareServer(b *testing.B) string {
	l, err := net.Listen("tcp", "127.77.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return bareSession{}, nil }))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	b.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			b.Error(err)
		}
	})
	return l.Addr().String()
}

type bareSession struct{}

func (bareSession) Mail(string, *smtp.MailOptions) error { return nil }
func (bareSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (bareSession) Reset()                               {}
func (bareSession) Logout() error                        { return nil }
func (bareSession) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
