package relay

import (
	"errors"
	"strings"
	"testing"
	"time"

	"srsd/srs"
	"srsd/store"
)

// TestKeeper keeps senders in a real store: a token brings its own sender back,
// each sender is stored once, nobody takes the place of another, and strangers
// cannot fill the store.
func TestKeeper(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rw := &srs.Rewriter{Domain: "srs.alumni.example", Keys: srs.Keys{srs.NewKey("k1", []byte("a-secret-for-tests-only"))}}
	k := keeper{state: s, rewriters: map[string]*srs.Rewriter{"srs.alumni.example": rw}, keep: 30 * day}
	long := strings.Repeat("l", 60) + "@sender.example"
	first, err := k.Keep(t.Context(), "SRS.alumni.example", long)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := k.Keep(t.Context(), "srs.alumni.example", long); err != nil || again != first {
		t.Errorf("%q, then %q, %v", first, again, err)
	}
	if back, err := k.Recall(t.Context(), first); err != nil || back != long {
		t.Errorf("%q %v", back, err)
	}
	id, err := rw.ParseToken(first)
	if err != nil {
		t.Fatal(err)
	}

	// Another sender lies where this one would go.
	if free, err := k.put(t.Context(), string(id), "other@sender.example"); free || err != nil {
		t.Errorf("another sender took the place: %v %v", free, err)
	}
	// A day later the same sender is stored anew, under the same token's id.
	k.now = func() time.Time { return time.Now().Add(day) }
	if free, err := k.put(t.Context(), string(id), long); !free || err != nil {
		t.Errorf("%v %v", free, err)
	}

	if _, err := s.Incr(t.Context(), "kept", maxNewKept, day); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Keep(t.Context(), "srs.alumni.example", "x"+long[1:]); !errors.Is(err, errTooManyKept) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := k.Keep(t.Context(), "srs.alumni.example", long); err != nil {
		t.Errorf("a known sender: %v", err)
	}
}
