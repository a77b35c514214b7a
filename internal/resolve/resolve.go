// Package resolve asks the DNS for what mail needs: TXT, MX, A, AAAA and PTR.
//
// It is a stub resolver: it asks recursive servers, follows aliases where they
// do not, keeps answers for as long as they may be kept, and asks each question
// once however many callers wait for it. What does not exist is an answer; only
// trouble is an error. No answer is believed that was not asked for, and a
// hostile one costs only itself.
package resolve

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"srsd/spf"
)

// A Config says whom to ask and how. The zero Config asks the system's servers.
type Config struct {
	// Servers are recursive servers, "host:port" or "host", asked in turn
	// until one answers; none: those of /etc/resolv.conf, read once, and
	// 127.0.0.1 where there is no such file.
	Servers []string
	// Timeout is the patience for one try at one server; 0: 5 seconds.
	Timeout time.Duration
	// Retries is how many more rounds are made over the servers that kept
	// silent; 0: one more, negative: none.
	Retries int
	// CacheSize limits what the cache holds, in octets, roughly; 0: 8 MiB,
	// negative: nothing is cached.
	CacheSize int
	// Logger hears of servers in trouble, at level debug; nil: nobody does.
	Logger *slog.Logger
	// Now is the clock for the age of cached answers; nil: time.Now.
	Now func() time.Time
	// Dial opens a connection to a server; nil: a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	defaultTimeout   = 5 * time.Second
	defaultCacheSize = 8 << 20
	resolvConf       = "/etc/resolv.conf"
)

// A Resolver asks and remembers. It is safe for concurrent use and satisfies
// spf.Resolver.
//
// Names may be in any case, with or without a trailing dot, with any octet as
// \DDD. Names in answers have no trailing dot, except the root, which is ".";
// octets that are not printable, and those that mean something in a zone file,
// come as \DDD. A name that cannot be asked for, because it or a label of it is
// too long or empty, does not exist.
type Resolver struct {
	servers []server
	timeout time.Duration
	rounds  int
	log     *slog.Logger
	dial    func(ctx context.Context, network, address string) (net.Conn, error)

	first   atomic.Uint32 // the server to ask first: the last one that helped out
	cache   cache
	flights flights
}

var _ spf.Resolver = (*Resolver)(nil)

// A server is where to ask.
type server struct {
	addr    string
	trusted bool // its AD bit means something: nobody is in between
}

// New returns a resolver. It opens nothing and needs no closing.
func New(c Config) *Resolver {
	r := &Resolver{timeout: c.Timeout, rounds: c.Retries + 1, log: c.Logger, dial: c.Dial}
	for _, s := range c.Servers {
		r.servers = append(r.servers, newServer(s))
	}
	if len(r.servers) == 0 {
		r.servers = systemServers(resolvConf)
	}
	if r.timeout <= 0 {
		r.timeout = defaultTimeout
	}
	switch {
	case c.Retries == 0:
		r.rounds = 2
	case c.Retries < 0:
		r.rounds = 1
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.dial == nil {
		r.dial = new(net.Dialer).DialContext
	}
	r.cache = newCache(c.CacheSize, c.Now)
	return r
}

func newServer(s string) server {
	host, _, err := net.SplitHostPort(s)
	if err != nil {
		host = strings.Trim(s, "[]")
		s = net.JoinHostPort(host, "53")
	}
	ip, err := netip.ParseAddr(host)
	return server{addr: s, trusted: err == nil && ip.IsLoopback() || host == "localhost"}
}

func systemServers(file string) []server {
	var servers []server
	if conf, err := dns.ClientConfigFromFile(file); err == nil {
		for _, s := range conf.Servers {
			servers = append(servers, newServer(net.JoinHostPort(s, conf.Port)))
		}
	}
	if len(servers) == 0 {
		servers = []server{newServer("127.0.0.1")}
	}
	return servers
}

// TXT returns the TXT records of a name, each with its character-strings joined
// (RFC 7208, section 3.3), octet for octet.
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, spf.Meta, error) {
	a, err := r.lookup(ctx, name, dns.TypeTXT)
	return slices.Clone(a.strings), a.meta, err
}

// Addr returns the A records of a name, or the AAAA records if v6. An
// IPv4-mapped address in an AAAA record comes as the IPv4 address that it
// stands for, so that it gets around no list of networks.
func (r *Resolver) Addr(ctx context.Context, name string, v6 bool) ([]netip.Addr, spf.Meta, error) {
	qtype := dns.TypeA
	if v6 {
		qtype = dns.TypeAAAA
	}
	a, err := r.lookup(ctx, name, qtype)
	return slices.Clone(a.addrs), a.meta, err
}

// MX returns the MX records of a name as they are listed; the host of a null MX
// (RFC 7505) is ".".
func (r *Resolver) MX(ctx context.Context, name string) ([]spf.MX, spf.Meta, error) {
	a, err := r.lookup(ctx, name, dns.TypeMX)
	return slices.Clone(a.mx), a.meta, err
}

// PTR returns the names of an address.
func (r *Resolver) PTR(ctx context.Context, ip netip.Addr) ([]string, spf.Meta, error) {
	name, err := dns.ReverseAddr(ip.Unmap().WithZone("").String())
	if err != nil {
		return nil, spf.Meta{NXDomain: true}, nil
	}
	a, err := r.lookup(ctx, name, dns.TypePTR)
	return slices.Clone(a.strings), a.meta, err
}
