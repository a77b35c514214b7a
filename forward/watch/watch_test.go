package watch

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched starts Watch and returns the number of calls so far.
func watched(t *testing.T, paths ...string) *atomic.Int32 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int32
	done := make(chan error)
	started := make(chan struct{})
	go func() {
		close(started)
		done <- Watch(ctx, paths, func() { calls.Add(1) })
	}()
	<-started
	time.Sleep(20 * time.Millisecond)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &calls
}

func eventually(t *testing.T, calls *atomic.Int32, want int32) {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); calls.Load() < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d calls, want %d", calls.Load(), want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// begin writes a file that nobody has touched for long.
func begin(t *testing.T, path, text string) {
	t.Helper()
	write(t, path, text)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func TestWaysToEdit(t *testing.T) {
	for name, edit := range map[string]func(t *testing.T, path string){
		"in place": func(t *testing.T, path string) { write(t, path, "new: text\n") },
		"rename over": func(t *testing.T, path string) {
			write(t, path+"~", "new: text\n")
			if err := os.Rename(path+"~", path); err != nil {
				t.Fatal(err)
			}
		},
		"delete and create": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			write(t, path, "new: text\n")
		},
		"the same size": func(t *testing.T, path string) { write(t, path, "old: txet\n") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "aliases")
			begin(t, path, "old: text\n")
			calls := watched(t, path)
			edit(t, path)
			eventually(t, calls, 1)
			time.Sleep(2 * settle)
			if n := calls.Load(); n != 1 {
				t.Errorf("%d calls for one edit", n)
			}
		})
	}
}

func TestAnUnfinishedFileIsNotAnnounced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aliases")
	begin(t, path, "a long: text that will be cut\n")
	calls := watched(t, path)
	write(t, path, "")
	time.Sleep(3 * settle)
	if n := calls.Load(); n != 0 {
		t.Fatalf("%d calls for a truncated file", n)
	}
	write(t, path, "a new: text as long as the old one\n")
	eventually(t, calls, 1)
}

func TestOtherFilesAreNotAnnounced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "aliases")
	begin(t, path, "text\n")
	calls := watched(t, path)
	write(t, filepath.Join(dir, ".aliases.swp"), "text\n")
	time.Sleep(3 * settle)
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls for another file", n)
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	calls := watched(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * settle)
	write(t, filepath.Join(dir, "first"), "text\n")
	eventually(t, calls, 1)
	write(t, filepath.Join(dir, "sub", "second"), "text\n")
	eventually(t, calls, 2)
}

func TestLink(t *testing.T) {
	t.Parallel()
	dir, link := t.TempDir(), filepath.Join(t.TempDir(), "aliases")
	begin(t, filepath.Join(dir, "one"), "one\n")
	begin(t, filepath.Join(dir, "two"), "other\n")
	if err := os.Symlink(filepath.Join(dir, "one"), link); err != nil {
		t.Fatal(err)
	}
	calls := watched(t, link)
	write(t, filepath.Join(dir, "one"), "one more\n")
	eventually(t, calls, 1)
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "two"), link); err != nil {
		t.Fatal(err)
	}
	eventually(t, calls, 2)
}

func TestAFileWrittenJustBefore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aliases")
	write(t, path, "text\n")
	calls := watched(t, path)
	eventually(t, calls, 1)
	time.Sleep(2 * settle)
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls", n)
	}
}
