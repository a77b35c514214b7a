package store_test

import (
	"context"
	"testing"
	"time"

	"srsd/store"
	"srsd/store/storetest"
)

// TestJump leases at a time that is hours ahead, as after a clock has jumped: a
// lease of a minute lasts a minute.
func TestJump(t *testing.T) {
	s := openWith(t, t.TempDir(), store.Options{})
	defer s.Close()
	ctx := context.Background()
	e, body := storetest.Entry("j", store.Leased, "a.example")
	leases, err := s.Enqueue(ctx, e, body, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := s.Lease(ctx, store.LeaseQuery{Now: time.Now().Add(5 * time.Hour), Max: 1, TTL: time.Minute}); err != nil || len(l) > 0 {
		t.Errorf("leased twice: %v %v", l, err)
	}
	if lost, err := s.Extend(ctx, leases, time.Minute); err != nil || len(lost) > 0 {
		t.Errorf("lost %v %v", lost, err)
	}
}
