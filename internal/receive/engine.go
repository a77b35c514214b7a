package receive

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"

	"srsd/internal/guard"
)

// An engine is a go-smtp server, which cannot change what it announces: each
// policy has its own. It is the listener that its own server accepts from. It
// lives as long as its sessions do, so it does not hold on to the policy.
type engine struct {
	limits  limits
	clear   *guard.Config
	implied *guard.Config // TLS comes first
	conns   chan net.Conn
	done    chan struct{}
	once    sync.Once
}

func newEngine(s *Server, p *Policy) *engine {
	e := &engine{
		limits: p.limits(), conns: make(chan net.Conn), done: make(chan struct{}),
		clear: s.guardConfig(p, false), implied: s.guardConfig(p, true),
	}
	server := smtp.NewServer(smtp.BackendFunc(s.newSession))
	server.Domain = p.Hostname
	server.EnableSMTPUTF8 = true
	server.EnableDSN = true
	server.MaxMessageBytes = p.MaxMessage
	server.MaxRecipients = p.MaxRecipients
	server.MaxLineLength = 0 // the guard bounds lines, and has the deadlines
	server.ErrorLog = errorLog{s.log}
	go server.Serve(e)
	return e
}

func (s *Server) guardConfig(p *Policy, implicit bool) *guard.Config {
	return &guard.Config{
		Hostname: p.Hostname, TLS: s.tls, Implicit: implicit,
		Idle: p.IdleTimeout, Session: p.SessionTimeout, GreetDelay: p.GreetDelay,
		MaxErrors: p.MaxErrors, MaxCommands: p.MaxCommands, Logger: s.calm,
	}
}

func (e *engine) guard(raw net.Conn, implicit bool) *guard.Conn {
	if implicit {
		return guard.New(raw, e.implied)
	}
	return guard.New(raw, e.clear)
}

// serve gives c to go-smtp; it says no where the engine was replaced meanwhile.
func (e *engine) serve(c *conn) bool {
	select {
	case e.conns <- c:
		return true
	case <-e.done:
		return false
	}
}

// close ends the engine. The sessions that it has go on.
func (e *engine) close() { e.once.Do(func() { close(e.done) }) }

// Accept is what go-smtp waits at.
func (e *engine) Accept() (net.Conn, error) {
	select {
	case c := <-e.conns:
		return c, nil
	case <-e.done:
		return nil, net.ErrClosed
	}
}

// Close does nothing: nobody listens.
func (e *engine) Close() error { return nil }

// Addr is no address.
func (e *engine) Addr() net.Addr { return &net.TCPAddr{} }

// errorLog takes go-smtp's complaints: panics, and connections that break.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Printf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.HasPrefix(text, "panic") {
		l.log.Error("panic", "error", text)
		return
	}
	l.log.Debug("connection ended", "error", text)
}

func (l errorLog) Println(v ...any) { l.log.Debug("connection ended", "error", fmt.Sprint(v...)) }
