package relay

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/deliver"
	"srsd/internal/receive"
	"srsd/internal/resolve"
	"srsd/internal/sender"
	"srsd/spf"
	"srsd/srs"
)

// secretsFile is the file of the keys: the one that the configuration names, or
// the one that srsd keeps in its data directory.
func (c *Config) secretsFile() string {
	if c.SRS.Secrets != "" {
		return c.SRS.Secrets
	}
	return filepath.Join(c.DataDir, "secrets")
}

// makeSecrets writes a first key where the configuration leaves the keys to
// srsd and there is none yet. It says whether it did.
func (c *Config) makeSecrets() (made bool, err error) {
	if c.SRS.Secrets != "" {
		return false, nil
	}
	path := c.secretsFile()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var secret [30]byte
	rand.Read(secret[:]) // never fails
	_, err = fmt.Fprintf(f, "srsd-keys 1\nk1 %s\n", base32.StdEncoding.EncodeToString(secret[:]))
	return err == nil, errors.Join(err, f.Sync(), f.Close())
}

// Rewriters makes the rewriter of every SRS domain, by domain in lower case.
func (c *Config) Rewriters(now func() time.Time) (map[string]*srs.Rewriter, error) {
	keys, err := srs.LoadKeys(c.secretsFile())
	if err != nil {
		return nil, err
	}
	return c.rewriters(keys, now)
}

func (c *Config) rewriters(keys srs.Keys, now func() time.Time) (map[string]*srs.Rewriter, error) {
	var format srs.Format
	if err := format.UnmarshalText([]byte(c.SRS.Format)); err != nil {
		return nil, err
	}
	var accept []srs.Format
	for _, name := range c.SRS.Accept {
		var f srs.Format
		if err := f.UnmarshalText([]byte(name)); err != nil {
			return nil, err
		}
		accept = append(accept, f)
	}
	future := time.Duration(c.SRS.Future)
	if future == 0 {
		future = -1 // the rewriter's zero is its default, ours is none
	}
	alphabet := srs.AlphabetStandard
	if c.SRS.Alphabet == "url" {
		alphabet = srs.AlphabetURL
	}
	rewriters := map[string]*srs.Rewriter{}
	for i, domain := range c.srsDomains() {
		r := &srs.Rewriter{
			Domain: domain, Keys: keys, Format: format, Accept: accept, HashLength: c.SRS.HashLength,
			HashMinimum: c.SRS.HashMinimum, MaxAge: time.Duration(c.SRS.MaxAge), Future: future,
			Separator: c.SRS.Separator[0], Alphabet: alphabet, Now: now,
		}
		if i == 0 {
			r.Retired = c.SRS.Retired
		}
		if err := r.Validate(); err != nil {
			return nil, err
		}
		rewriters[strings.ToLower(domain)] = r
	}
	return rewriters, nil
}

// Table loads the alias table.
func (c *Config) Table() (*forward.Table, error) {
	return forward.Load(c.TableConfig())
}

// TableConfig is what the alias table is loaded from.
func (c *Config) TableConfig() forward.Config {
	postmaster, _ := envelope.ParseAddress(c.Forward.Postmaster) // check has parsed it
	return forward.Config{
		Domains: c.Forward.Domains, SRSDomains: append(c.srsDomains(), c.SRS.Retired...), Files: c.Forward.Aliases,
		Dir: c.Forward.ForwardDir, IncludeDir: c.Forward.IncludeDir, Postmaster: postmaster,
		MaxTargets: c.Forward.MaxTargets, MaxDepth: c.Forward.MaxDepth,
	}
}

// certificate loads the TLS certificate; nil where there is none.
func (c *Config) certificate() (*tls.Config, error) {
	if c.TLS.Certificate == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("tls.certificate %s, tls.key %s: %w", c.TLS.Certificate, c.TLS.Key, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// senderPolicy says what follows from SPF, at the way in and at the doors for
// Postfix.
func (c *Config) senderPolicy() sender.Policy {
	return sender.Policy{
		AlwaysHELO: c.SPF.HELO == "always", SkipNetworks: prefixes(c.SPF.SkipNetworks), TrustedForwarders: c.SPF.TrustedForwarders,
		Actions: map[spf.Result]sender.Action{
			spf.Fail: sender.Action(c.SPF.Fail), spf.SoftFail: sender.Action(c.SPF.SoftFail),
			spf.Neutral: sender.Action(c.SPF.Neutral), spf.None: sender.Action(c.SPF.None),
			spf.PermError: sender.Action(c.SPF.PermError), spf.TempError: sender.Action(c.SPF.TempError),
		},
	}
}

// receivePolicy is the reloadable part of the way in.
func (c *Config) receivePolicy(router receive.Router, resolver *resolve.Resolver, now func() time.Time) receive.Policy {
	r := c.Receive
	p := receive.Policy{
		Hostname: c.Hostname, Router: router,
		SPF:        &spf.Checker{Resolver: resolver, Receiver: c.Hostname, StrictVoid: c.SPF.StrictVoid, Now: now},
		Sender:     c.senderPolicy(),
		MaxMessage: int64(r.MaxMessage), MaxRecipients: r.MaxRecipients, MaxReceived: r.MaxReceived,
		MaxFailedSRS: r.MaxFailedSRS, MaxConnections: r.MaxConnections, MaxConnectionsPerIP: r.MaxConnectionsPerIP,
		MaxConnectionsPerNetwork: r.MaxConnectionsPerNetwork, MaxErrors: r.MaxErrors, MaxCommands: r.MaxCommands,
		IdleTimeout: time.Duration(r.IdleTimeout), SessionTimeout: time.Duration(r.SessionTimeout),
		GreetDelay: time.Duration(r.GreetDelay), ProxyNetworks: prefixes(r.ProxyNetworks), ReverseNames: r.ReverseNames,
		AllowLists: r.DNSWL,
	}
	for _, z := range r.DNSBL {
		zone, action, _ := strings.Cut(z, "=")
		p.BlockLists = append(p.BlockLists, receive.List{Zone: zone, Action: sender.Action(action)})
	}
	return p
}

// deliverPolicy is the reloadable part of the way out. listening are the
// addresses of our own ports.
func (c *Config) deliverPolicy(listening []netip.AddrPort) (deliver.Policy, error) {
	d := c.Deliver
	p := deliver.Policy{
		Mode: d.Mode, Budget: time.Duration(d.Budget), Smarthost: d.Smarthost, SmarthostFallback: d.SmarthostFallback,
		Port: d.Port, AllowNetworks: prefixes(d.AllowNetworks), ConnectionsPerHop: d.ConnectionsPerHop,
		Timeout: time.Duration(d.Timeout), DotTimeout: time.Duration(d.DotTimeout), Lifetime: time.Duration(d.Lifetime),
		DelayWarning: time.Duration(d.DelayWarning), ListenAddrs: listening, TLS: map[string]deliver.Security{},
	}
	for _, s := range d.Source {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return p, err
		}
		p.Source = append(p.Source, ip)
	}
	for _, step := range d.Retry {
		p.Retry = append(p.Retry, time.Duration(step))
	}
	for hop, level := range d.TLS {
		p.TLS[strings.ToLower(hop)] = deliver.Security(level)
	}
	for _, smarthost := range append([]string{d.Smarthost}, d.SmarthostFallback...) {
		host, _, _ := net.SplitHostPort(smarthost) // check has split it
		if level, ok := p.TLS[strings.ToLower(host)]; ok {
			p.TLS[smarthost] = level
		} else if d.SmarthostUser != "" {
			p.TLS[smarthost] = deliver.Verified // a password is not for whoever is in between
		}
	}
	if d.SmarthostUser != "" {
		password, err := os.ReadFile(d.SmarthostPassword)
		if err != nil {
			return p, fmt.Errorf("deliver.smarthost_password_file: %w", err)
		}
		p.Auth = deliver.Credentials{Username: d.SmarthostUser, Password: strings.TrimRight(string(password), "\r\n")}
	}
	return p, nil
}
