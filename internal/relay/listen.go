package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// A listeners opens ports, and uses those that systemd has opened already.
type listeners struct {
	inherited []net.Listener
	open      []net.Listener
}

func newListeners() (*listeners, error) {
	inherited, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	return &listeners{inherited: inherited}, nil
}

// listen opens a port for key, the configuration's name for it.
func (l *listeners) listen(key, network, address string) (net.Listener, error) {
	for i, ln := range l.inherited {
		if ln != nil && sameAddress(ln.Addr(), network, address) {
			l.inherited[i] = nil
			l.open = append(l.open, ln)
			return ln, nil
		}
	}
	if network == "unix" {
		if err := removeStale(address); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	l.open = append(l.open, ln)
	return ln, nil
}

// close closes everything that was opened; for a start that fails.
func (l *listeners) close() {
	for _, ln := range append(l.open, l.inherited...) {
		if ln != nil {
			ln.Close()
		}
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
	return want.IP.Equal(got.IP) || (want.IP == nil || want.IP.IsUnspecified()) && got.IP.IsUnspecified()
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

// become drops root's rights for those of a user, and gives it the data
// directory when srsd has just made it.
func become(name string) error {
	uid, gid, err := userIDs(name)
	if err != nil {
		return err
	}
	// The groups first, the user last: afterwards nothing may be changed.
	if err := errors.Join(syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("user: becoming %s: %w", name, err)
	}
	return nil
}

func userIDs(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("user: there is no user %q", name)
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, fmt.Errorf("user: %s has the id %q", name, u.Uid)
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

// makeDataDir makes the data directory, owned by the user that srsd becomes.
func (c *Config) makeDataDir() error {
	if _, err := os.Stat(c.DataDir); err == nil {
		return nil
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if c.User == "" || os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := userIDs(c.User)
	if err != nil {
		return err
	}
	return os.Chown(c.DataDir, uid, gid)
}
