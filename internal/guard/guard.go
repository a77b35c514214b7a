// Package guard stands between an SMTP client and go-smtp. It is a net.Conn
// that hands over one well-formed command at a time, keeps what is not SMTP
// out, reads the message text itself, and does the TLS handshakes. It knows
// the phases of a session (banner, commands, TLS, message text) and what may
// be said in each; it knows nothing of mailboxes, policy or delivery.
//
// # How to use it
//
// Wrap each accepted connection with [New] and let go-smtp serve it:
//
//	server.TLSConfig = nil          // the guard speaks TLS, go-smtp sees clear text
//	server.MaxLineLength = 0        // the guard limits lines
//	server.ReadTimeout = 0          // the guard has the deadlines; go-smtp's are ignored
//	server.WriteTimeout = 0
//	server.MaxMessageBytes = …      // advertised as SIZE and compared with SIZE=; the session counts the text
//	server.MaxRecipients = …
//	server.EnableSMTPUTF8 = true    // or false: 504 then
//	server.EnableDSN = true         // or false: 504 then
//	server.AllowInsecureAuth = false
//	all other Enable… = false
//
// The session gets its connection with smtp.Conn.Conn and a type assertion to
// *[Conn], and then:
//
//   - Session.Mail and Session.Rcpt ask [Conn.Path] for the parsed address;
//     go-smtp's string has lost its quoting.
//   - Session.Data ignores its reader and reads [Conn.Data] up to io.EOF. Every
//     other error is an envelope.Reply, and the message must not be accepted:
//     whatever the session returns then, the guard answers with that reply.
//   - smtp.Conn.Hostname is what the last EHLO or HELO said, and [Conn.TLS] is
//     the state of the connection: ask for both at MAIL, because they change
//     with STARTTLS while the session stays.
//   - [Conn.End] ends the session with a reply, at once where it is idle.
package guard

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"srsd/envelope"
)

// The limits that no configuration changes, in octets.
const (
	maxLine     = 2000     // of a command; RFC 5321, section 4.5.3.1.4, asks for 512, extensions add to it
	maxDataLine = 1 << 20  // of a message line; RFC 5321, section 4.5.3.1.6, allows 1000, real mail has more
	maxJunk     = 1 << 20  // of one command line that is too long, before the connection is closed
	maxDrain    = 64 << 20 // of a message text that the session did not want to read
	maxHelo     = 255      // of the argument of EHLO and HELO
	maxDeferred = 1000     // replies 4yz without a message
	smallBuffer = 2048     // read at once while little comes: holds one command line
	bigBuffer   = 32 << 10 // read at once while much comes
)

// refusedIdle takes the place of Idle in the rest of a message that is refused.
const refusedIdle = 10 * time.Second

// postmasterDomain stands in for the domain that "RCPT TO:<postmaster>" does
// not have, in the string that go-smtp gives to Session.Rcpt. Path returns the
// bare postmaster.
const postmasterDomain = "postmaster.invalid"

// A Config says how connections are guarded. It is shared by any number of
// them and must not be copied or changed while in use. The zero Config works.
type Config struct {
	Hostname string // our name, in replies 421 and in the reply to EHLO; "" leaves it out

	TLS      func() *tls.Config // asked at every handshake; nil, or returning nil: STARTTLS is not offered
	Implicit bool               // the handshake comes first (RFC 8314, section 3.3)

	Idle    time.Duration // for one command line, or for one octet of a message text; 0: 5 min (RFC 5321, section 4.5.3.2.7)
	Session time.Duration // for all of a session; 0: 1 h
	MinRate int           // octets a second, on average over a message text from its first Idle on; 0: 512

	MaxErrors   int // replies 5yz without a message accepted; 0: 20
	MaxCommands int // harmless commands (NOOP, RSET, EHLO, …) without a message accepted; 0: 100

	GreetDelay time.Duration // before the banner; who speaks in it is turned away; 0: not watched

	Logger *slog.Logger // nil: nothing is logged

	buffers sync.Pool // of *[bigBuffer]byte
}

func (c *Config) idle() time.Duration    { return or(c.Idle, 5*time.Minute) }
func (c *Config) session() time.Duration { return or(c.Session, time.Hour) }
func (c *Config) minRate() int           { return or(c.MinRate, 512) }
func (c *Config) maxErrors() int         { return or(c.MaxErrors, 20) }
func (c *Config) maxCommands() int       { return or(c.MaxCommands, 100) }

func (c *Config) tls() *tls.Config {
	if c.TLS == nil {
		return nil
	}
	return c.TLS()
}

func or[T ~int | ~int64](v, standard T) T {
	if v == 0 {
		return standard
	}
	return v
}

// A phase is what the next octets of the client are.
type phase int

const (
	phaseBanner  phase = iota // none: the server has not greeted
	phaseCommand              // a command
	phaseText                 // message text: 354 was said
	phaseAnswer               // none: the text has ended, or was cut off, and the server has not answered
)

// A Conn is a guarded connection. One goroutine, go-smtp's, reads and writes;
// End, Close and the address methods may be called from any.
type Conn struct {
	cfg   *Config
	base  net.Conn // what New was given
	start time.Time

	mu      sync.Mutex     // for the fields up to the empty line
	conn    net.Conn       // replaced by its TLS connection; written by the session's goroutine only
	waiting bool           // for a command: End may interrupt
	ending  envelope.Reply // asked for by End

	wmu  sync.Mutex // for out and its way to the client
	out  []byte     // replies not yet sent
	dead bool       // the last reply was given: nothing more is said

	small    [smallBuffer]byte
	big      *[bigBuffer]byte // where much comes, else nil
	in       []byte           // one of the two
	r, w     int              // in[r:w] is what came and was not used
	full     bool             // the last read filled all the room there was
	err      error            // sticky: a connection that failed once gives no commands any more
	handed   []byte           // what go-smtp reads next
	partial  []byte           // of a line that go-smtp writes
	overlong int              // octets dropped of a command line that is too long
	tainted  bool             // a bare LF came: what follows it up to CRLF is no command

	phase phase
	tls   *tls.Conn

	cmd       verb // handed to go-smtp and not yet answered
	known     bool // an SMTP command was seen
	greeted   bool // EHLO or HELO was accepted, since STARTTLS
	mail      bool // a reverse-path was accepted
	utf8      bool // with SMTPUTF8
	wantsUTF8 bool // the MAIL under way has SMTPUTF8
	rcpts     int  // recipients accepted
	path      envelope.Address

	errors, junk, deferred int // since the last accepted message

	text text
}

// New guards a connection. It neither reads nor writes before go-smtp does.
func New(conn net.Conn, cfg *Config) *Conn {
	c := &Conn{cfg: cfg, base: conn, conn: conn, start: time.Now()}
	c.in = c.small[:]
	return c
}

// TLS is the state of the TLS connection, nil in clear.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	state := c.tls.ConnectionState()
	return &state
}

// Path is the path of the MAIL or RCPT that the session is asked about: the
// null reverse-path, a bare postmaster, or an address with a domain. A source
// route has been removed (RFC 5321, appendix C).
func (c *Conn) Path() envelope.Address { return c.path }

// Data is the message text, dot-unstuffed, otherwise octet for octet as it
// came: every line ends in CRLF, and it has no bare CR, bare LF or NUL. It
// may be read in Session.Data only. It ends in io.EOF only where the client
// ended it; every other error is an envelope.Reply: 421 where the client
// was cut off, 5yz where the text may not pass.
//
// What the session leaves unread, the guard reads and throws away.
func (c *Conn) Data() io.Reader { return textReader{c} }

// End ends the session with r, which should be a 421, before the next command:
// at once where the session is waiting for one, after the answer to the
// message where it is in one. The first End counts.
func (c *Conn) End(r envelope.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending.IsZero() {
		c.ending = r
	}
	if c.waiting {
		c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// Close sends what was said and closes the connection. A client that does not
// read delays it by a tenth of a second at most.
func (c *Conn) Close() error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	conn.SetWriteDeadline(time.Now().Add(time.Second / 10))
	c.wmu.Lock()
	if len(c.out) > 0 {
		conn.Write(c.out)
	}
	c.out, c.dead = nil, true
	c.wmu.Unlock()
	return conn.Close()
}

// LocalAddr is the local address of the guarded connection.
func (c *Conn) LocalAddr() net.Addr { return c.base.LocalAddr() }

// RemoteAddr is the client's address as the guarded connection says it.
func (c *Conn) RemoteAddr() net.Addr { return c.base.RemoteAddr() }

// SetDeadline does nothing: the guard has the deadlines.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: the guard has the deadlines.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: the guard has the deadlines.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }
