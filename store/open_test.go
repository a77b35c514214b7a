package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	badgeropts "github.com/dgraph-io/badger/v4/options"

	"srsd/store"
	"srsd/store/storetest"
)

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	s := openWith(t, dir, store.Options{})
	defer s.Close()
	start := time.Now()
	_, err := store.Open(dir, store.Options{Reserve: -1})
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), dir) || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	// The first one goes on.
	e, body := storetest.Entry("a", store.Queued, "a.example")
	if _, err := s.Enqueue(context.Background(), e, body, 0); err != nil {
		t.Error(err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := openWith(t, dir, store.Options{})
	e, _ := storetest.Entry("large", store.Queued, "a.example")
	if _, err := s.Enqueue(context.Background(), e, strings.NewReader(strings.Repeat("x", 50_000)), 0); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		inIndex := strings.HasPrefix(path, filepath.Join(dir, "index")+"/") // behind a folder of 0700
		if want := os.FileMode(0o600); !d.IsDir() && !inIndex && fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		if d.IsDir() && fi.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestReserve asks for more free space than any disk has.
func TestReserve(t *testing.T) {
	s := openWith(t, t.TempDir(), store.Options{Reserve: 1 << 60})
	defer s.Close()
	if err := s.Free(); !errors.Is(err, store.ErrFull) {
		t.Errorf("Free: %v", err)
	}
	e, body := storetest.Entry("a", store.Queued, "a.example")
	if _, err := s.Enqueue(context.Background(), e, body, 0); !errors.Is(err, store.ErrFull) {
		t.Errorf("Enqueue: %v", err)
	}
}

func TestKeepFailed(t *testing.T) {
	var later atomic.Bool
	now := func() time.Time {
		if later.Load() {
			return time.Now().Add(time.Hour)
		}
		return time.Now()
	}
	s := openWith(t, t.TempDir(), store.Options{KeepFailed: time.Hour, Now: now})
	defer s.Close()
	e, body := storetest.Entry("a", store.Failed, "a.example")
	if _, err := s.Enqueue(context.Background(), e, body, 0); err != nil {
		t.Fatal(err)
	}
	if len(listed(t, s)) != 1 {
		t.Error("a failed delivery is not listed")
	}
	later.Store(true)
	for deadline := time.Now().Add(5 * time.Second); len(listed(t, s)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a failed delivery is listed for good")
		}
	}
}

// TestFormat opens what a later srsd has written.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	db, err := badgerdb.Open(badgerdb.DefaultOptions(filepath.Join(dir, "index")).WithCompression(badgeropts.None).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(db.Update(func(txn *badgerdb.Txn) error { return txn.Set([]byte("f"), []byte{99}) }), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(dir, store.Options{Reserve: -1}); err == nil || !strings.Contains(err.Error(), "format") {
		t.Errorf("opened: %v", err)
	}
}

// TestOrphans leaves in the spool what a crash leaves there.
func TestOrphans(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "spool", "ab")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"xxab", "xxab.123.tmp"} {
		if err := os.WriteFile(filepath.Join(left, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openWith(t, dir, store.Options{}).Close()
	if files, _ := os.ReadDir(left); len(files) > 0 {
		t.Errorf("left: %v", files)
	}
}

func TestClosed(t *testing.T) {
	s := openWith(t, t.TempDir(), store.Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	e, body := storetest.Entry("a", store.Queued, "a.example")
	if _, err := s.Enqueue(context.Background(), e, body, 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Enqueue: %v", err)
	}
	if err := s.Wake(context.Background()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Wake: %v", err)
	}
}
