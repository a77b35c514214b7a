package postfix_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"srsd/internal/mailtest/realpostfix"
	"srsd/internal/relay"
)

// TestReplacePostSRSd takes PostSRSd 1 away from a Postfix while mail flows, and
// puts srsd in its place with what "srsd import postsrsd" has written: no message
// and no bounce is lost.
func TestReplacePostSRSd(t *testing.T) {
	if !*long {
		t.Skip("slow: run with -long")
	}
	realpostfix.Need(t, "postfix", "postfix")
	realpostfix.Need(t, "postsrsd", "postsrsd")
	needRoot(t)
	t.Parallel()
	w := &world{t: t, house: "127.0.42.9", stop: func() {}, relay: &relay.Relay{},
		outside: map[string]string{"sender": "127.0.43.9", "remote": "127.0.44.9", "spammer": "127.0.45.9"}}
	w.sender, w.remote = w.mx("sender"), w.mx("remote")
	// PostSRSd has no policy service, so Postfix asks nobody.
	mainCF, _, _ := strings.Cut(blocks(t, "1. ")["cf"], "smtpd_recipient_restrictions")
	w.startPostfix(mainCF)

	dir := t.TempDir()
	defaults := filepath.Join(dir, "default-postsrsd")
	secret := filepath.Join(dir, "postsrsd.secret")
	w.write(secret, "the-secret-of-postsrsd-in-this-test\n")
	w.write(defaults, fmt.Sprintf("SRS_DOMAIN=srs.alumni.example\nSRS_EXCLUDE_DOMAINS=alumni.example,mailbox.example\n"+
		"SRS_SECRET=%s\nSRS_LISTEN_ADDR=%s\nRUN_AS=nobody\nCHROOT=\nSRS_HASHLENGTH=4\nSRS_HASHMIN=4\n", secret, w.house))
	old := exec.Command("postsrsd", "-s", secret, "-d", "srs.alumni.example", "-Xalumni.example,mailbox.example",
		"-l", w.house, "-f", "10001", "-r", "10002", "-u", "nobody")
	old.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has children
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = syscall.Kill(-old.Process.Pid, syscall.SIGTERM)
			_ = old.Wait()
		}
	}
	t.Cleanup(end)

	w.retry("ann@sender.example")
	signed := w.await(w.remote, 1).From()
	if !strings.HasPrefix(signed, "SRS0=") {
		t.Fatalf("PostSRSd has signed %q", signed)
	}

	// Mail goes on all the while, and whoever is told "later" tries again.
	const senders, each = 4, 6
	var sending sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for j := range each {
				w.retry(fmt.Sprintf("u%d.%d@sender.example", i, j))
			}
		})
	}
	end()
	w.config = imported(t, defaults)
	w.start()
	t.Cleanup(func() { w.stop() })
	sending.Wait()

	home := map[string]bool{"ann@sender.example": true}
	for n := 1; n <= 1+senders*each; n++ {
		from := w.await(w.remote, n).From()
		if err := w.send("remote", "", from); err != nil {
			t.Errorf("the bounce to %s: %v", from, err)
		}
	}
	for n := 1; n <= 1+senders*each; n++ {
		for _, to := range w.await(w.sender, n).To() {
			home[to] = true
		}
	}
	if len(home) != 1+senders*each {
		t.Errorf("%d of %d bounces came home: %v", len(home), 1+senders*each, home)
	}
	// What docs/postfix.md says about maps without the policy service.
	w.deliver("spammer", "spam@spam.example", signed)
	w.refused("forged", "remote", "", strings.Replace(signed, "=ann@", "=bob@", 1), "RCPT: 550 5.1.1")
}

// retry sends a message as a mail server does: until it is taken.
func (w *world) retry(from string) {
	w.t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = w.send("sender", from, "jo@alumni.example"); err == nil {
			return
		}
		if strings.Contains(err.Error(), ": 5") {
			break
		}
	}
	w.t.Errorf("%s was refused: %v", from, err)
}

// imported is the configuration that the command line makes of PostSRSd's.
func imported(t *testing.T, defaults string) relay.Config {
	t.Helper()
	out := filepath.Join(filepath.Dir(defaults), "srsd.toml")
	cmd := exec.Command("go", "run", "srsd/cmd/srsd", "import", "postsrsd", "--hostname=mx.alumni.example", "-o", out, defaults)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("srsd import: %v\n%s", err, text)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("/var/lib/srsd"), []byte(filepath.Join(filepath.Dir(out), "data")), 1)
	if err := os.WriteFile(out, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := relay.LoadConfig(out)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
