// Package realpostfix runs a real Postfix for a test: a private one, with
// configuration, queue and mailboxes in a folder of the test's, on loopback. The
// machine's own Postfix, if there is one, is not touched. It logs to the
// system's log: its own log files go through postlogd, which now and then waits
// for itself, and everybody for it.
package realpostfix

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Postfix is a running Postfix.
type Postfix struct {
	Dir  string // of everything
	Addr string // of its smtpd

	t testing.TB
}

// nobody owns the mailboxes.
const nobody = 65534

// Need skips the test where a program is not installed, or fails it where
// nothing may be skipped: where SRSD_REQUIRE_PROGRAMS is set.
func Need(t testing.TB, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	text := fmt.Sprintf("needs %s: apt-get install %s", program, debianPackage)
	if os.Getenv("SRSD_REQUIRE_PROGRAMS") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// Start starts a Postfix that listens at addr, "127.0.0.1:port". mainCF is
// added to main.cf, masterCF to master.cf; files are written beside them before
// the start. In all of them $dir is the folder of the files.
//
// Mail for the domains of virtual_mailbox_domains is delivered into
// mail/DOMAIN/USER in $dir for the users that the file "mailboxes" names, a line
// "user@domain domain/user/" each.
func Start(t testing.TB, addr, mainCF, masterCF string, files map[string]string) *Postfix {
	t.Helper()
	Need(t, "postfix", "postfix")
	if os.Geteuid() != 0 {
		if os.Getenv("SRSD_REQUIRE_PROGRAMS") != "" {
			t.Fatal("needs root, as Postfix does")
		}
		t.Skip("needs root, as Postfix does")
	}
	dir, err := os.MkdirTemp("", "srsd-postfix-") // short: Postfix makes sockets in it
	if err != nil {
		t.Fatal(err)
	}
	p := &Postfix{Dir: dir, Addr: addr, t: t}
	t.Cleanup(p.stop)
	p.configure(mainCF, masterCF, files)
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Fatalf("%s is taken: Postfix would share the port, and its mail, with somebody else", addr)
	}
	for range starts {
		if out, err := p.control("start"); err != nil {
			t.Fatalf("postfix start: %v\n%s", err, out)
		}
		if p.greets() {
			return p
		}
		p.kill()
	}
	t.Fatalf("Postfix does not greet, started %d times; the system's log may say why", starts)
	return nil
}

// A Postfix that does not greet is started again.
const (
	starts         = 5
	greetPatience  = 4 * time.Second
	commandTimeout = 20 * time.Second
)

// control runs the command postfix(1).
func (p *Postfix) control(command string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "postfix", "-c", p.path("etc"), command)
	cmd.WaitDelay = time.Second // its children may hold its output open
	return cmd.CombinedOutput()
}

// greets says whether the smtpd says 220.
func (p *Postfix) greets() bool {
	for end := time.Now().Add(greetPatience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", p.Addr, time.Second)
		if err != nil {
			continue
		}
		c.SetReadDeadline(end)
		line, err := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if err == nil && strings.HasPrefix(line, "220") {
			return true
		}
	}
	return false
}

// kill ends all of its processes: they are one process group.
func (p *Postfix) kill() {
	text, err := os.ReadFile(p.path("spool/pid/master.pid"))
	if err != nil {
		return
	}
	if master, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && master > 1 {
		_ = syscall.Kill(-master, syscall.SIGKILL) // it may have ended
	}
	for range 250 { // until the port is free
		c, err := net.Dial("tcp", p.Addr)
		if err != nil {
			return
		}
		c.Close()
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *Postfix) path(name string) string { return filepath.Join(p.Dir, name) }

// must ends the test where there is an error.
func (p *Postfix) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// configure makes everything that Postfix reads.
func (p *Postfix) configure(mainCF, masterCF string, files map[string]string) {
	p.t.Helper()
	expand := strings.NewReplacer("$dir", p.path("etc")).Replace
	p.folders()
	p.main(expand(mainCF))
	p.master(expand(masterCF))
	if _, ok := files["mailboxes"]; !ok {
		p.must(os.WriteFile(p.path("etc/mailboxes"), nil, 0o644))
	}
	for name, text := range files {
		p.must(os.WriteFile(p.path("etc/"+name), []byte(expand(text)), 0o644))
	}
}

// folders makes the folders, each for the user that Postfix wants for it.
func (p *Postfix) folders() {
	p.t.Helper()
	p.must(os.Chmod(p.Dir, 0o755))
	for _, d := range []string{"etc", "spool", "data", "mail"} {
		p.must(os.Mkdir(p.path(d), 0o755))
	}
	postfix, err := user.Lookup("postfix")
	p.must(err)
	uid, err := strconv.Atoi(postfix.Uid)
	p.must(err)
	p.must(os.Chown(p.path("data"), uid, -1))
	p.must(os.Chown(p.path("mail"), nobody, nobody))
}

// main writes main.cf, with more at its end.
func (p *Postfix) main(more string) {
	p.t.Helper()
	host, _, err := net.SplitHostPort(p.Addr)
	p.must(err)
	p.must(os.WriteFile(p.path("etc/main.cf"), []byte(fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
meta_directory = %[1]s/etc
inet_interfaces = loopback-only
inet_protocols = ipv4
smtp_bind_address = %[2]s
mydestination =
alias_maps =
mynetworks = 127.0.0.0/8
smtputf8_enable = no
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = texthash:%[1]s/etc/mailboxes
virtual_minimum_uid = 100
virtual_uid_maps = static:%[3]d
virtual_gid_maps = static:%[3]d
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
`, p.Dir, host, nobody)+more), 0o644))
}

// master writes master.cf, Debian's with more at its end, and what it needs.
func (p *Postfix) master(more string) {
	p.t.Helper()
	dist, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	p.must(err)
	var master strings.Builder
	for line := range strings.Lines(string(dist)) {
		f := strings.Fields(line)
		if len(f) >= 8 && strings.TrimLeft(line, " \t#") == line {
			f[4] = "n" // no chroot: there is nothing in it
			if f[0] == "smtp" && f[1] == "inet" {
				f[0] = p.Addr
			}
			line = strings.Join(f, " ") + "\n"
		}
		master.WriteString(line)
	}
	master.WriteString(more)
	p.must(os.WriteFile(p.path("etc/master.cf"), []byte(master.String()), 0o644))
	for _, name := range []string{"dynamicmaps.cf", "postfix-files"} {
		if text, err := os.ReadFile("/etc/postfix/" + name); err == nil {
			p.must(os.WriteFile(p.path("etc/"+name), text, 0o644))
		}
	}
}

func (p *Postfix) stop() {
	if out, err := p.control("stop"); err != nil {
		p.kill()
		if p.t.Failed() {
			p.t.Logf("postfix stop: %v\n%s", err, out)
		}
	}
	os.RemoveAll(p.Dir)
}

// Mailbox waits until a mailbox holds n messages, and returns what it holds.
func (p *Postfix) Mailbox(address string, n int) []string {
	p.t.Helper()
	user, domain, _ := strings.Cut(address, "@")
	var texts []string
	p.await(func() bool {
		texts = nil
		names, _ := filepath.Glob(filepath.Join(p.Dir, "mail", domain, user, "new", "*"))
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return false
			}
			texts = append(texts, string(text))
		}
		return len(texts) >= n
	}, fmt.Sprintf("%d messages for %s", n, address))
	return texts
}

func (p *Postfix) await(done func() bool, what string) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	p.t.Fatalf("Postfix: waited in vain for %s", what)
}
