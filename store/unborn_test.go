package store_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"srsd/store"
	"srsd/store/storetest"
)

// TestUnbornFiles opens a store in which a kill has left logs of badger's that
// were made and have no octet yet.
func TestUnbornFiles(t *testing.T) {
	dir := t.TempDir()
	s := openWith(t, dir, store.Options{})
	e, body := storetest.Entry("before", store.Queued, "target.example")
	if _, err := s.Enqueue(t.Context(), e, body, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"000099.vlog", "00099.mem"} {
		if err := os.WriteFile(filepath.Join(dir, "index", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = openWith(t, dir, store.Options{})
	defer s.Close()
	if there := listed(t, s); len(there) != 1 {
		t.Errorf("%d entries", len(there))
	}
	if d := checked(t, s); d != (store.Damage{Checked: true}) {
		t.Errorf("damage: %+v", d)
	}
}
