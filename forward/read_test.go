package forward

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"none": "no such file", ".": "no regular file", "fifo": "no regular file"} {
		if _, err := readFile(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReadFileWaits: a text without an end is waited for, one with an end soon
// taken, and one from another clock's future at once.
func TestReadFileWaits(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text  string
		age   time.Duration
		least time.Duration
		most  time.Duration
	}{
		"fresh":      {"jo: x@t.example\n", 0, quiet, 2 * quiet},
		"unfinished": {"jo: x@t.exa", 9 * patience / 10, patience / 10, patience / 5},
		"old":        {"jo: x@t.exa", 2 * patience, 0, 0},
		"future":     {"jo: x@t.example\n", -time.Hour, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			path := write(t, dir, name, c.text)
			touch(t, path, time.Now().Add(-c.age))
			start := time.Now()
			text, err := readFile(path)
			if took := time.Since(start); err != nil || text != c.text || took < c.least || took > c.most {
				t.Errorf("%s: %q, %v after %v", name, text, err, took)
			}
		})
	}
}

func touch(t *testing.T, path string, when time.Time) {
	t.Helper()
	if err := os.Chtimes(path, when, when); err != nil {
		t.Error(err)
	}
}

func TestReadFileNeverQuiet(t *testing.T) {
	path := write(t, t.TempDir(), "aliases", "jo: x@t.example\n")
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		go func() {
			for end := time.Now().Add(2 * maxQuiet); time.Now().Before(end); time.Sleep(quiet / 10) {
				touch(t, path, time.Now())
			}
			close(done)
		}()
		synctest.Wait()
		start := time.Now()
		if text, err := readFile(path); err != errChanging || time.Since(start) > maxQuiet+quiet {
			t.Errorf("%q, %v after %v", text, err, time.Since(start))
		}
		<-done
	})
}

func TestIncludeBounds(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "include/huge", strings.Repeat("x@t.example\n", maxIncludeSize/12+1))
	write(t, dir, "include/large", strings.Repeat("# filler\n", maxIncludeSize/9-5)+"x@t.example\n")
	write(t, dir, "aliases", "huge: :include:huge\nonce: :include:large\nmany: "+strings.Repeat(":include:large, ", 64)+"y@t.example\n")
	got := said(t, house(dir), dir)
	for _, want := range []string{
		"aliases:1:7: error: huge is too large\n",
		"error: the included files have more than 64 MiB together\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not said: %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "aliases:2:") {
		t.Error(got)
	}
}

// Whoever owns a forward file may put a FIFO in its place at any moment; opening
// it must not wait for a writer.
func TestAFIFOIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	file, fifo := write(t, dir, "jo", "jo@target.example\n"), filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	done, end := make(chan bool), time.After(20*time.Second)
	go func() {
		for range 5000 {
			readBelow(dir, "jo", maxForwardFile)
		}
		close(done)
	}()
	for {
		select {
		case <-done:
			return
		case <-end:
			t.Fatal("it waits for a writer")
		default:
			if err := unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, fifo, unix.RENAME_EXCHANGE); err != nil {
				t.Skip("needs a file system that can exchange two names:", err)
			}
		}
	}
}
