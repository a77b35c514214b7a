package catalogue_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTheDiskFillsUp runs srsd on a file system of 600 MB with a target that
// defers, until the disk is full: the refusals are 452 4.3.1, srsd does not die,
// and when the target takes mail again, all that was answered 250 arrives, once;
// at most 30 s after that, without a restart, new mail is taken.
func TestTheDiskFillsUp(t *testing.T) {
	if !*long {
		t.Skip("slow: run it with -long")
	}
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: needs root, to mount a file system of its own")
	}
	t.Parallel()
	w := newWorld(t, oneTarget, "jo")
	target := w.target(10)
	target.behave(always("rcpt", "450 4.2.2 full"))
	data := filepath.Join(w.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=600m,mode=700", "tmpfs", data).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: no file system can be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", data).Run() })
	w.addr = w.freeAddress()
	p := serve(t, w.configure("[receive]\nlisten = [\""+w.addr+"\"]\n[deliver]\nretry = [\"5s\"]\n"), &journal{})

	const enough = 30_000 // 3 GB
	l := load{world: w, text: func(i int) string {
		return "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1000)
	}}
	full := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.refused)
	}
	l.pause = func() {
		if full() >= 20 {
			l.done.Store(true)
		}
	}
	l.run(8, enough)
	t.Logf("%d accepted, %d refused: %s", len(l.accepted), len(l.refused), l.refused[0])
	for _, r := range l.refused {
		if !strings.HasPrefix(r, "452 4.3.1") {
			t.Errorf("refused with %q", r)
		}
	}
	if len(l.accepted) < 1000 || len(l.refused) < 20 {
		t.Errorf("%d accepted, %d refused", len(l.accepted), len(l.refused))
	}
	target.behave(nil)
	within(t, 60*time.Second, "all is delivered", func() bool { n, _, _ := target.count(); return n >= len(l.accepted) })
	w.drained()
	if n, _, _ := target.count(); n != len(l.accepted) {
		t.Errorf("%d of %d arrived", n, len(l.accepted))
	}
	within(t, 30*time.Second, "new mail is taken", func() bool { return w.brief("new") })
	p.end(t)
}
