package relay

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBothFamilies opens what docs/configuration.md shows: one port on all
// addresses of each family.
func TestBothFamilies(t *testing.T) {
	if ln, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("needs IPv6: ", err)
	} else {
		ln.Close()
	}
	var l listeners
	defer l.close()
	first, err := l.listen("receive.listen", "tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(first.Addr().String())
	if _, err := l.listen("receive.listen", "tcp", "[::]:"+port); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
	}
}

func TestAPortThatIsTaken(t *testing.T) {
	var l listeners
	defer l.close()
	ln, err := l.listen("receive.listen", "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.listen("receive.listen_tls", "tcp", ln.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "receive.listen_tls: ") || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("%v: names neither the key nor the address", err)
	}
}

func TestSocketsOfSystemdAreFound(t *testing.T) {
	for _, row := range []struct {
		have          string // an address, or the path of a unix socket
		network, want string
		same          bool
	}{
		{"127.0.0.1:25", "tcp", "127.0.0.1:25", true},
		{"127.0.0.1:25", "tcp", "127.0.0.1:26", false},
		{"127.0.0.1:25", "tcp", "127.0.0.2:25", false},
		{"0.0.0.0:25", "tcp", "0.0.0.0:25", true},
		{"[::]:25", "tcp", "[::]:25", true},
		{"[::]:25", "tcp", "0.0.0.0:25", false}, // its place is at "[::]:25"
		{"0.0.0.0:25", "tcp", "[::]:25", false},
		{"[::]:25", "tcp", ":25", true},
		{"127.0.0.1:25", "tcp", ":25", false},
		{"/run/srsd/milter", "unix", "/run/srsd/milter", true},
		{"/run/srsd/milter", "unix", "/run/srsd/policy", false},
		{"127.0.0.1:25", "unix", "127.0.0.1:25", false},
	} {
		var have net.Addr = &net.UnixAddr{Name: row.have, Net: "unix"}
		if row.have[0] != '/' {
			tcp, err := net.ResolveTCPAddr("tcp", row.have)
			if err != nil {
				t.Fatal(err)
			}
			have = tcp
		}
		if got := sameAddress(have, row.network, row.want); got != row.same {
			t.Errorf("%s for %s %s: %v", row.have, row.network, row.want, got)
		}
	}
}

// TestAStaleSocketIsReplaced shows that nothing else is.
func TestAStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socketmap")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as a kill leaves it
	dead.Close()

	var first, second listeners
	defer second.close()
	if _, err := first.listen("postfix.socketmap", "unix", path); err != nil {
		t.Fatal(err)
	}
	if _, err := second.listen("postfix.socketmap", "unix", path); err == nil || !strings.Contains(err.Error(), path+" is in use by another process") {
		t.Errorf("a socket in use: %v", err)
	}
	first.close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := second.listen("postfix.socketmap", "unix", path); err == nil || !strings.Contains(err.Error(), path+" exists and is no socket") {
		t.Errorf("a file: %v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("the file is %q now, %v", text, err)
	}
}

func TestOwnAddresses(t *testing.T) {
	var l listeners
	defer l.close()
	for _, a := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		if _, err := l.listen("receive.listen", "tcp", a); err != nil {
			t.Fatal(err)
		}
	}
	one, all := l.open[0].Addr().(*net.TCPAddr).AddrPort(), l.open[1].Addr().(*net.TCPAddr).AddrPort()
	found := map[string]bool{}
	for _, a := range ownAddresses(l.open) {
		found[a.String()] = true
	}
	everywhere := "127.0.0.1:" + strings.TrimPrefix(all.String(), all.Addr().String()+":")
	if !found[one.String()] || !found[everywhere] {
		t.Errorf("%v has not both %v and %v", found, one, everywhere)
	}
}

// TestTheDataDirOfSomebodyElse shows what is said where srsd could not write
// once it is nobody.
func TestTheDataDirOfSomebodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, which srsd would drop")
	}
	c := Config{DataDir: t.TempDir(), User: "nobody"}
	err := c.makeDataDir()
	if err == nil || !strings.Contains(err.Error(), "chown -R nobody "+c.DataDir) {
		t.Errorf("%v does not say what to do", err)
	}
	c.DataDir = filepath.Join(c.DataDir, "new")
	if err := c.makeDataDir(); err != nil {
		t.Error(err)
	}
	if err := c.makeDataDir(); err != nil {
		t.Errorf("the second start: %v", err)
	}
	c.User = "no-such-user"
	if err := c.makeDataDir(); err == nil || err.Error() != `user: there is no user "no-such-user"` {
		t.Error(err)
	}
}
