package relay

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"srsd/envelope"
)

// check says what is wrong with a configuration that could be read. It looks
// at nothing but the configuration; files are opened when the parts are built.
func (c *Config) check() error {
	for _, part := range []func() error{
		c.checkTop, c.checkReceive, c.checkForward, c.checkSRS, c.checkSPF, c.checkDeliver, c.checkBounce,
		c.checkPostfix,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// Relays says whether the configuration asks for the relay itself, and not only
// for the doors for Postfix.
func (c *Config) Relays() bool { return len(c.Receive.Listen)+len(c.Receive.ListenTLS) > 0 }

func (c *Config) doors() []string {
	return []string{c.Postfix.SenderTCP, c.Postfix.RecipientTCP, c.Postfix.Socketmap, c.Postfix.Milter, c.Postfix.Policy}
}

func (c *Config) checkTop() error {
	if c.Hostname == "" {
		return bad("hostname", "is required: the name of this host in the DNS, as in \"mx.alumni.example\"")
	}
	if !isHostname(c.Hostname) {
		return bad("hostname", "%q is no host name", c.Hostname)
	}
	if c.DataDir == "" {
		return bad("data_dir", "must not be empty")
	}
	if err := oneOf("log.format", c.Log.Format, "text", "json"); err != nil {
		return err
	}
	if err := oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	for _, s := range c.DNS.Servers {
		if _, err := netip.ParseAddrPort(s); err != nil {
			return bad("dns.servers", "%q is no address with a port; write \"127.0.0.1:53\"", s)
		}
	}
	return positive("dns.timeout", int64(c.DNS.Timeout))
}

func (c *Config) checkReceive() error {
	r := c.Receive
	if !c.Relays() && strings.Join(c.doors(), "") == "" {
		return bad("receive.listen", "is required: where to listen, as in [\"0.0.0.0:25\", \"[::]:25\"]")
	}
	for key, list := range map[string][]string{"receive.listen": r.Listen, "receive.listen_tls": r.ListenTLS} {
		for _, a := range list {
			if !isHostPort(a) {
				return bad(key, "%q is no address with a port; write \"0.0.0.0:25\"", a)
			}
		}
	}
	if len(r.ListenTLS) > 0 && c.TLS.Certificate == "" {
		return bad("receive.listen_tls", "needs tls.certificate and tls.key")
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		return bad("tls.certificate", "and tls.key belong together: set both or neither")
	}
	for _, p := range []struct {
		key   string
		value int64
	}{
		{"receive.max_message", int64(r.MaxMessage)}, {"receive.max_recipients", int64(r.MaxRecipients)},
		{"receive.max_connections", int64(r.MaxConnections)}, {"receive.max_connections_per_ip", int64(r.MaxConnectionsPerIP)},
		{"receive.max_connections_per_network", int64(r.MaxConnectionsPerNetwork)}, {"receive.memory", int64(r.Memory)},
		{"receive.idle_timeout", int64(r.IdleTimeout)}, {"receive.session_timeout", int64(r.SessionTimeout)},
		{"receive.max_errors", int64(r.MaxErrors)}, {"receive.max_commands", int64(r.MaxCommands)},
		{"receive.max_failed_srs", int64(r.MaxFailedSRS)}, {"receive.max_received", int64(r.MaxReceived)},
	} {
		if err := positive(p.key, p.value); err != nil {
			return err
		}
	}
	for key, list := range map[string][]string{"receive.dnsbl": r.DNSBL, "receive.dnswl": r.DNSWL} {
		for _, z := range list {
			zone, action, marked := strings.Cut(z, "=")
			if !isHostname(zone) || marked && action != "mark" && action != "reject" {
				return bad(key, "%q is no DNS list; write \"list.example\" or \"list.example=mark\"", z)
			}
		}
	}
	return nil
}

func (c *Config) checkForward() error {
	f := c.Forward
	if c.Relays() && len(f.Domains) == 0 {
		return bad("forward.domains", "is required: the domains whose mail is forwarded")
	}
	for _, d := range f.Domains {
		if !isDomain(d) {
			return bad("forward.domains", "%q is no domain", d)
		}
	}
	if c.Relays() && f.Postmaster == "" {
		return bad("forward.postmaster", "is required: who reads the mail for postmaster")
	}
	if f.Postmaster != "" {
		if a, err := envelope.ParseAddress(f.Postmaster); err != nil || a.Domain() == "" {
			return bad("forward.postmaster", "%q is no address", f.Postmaster)
		}
	}
	if err := positive("forward.max_targets", int64(f.MaxTargets)); err != nil {
		return err
	}
	return positive("forward.max_depth", int64(f.MaxDepth))
}

func (c *Config) checkSRS() error {
	s := c.SRS
	if s.Domain == "" {
		return bad("srs.domain", "is required: the domain of rewritten addresses, whose MX is this host")
	}
	if !isDomain(s.Domain) {
		return bad("srs.domain", "%q is no domain", s.Domain)
	}
	for alias, domain := range s.Domains {
		if !isDomain(alias) || !isDomain(domain) {
			return bad("srs.domains", "%q = %q: both must be domains", alias, domain)
		}
	}
	for _, d := range s.Retired {
		if !isDomain(d) {
			return bad("srs.retired", "%q is no domain", d)
		}
	}
	for _, d := range append(c.srsDomains(), s.Retired...) {
		if strings.ContainsFunc(d, func(r rune) bool { return r >= 0x80 }) {
			return bad("srs.domain", "%q must be written in ASCII, as the DNS has it: xn--…", d)
		}
		if slices.ContainsFunc(c.Forward.Domains, func(f string) bool { return strings.EqualFold(f, d) }) {
			return bad("srs.domain", "%q is in forward.domains too; SRS needs a domain of its own, as in \"srs.%s\"", d, d)
		}
	}
	formats := s.Accept
	for _, f := range append(formats[:len(formats):len(formats)], s.Format) {
		if err := oneOf("srs.format", f, "srsd", "classic"); err != nil {
			return err
		}
	}
	if !slices.Contains([]string{"=", "+", "-"}, s.Separator) {
		return bad("srs.separator", "%q is none of \"=\", \"+\" and \"-\"", s.Separator)
	}
	if err := oneOf("srs.alphabet", s.Alphabet, "standard", "url"); err != nil {
		return err
	}
	for key, n := range map[string]int{"srs.hash_length": s.HashLength, "srs.hash_minimum": s.HashMinimum} {
		if n != 0 && (n < 4 || n > 20) {
			return bad(key, "%d is not between 4 and 20", n)
		}
	}
	if s.Format == "srsd" && s.HashLength != 0 && s.HashLength < 8 {
		return bad("srs.hash_length", "%d is too short for the format \"srsd\", which has 8 to 20", s.HashLength)
	}
	if s.HashLength != 0 && s.HashMinimum > s.HashLength {
		return bad("srs.hash_minimum", "%d is more than hash_length", s.HashMinimum)
	}
	for _, a := range s.AllowFrom {
		if _, err := envelope.ParseAddress(a); err != nil {
			return bad("srs.allow_from", "%q is no address", a)
		}
	}
	return positive("srs.max_age", int64(s.MaxAge))
}

// srsDomains are the SRS domains that sign.
func (c *Config) srsDomains() []string {
	out := []string{c.SRS.Domain}
	for _, d := range c.SRS.Domains {
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	slices.Sort(out[1:])
	return out
}

func (c *Config) checkSPF() error {
	for _, p := range []struct{ key, action string }{
		{"spf.fail", c.SPF.Fail}, {"spf.softfail", c.SPF.SoftFail}, {"spf.neutral", c.SPF.Neutral},
		{"spf.none", c.SPF.None}, {"spf.permerror", c.SPF.PermError}, {"spf.temperror", c.SPF.TempError},
	} {
		if err := oneOf(p.key, p.action, "reject", "defer", "mark"); err != nil {
			return err
		}
	}
	for _, d := range c.SPF.TrustedForwarders {
		if !isDomain(d) {
			return bad("spf.trusted_forwarders", "%q is no domain", d)
		}
	}
	return oneOf("spf.helo", c.SPF.HELO, "null", "always")
}

func (c *Config) checkDeliver() error {
	d := c.Deliver
	if err := oneOf("deliver.mode", d.Mode, "cut-through", "queue"); err != nil {
		return err
	}
	hosts := append([]string{}, d.SmarthostFallback...)
	if d.Smarthost != "" {
		hosts = append(hosts, d.Smarthost)
	} else if len(hosts) > 0 {
		return bad("deliver.smarthost_fallback", "needs deliver.smarthost")
	}
	for _, h := range hosts {
		if !isHostPort(h) {
			return bad("deliver.smarthost", "%q is no host with a port; write \"relay.example:25\"", h)
		}
	}
	if (d.SmarthostUser == "") != (d.SmarthostPassword == "") {
		return bad("deliver.smarthost_user", "and smarthost_password_file belong together: set both or neither")
	}
	for _, a := range d.Source {
		if _, err := netip.ParseAddr(a); err != nil {
			return bad("deliver.source", "%q is no address", a)
		}
	}
	for domain, level := range d.TLS {
		if err := oneOf("deliver.tls", level, "none", "opportunistic", "required", "verified"); err != nil || !isHostname(domain) {
			return bad("deliver.tls", "%q = %q: a domain or host, and one of none, opportunistic, required, verified", domain, level)
		}
	}
	if d.Port > 65535 {
		return bad("deliver.port", "%d is no port", d.Port)
	}
	if len(d.Retry) == 0 {
		return bad("deliver.retry", "must have at least one step")
	}
	for _, step := range d.Retry {
		if err := positive("deliver.retry", int64(step)); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		key   string
		value int64
	}{
		{"deliver.port", int64(d.Port)}, {"deliver.budget", int64(d.Budget)}, {"deliver.timeout", int64(d.Timeout)},
		{"deliver.dot_timeout", int64(d.DotTimeout)}, {"deliver.lifetime", int64(d.Lifetime)},
		{"deliver.connections_per_hop", int64(d.ConnectionsPerHop)},
	} {
		if err := positive(p.key, p.value); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkBounce() error {
	b := c.Bounce
	for key, n := range map[string]int{
		"bounce.report_limit": b.ReportLimit, "bounce.per_address_limit": b.PerAddressLimit, "bounce.suspend_after": b.SuspendAfter,
	} {
		if n < 0 {
			return bad(key, "%d is negative", n)
		}
	}
	return oneOf("bounce.to", b.To, "sender", "owner", "none")
}

func (c *Config) checkPostfix() error {
	p := c.Postfix
	for key, a := range map[string]string{"postfix.sender_tcp": p.SenderTCP, "postfix.recipient_tcp": p.RecipientTCP} {
		if a != "" && !isHostPort(a) {
			return bad(key, "%q is no address with a port; write \"127.0.0.1:10001\"", a)
		}
	}
	for key, list := range map[string][]string{"postfix.local_domains": p.LocalDomains, "postfix.exclude": p.Exclude} {
		for _, d := range list {
			if !isHostname(strings.TrimPrefix(d, ".")) {
				return bad(key, "%q is no domain; write \"example.com\", or \".example.com\" for all below it", d)
			}
		}
	}
	for key, a := range map[string]string{"postfix.socketmap": p.Socketmap, "postfix.milter": p.Milter, "postfix.policy": p.Policy} {
		if a == "" {
			continue
		}
		if _, _, err := endpoint(a); err != nil {
			return bad(key, "%q is no endpoint; write \"inet:127.0.0.1:10003\" or \"unix:/run/srsd/socketmap\"", a)
		}
	}
	return nil
}

// endpoint splits "inet:host:port", "unix:path" or "host:port" into the network
// and the address of net.Listen.
func endpoint(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" {
			return "", "", bad("", "empty path")
		}
		return "unix", path, nil
	}
	s = strings.TrimPrefix(s, "inet:")
	if !isHostPort(s) {
		return "", "", bad("", "no address with a port")
	}
	return "tcp", s, nil
}

func oneOf(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return bad(key, "%q is none of \"%s\"", value, strings.Join(allowed, `", "`))
}

func positive(key string, n int64) error {
	if n <= 0 {
		return bad(key, "must be more than zero")
	}
	return nil
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 && port != "0" {
		return false
	}
	if host == "" {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return isHostname(host)
}

func isHostname(s string) bool { return s != "" && s[0] != '[' && envelope.CheckDomain(s) == nil }

func isDomain(s string) bool { return isHostname(s) && strings.Contains(s, ".") }
