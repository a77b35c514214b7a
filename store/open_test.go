package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	now := time.Now()
	s := openWith(t, t.TempDir(), store.Options{KeepFailed: time.Hour, Now: func() time.Time { return now }})
	e, body := storetest.Entry("a", store.Failed, "a.example")
	if _, err := s.Enqueue(context.Background(), e, body, 0); err != nil {
		t.Fatal(err)
	}
	if len(listed(t, s)) != 1 {
		t.Error("a failed delivery is not listed")
	}
	s.Close()
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
