package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// A listeners opens ports, and uses those that systemd has opened already.
type listeners struct {
	inherited []net.Listener // not asked for yet
	open      []net.Listener
}

func newListeners() (*listeners, error) {
	inherited, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	l := &listeners{}
	for _, ln := range inherited {
		if ln != nil { // else it is no socket that listens
			l.inherited = append(l.inherited, ln)
		}
	}
	return l, nil
}

// listen opens a port for key, the configuration's name for it.
func (l *listeners) listen(key, network, address string) (net.Listener, error) {
	for i, ln := range l.inherited {
		if sameAddress(ln.Addr(), network, address) {
			l.inherited = slices.Delete(l.inherited, i, i+1)
			l.open = append(l.open, ln)
			return ln, nil
		}
	}
	network = family(network, address)
	if network == "unix" {
		if err := removeStale(address); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	ln, err := net.Listen(network, address)
	if errors.Is(err, syscall.EACCES) && network != "unix" {
		return nil, fmt.Errorf("%s: %w; a port below 1024 needs root, or systemd to open it: docs/operate.md", key, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	l.open = append(l.open, ln)
	return ln, nil
}

// unused says which socket of systemd no key of the configuration has asked
// for: its clients would wait for ever.
func (l *listeners) unused() error {
	if len(l.inherited) == 0 {
		return nil
	}
	return fmt.Errorf("systemd has opened %s, which no key of the configuration names", l.inherited[0].Addr())
}

// close closes everything that was opened; for a start that fails.
func (l *listeners) close() {
	for _, ln := range append(l.open, l.inherited...) {
		ln.Close()
	}
}

// family keeps "0.0.0.0:25" to IPv4 and "[::]:25" to IPv6: under "tcp" each of
// them is both, and the second could not be opened beside the first.
func family(network, address string) string {
	host, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(host)
	switch {
	case network != "tcp" || err != nil:
		return network
	case ip.Unmap().Is4():
		return "tcp4"
	default:
		return "tcp6"
	}
}

func sameAddress(have net.Addr, network, address string) bool {
	if have.Network() != network {
		return false
	}
	if network == "unix" {
		return have.String() == address
	}
	want, err := net.ResolveTCPAddr(network, address)
	got, ok := have.(*net.TCPAddr)
	if err != nil || !ok || want.Port != got.Port {
		return false
	}
	return want.IP.Equal(got.IP) || want.IP == nil && got.IP.IsUnspecified()
}

// removeStale removes the socket of a process that is gone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is no socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("%s is in use by another process", path)
	}
	return os.Remove(path)
}

// ownAddresses are the addresses at which this process listens: those of the
// ports, and every address of the machine where a port is open on all.
func ownAddresses(open []net.Listener) []netip.AddrPort {
	var out []netip.AddrPort
	for _, ln := range open {
		tcp, ok := ln.Addr().(*net.TCPAddr)
		if !ok {
			continue
		}
		own := tcp.AddrPort()
		if !own.Addr().IsUnspecified() {
			out = append(out, netip.AddrPortFrom(own.Addr().Unmap(), own.Port()))
			continue
		}
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, netip.AddrPortFrom(p.Addr().Unmap(), own.Port()))
			}
		}
	}
	return out
}

// become drops root's rights for those of a user.
func become(name string) error {
	u, err := lookup(name)
	if err != nil {
		return err
	}
	// The groups first, the user last: afterwards nothing may be changed.
	if err := errors.Join(syscall.Setgroups(u.groups), syscall.Setgid(u.gid), syscall.Setuid(u.uid)); err != nil {
		return fmt.Errorf("user: becoming %s: %w", name, err)
	}
	return nil
}

// An account is a user of the machine.
type account struct {
	uid, gid int
	groups   []int // gid among them
}

func lookup(name string) (a account, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return a, fmt.Errorf("user: there is no user %q", name)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return a, fmt.Errorf("user: groups of %s: %w", name, err)
	}
	for _, g := range groups {
		id, err := strconv.Atoi(g)
		if err != nil {
			return a, fmt.Errorf("user: %s has the group %q", name, g)
		}
		a.groups = append(a.groups, id)
	}
	a.uid, err = strconv.Atoi(u.Uid)
	if err == nil {
		a.gid, err = strconv.Atoi(u.Gid)
	}
	return a, err
}

// makeDataDir makes the data directory, owned by the user that srsd becomes.
// One that is there already must be that user's.
func (c *Config) makeDataDir() error {
	info, err := os.Stat(c.DataDir)
	exists := err == nil
	if exists && !info.IsDir() {
		return fmt.Errorf("data_dir: %s is no folder", c.DataDir)
	}
	if !exists {
		if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
			return fmt.Errorf("data_dir: %w", err)
		}
	}
	if c.User == "" || os.Geteuid() != 0 {
		return nil
	}
	u, err := lookup(c.User)
	if err != nil {
		return err
	}
	if !exists {
		return os.Chown(c.DataDir, u.uid, u.gid)
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != u.uid {
		return fmt.Errorf("data_dir: %s belongs to another user than %q, which srsd becomes: chown -R %s %s",
			c.DataDir, c.User, c.User, c.DataDir)
	}
	return nil
}
