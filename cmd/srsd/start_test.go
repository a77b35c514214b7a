package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFilesAreOurs looks at the modes of everything in data_dir, after mail of
// both kinds: small, and too large for the index.
func TestFilesAreOurs(t *testing.T) {
	t.Parallel()
	s := newSite(t, freeAddress(t), "")
	srsd := s.serve(nil)
	srsd.until("msg=ready")
	c := s.client()
	s.say(c, toData+"| Hello.\nC: .\nS: 250\n")
	s.say(c, toData+strings.Repeat("| "+strings.Repeat("x", 70)+"\n", 8000)+"C: .\nS: 250\n")
	bodies := 0
	err := filepath.WalkDir(s.path("data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o", path, got)
		}
		if !d.IsDir() && strings.Contains(path, "/spool/") {
			bodies++
		}
		return nil
	})
	if err != nil || bodies != 1 {
		t.Errorf("%d large bodies in the spool, %v", bodies, err)
	}
	srsd.signal(syscall.SIGTERM)
	srsd.wantStatus(0)
}

// TestOneRelayADataDir starts a second srsd on the same data_dir.
func TestOneRelayADataDir(t *testing.T) {
	t.Parallel()
	s := newSite(t, freeAddress(t), "")
	first := s.serve(nil)
	first.until("msg=ready")
	c := s.client()
	s.say(c, toData+"| Hello.\nC: .\nS: 250\n")

	second := s
	second.listen = freeAddress(t)
	text, err := os.ReadFile(s.path("srsd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("second.toml", strings.ReplaceAll(string(text), s.listen, second.listen))
	start := time.Now()
	v := s.serve(func(cmd *exec.Cmd) { cmd.Args[3] = s.path("second.toml") })
	v.until(fmt.Sprintf("the data directory is in use: %s (process %d)", s.path("data"), first.Process.Pid))
	v.wantStatus(1)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}

	s.say(c, toData+"| Hello again.\nC: .\nS: 250\n")
	if n := s.queued(); n != "2" {
		t.Errorf("the first relay has %s messages, not 2", n)
	}
	first.signal(syscall.SIGTERM)
	first.wantStatus(0)
}

// TestRootIsDropped starts srsd as root at a port that only root may open.
func TestRootIsDropped(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to see it dropped")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("needs a user nobody")
	}
	s := newSite(t, "127.0.61.7:125", `user = "nobody"`)
	for dir := s.dir; dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // nobody must come to its folder
			t.Fatal(err)
		}
	}
	for _, name := range []string{"srsd.toml", "aliases"} {
		if err := os.Chmod(s.path(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	srsd := s.serve(nil)
	srsd.until("msg=ready")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", srsd.Process.Pid))
	if err != nil {
		t.Skip("needs /proc")
	}
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) != 5 || fields[0] != "Uid:" && fields[0] != "Gid:" {
			continue
		}
		want := map[string]string{"Uid:": nobody.Uid, "Gid:": nobody.Gid}[fields[0]]
		for _, id := range fields[1:] {
			if id != want {
				t.Errorf("after the start: %s", line)
				break
			}
		}
	}
	if strings.Contains(string(text), "\nGroups:\t0 ") {
		t.Error("root's groups are left")
	}
	s.say(s.client(), toData+"| Hello.\nC: .\nS: 250\n")
	s.write("aliases", "jo: jo.private@target.example\nlee: lee@target.example\n")
	srsd.signal(syscall.SIGHUP)
	srsd.until("msg=reloaded")
	s.say(s.client(), "C: MAIL FROM:<ann@sender.example>\nS: 250\nC: RCPT TO:<lee@alumni.example>\nS: 250\n")
	srsd.signal(syscall.SIGTERM)
	srsd.wantStatus(0)
}

// TestNoRootIsNeeded starts srsd as nobody, at a high port; and at a low one.
func TestNoRootIsNeeded(t *testing.T) {
	t.Parallel()
	s := newSite(t, freeAddress(t), "")
	asNobody := func(cmd *exec.Cmd) {
		if os.Geteuid() != 0 {
			return // that is so already
		}
		const nobody = 65534
		program := s.path("srsd")
		if err := os.Link(cmd.Path, program); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Skip("needs the temporary folder of tests on one file system: ", err)
		}
		for dir := s.dir; dir != os.TempDir(); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"", "srsd.toml", "aliases"} {
			if err := os.Chown(s.path(name), nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Path = program
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	srsd := s.serve(asNobody)
	srsd.until("msg=ready")
	s.say(s.client(), toData+"| Hello.\nC: .\nS: 250\n")
	srsd.signal(syscall.SIGTERM)
	srsd.wantStatus(0)

	if lowest, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || strings.TrimSpace(string(lowest)) != "1024" {
		return // here anybody may
	}
	text, err := os.ReadFile(s.path("srsd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("srsd.toml", strings.ReplaceAll(string(text), s.listen, "127.0.61.8:125"))
	srsd = s.serve(asNobody)
	srsd.until("receive.listen: listen tcp4 127.0.61.8:125: bind: permission denied; a port below 1024 needs root")
	srsd.wantStatus(1)
}

// TestWhatIsSaidAboutABadStart has one row for each thing that people do wrong.
func TestWhatIsSaidAboutABadStart(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		do   func(site)
		want string // DIR stands for the site's folder
	}{
		{"unknown key", func(s site) { s.write("srsd.toml", "hostnme = \"x\"\n") }, "DIR/srsd.toml:1: hostnme: unknown key"},
		{"bad alias", func(s site) { s.write("aliases", "jo: jo.private@target.example\nann: |mail\n") }, "DIR/aliases:2:6: error: commands are not run here"},
		{"open secrets", func(s site) {
			s.write("data/secrets", "srsd-keys 1\nk1 a-secret-of-some-length\n")
			os.Chmod(s.path("data/secrets"), 0o644)
		}, "DIR/data/secrets: mode 0644; others than its owner may use it: chmod 600"},
		{"short secrets", func(s site) { s.write("data/secrets", "srsd-keys 1\nk1 short\n") }, "DIR/data/secrets: srs: secrets: line 2: the secret has 5 octets, 16 are the least"},
		{"no folder", func(s site) { os.Remove(s.path("data")); s.write("data", "") }, "data_dir: DIR/data is no folder"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, "127.0.0.1:0", "")
			if err := os.Mkdir(s.path("data"), 0o700); err != nil {
				t.Fatal(err)
			}
			row.do(s)
			status, _, errs := command("serve", "-c", s.path("srsd.toml"))
			want := strings.ReplaceAll(row.want, "DIR", s.dir)
			if status != 1 || !strings.Contains(errs, want) {
				t.Errorf("status %d and %q, want 1 and %q", status, errs, want)
			}
		})
	}
}

// TestCheckBeforeTheFirstStart shows that check makes nothing and needs nothing
// that the first start would make.
func TestCheckBeforeTheFirstStart(t *testing.T) {
	t.Parallel()
	s := newSite(t, "127.0.0.1:0", "")
	status, out, errs := command("check", "-c", s.path("srsd.toml"))
	if status != 0 || !strings.Contains(out, "is good: 1 alias entry, 1 key, ") || !strings.Contains(errs, "the first start makes it") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	if _, err := os.Stat(s.path("data")); err == nil {
		t.Error("check has made the data directory")
	}
}
