package postfix

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/sender"
	"srsd/spf"
	"srsd/srs"
)

// The domains of these tests: alumni.example has aliases, box.example mailboxes.
const (
	srsDomain = "srs.alumni.example"
	clubSRS   = "srs.club.example"
)

const aliases = `
jo@alumni.example:    jo@remote.example
loc@alumni.example:   joe@box.example
mix@alumni.example:   joe@box.example, jo@remote.example
list@alumni.example:  jo@remote.example
owner-list@alumni.example: boss@remote.example
gone@alumni.example:  :fail: 551 5.1.6 gone
later@alumni.example: :defer: 450 4.2.1 100% later
drop@alumni.example:  :blackhole:
jo@club.example:      jo@remote.example
`

// today is 14 November 2023, day G3.
func today() time.Time { return time.Unix(1_700_000_000, 0) }

func rewriter(domain string) *srs.Rewriter {
	return &srs.Rewriter{Domain: domain, Keys: srs.Keys{srs.NewKey("k1", []byte("the secret of these tests"))}, Now: today}
}

// settings are those of a site with everything.
func settings(t testing.TB) Settings {
	t.Helper()
	file := filepath.Join(t.TempDir(), "aliases")
	if err := os.WriteFile(file, []byte(aliases), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := forward.Load(forward.Config{
		Domains: []string{"alumni.example", "club.example"}, SRSDomains: []string{srsDomain, clubSRS}, Files: []string{file},
		Postmaster: envelope.MustParse("root@remote.example"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return Settings{
		Hostname: "mx.alumni.example",
		Router: &forward.Router{
			Table: table,
			SRS:   map[string]forward.Rewriter{srsDomain: rewriter(srsDomain), clubSRS: rewriter(clubSRS)},
			SRSDomain: func(alias string) string {
				if alias == "club.example" {
					return clubSRS
				}
				return srsDomain
			},
			AllowFrom: []envelope.Address{envelope.MustParse("probe@remote.example")},
			Keeper:    keeper{},
		},
		LocalDomains: []string{"box.example"}, Exclude: []string{".relay.example", "esp.example"},
		SPF:       senders{},
		Sender:    sender.Policy{Actions: map[spf.Result]sender.Action{spf.Fail: sender.Reject, spf.TempError: sender.Defer}},
		MilterSPF: true,
	}
}

// A keeper keeps one sender: whoever is too long.
type keeper struct{}

const long = "a.local.part.of.almost.sixty-four.octets.that.fits.nowhere@sender.example"

func (keeper) Keep(_ context.Context, domain, sender string) (string, error) {
	if sender != long {
		return "", errors.New("the disk is full")
	}
	return rewriter(domain).Token([]byte("id"))
}

func (keeper) Recall(_ context.Context, address string) (string, error) {
	id, err := rewriter(domainOf(address)).ParseToken(address)
	if err != nil {
		return "", err
	}
	if string(id) != "id" {
		return "", errors.New("the disk is gone")
	}
	return long, nil
}

// senders is SPF by the sender's name: fail@… fails.
type senders struct{}

func (senders) Check(_ context.Context, ip netip.Addr, helo, from string) spf.Outcome {
	o := spf.Outcome{Result: spf.None, Identity: spf.MailFrom, Domain: domainOf(from)}
	if from == "" {
		o.Identity, o.Domain, from = spf.HELO, helo, helo
	}
	for _, r := range []spf.Result{spf.Fail, spf.Pass, spf.TempError, spf.SoftFail} {
		if strings.HasPrefix(from, string(r)) {
			o.Result = r
		}
	}
	if from == "postmaster@trusted.example" && ip == netip.MustParseAddr("192.0.2.77") {
		o.Result = spf.Pass
	}
	if o.Result == spf.Fail {
		o.Explanation = "see 100% of it at http://sender.example/"
	}
	return o
}

// serve runs a server at a door, and returns it with its address.
func serve(t testing.TB, s Settings, d Door) (*Server, string) {
	t.Helper()
	return serveWith(t, Config{Settings: s}, d)
}

func serveWith(t testing.TB, c Config, d Door) (*Server, string) {
	t.Helper()
	server := New(c)
	l, err := net.Listen("tcp", "127.0.47.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l, d) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error("shutdown:", err)
		}
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Error("serve:", err)
		}
	})
	return server, l.Addr().String()
}

// A client is the other end of a door.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &client{c, t, bufio.NewReader(c)}
}

func (c *client) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// line is the next line of an answer, "(closed)" where there is none.
func (c *client) line() string {
	s, err := c.r.ReadString('\n')
	if err != nil {
		return "(closed)"
	}
	return strings.TrimSuffix(s, "\n")
}

func (c *client) get(key string) string {
	c.t.Helper()
	c.write("get " + key + "\n")
	return c.line()
}

// netstring is the next netstring, "(closed)" where there is none.
func (c *client) netstring() string {
	text, err := readNetstring(c.r)
	if err != nil {
		return "(closed)"
	}
	return string(text)
}

func (c *client) ask(query string) string {
	c.t.Helper()
	c.write(fmt.Sprintf("%d:%s,", len(query), query))
	return c.netstring()
}

// rewritten is what an address becomes at an SRS domain.
func rewritten(t testing.TB, domain, address string) string {
	t.Helper()
	s, err := rewriter(domain).Forward(address)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
