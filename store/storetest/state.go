package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"srsd/store"
)

// testValues compares Put, Get and Scan with a map.
func testValues(t *testing.T, open Open) {
	rapid.Check(t, func(r *rapid.T) {
		dir, now := t.TempDir(), start
		var c clock
		c.set(now)
		s := open(t, dir, c.now)
		defer func() { s.Close() }()
		type value struct {
			data string
			end  time.Time
			rev  int64
		}
		values := map[string]value{}
		expire := func() {
			maps.DeleteFunc(values, func(_ string, v value) bool { return !v.end.IsZero() && !v.end.After(now) })
		}
		draw := func(r *rapid.T) string {
			return rapid.SampledFrom([]string{"", "a", "ab", "b", "b\x00", "ü"}).Draw(r, "key")
		}
		r.Repeat(map[string]func(*rapid.T){
			"put": func(r *rapid.T) {
				key := draw(r)
				ttl := time.Duration(rapid.SampledFrom([]int{0, 0, 1, 60}).Draw(r, "ttl")) * time.Second
				rev := rapid.SampledFrom([]int64{store.AnyRevision, 0, values[key].rev, 12345}).Draw(r, "rev")
				data := []byte(rapid.SampledFrom([]string{"", "x", "y"}).Draw(r, "data"))
				if rapid.IntRange(0, 3).Draw(r, "delete") == 0 {
					data = nil
				}
				err := s.Put(r.Context(), "space", key, data, rev, ttl)
				if rev != store.AnyRevision && rev != values[key].rev {
					if !errors.Is(err, store.ErrConflict) {
						r.Fatalf("Put at revision %d instead of %d: %v", rev, values[key].rev, err)
					}
					return
				}
				must(r, err)
				if data == nil {
					delete(values, key)
					return
				}
				v, err := s.Get(r.Context(), "space", key)
				must(r, err)
				if v.Rev <= values[key].rev {
					r.Fatalf("revision %d after %d", v.Rev, values[key].rev)
				}
				values[key] = value{data: string(data), rev: v.Rev}
				if ttl > 0 {
					values[key] = value{string(data), now.Add(ttl), v.Rev}
				}
			},
			"elsewhere": func(r *rapid.T) {
				must(r, s.Put(r.Context(), "spac", "e"+draw(r), []byte("z"), store.AnyRevision, 0))
			},
			"pass": func(r *rapid.T) { now = now.Add(30 * time.Second); c.set(now); expire() },
			"restart": func(r *rapid.T) {
				must(r, s.Close())
				s = open(t, dir, c.now)
			},
			"scan": func(r *rapid.T) {
				prefix := draw(r)
				var want, got []string
				for _, key := range slices.Sorted(maps.Keys(values)) {
					if strings.HasPrefix(key, prefix) {
						want = append(want, fmt.Sprintf("%q %q %d", key, values[key].data, values[key].rev))
					}
				}
				must(r, s.Scan(r.Context(), "space", prefix, func(key string, v store.Value) error {
					got = append(got, fmt.Sprintf("%q %q %d", key, v.Data, v.Rev))
					return nil
				}))
				equal(r, want, got)
			},
			"": func(r *rapid.T) {
				key := draw(r)
				v, err := s.Get(r.Context(), "space", key)
				want, ok := values[key]
				if !ok && !errors.Is(err, store.ErrNotFound) || ok && (err != nil || string(v.Data) != want.data || v.Rev != want.rev) {
					r.Fatalf("%q: %q %v, want %v", key, v.Data, err, want)
				}
			},
		})
	})
}

func counters(t *testing.T, open Open) {
	dir := t.TempDir()
	var c clock
	c.set(start)
	s := open(t, dir, c.now)
	incr := func(key string, want int64) {
		t.Helper()
		if n, err := s.Incr(context.Background(), key, 2, time.Hour); err != nil || n != want {
			t.Fatalf("%s is %d, %v; want %d", key, n, err, want)
		}
	}
	incr("a", 2)
	incr("a", 4)
	incr("b", 2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, c.now)
	defer s.Close()
	incr("a", 6)
	c.set(start.Add(time.Hour))
	incr("a", 2)
}

func compareAndSwap(t *testing.T, open Open) {
	s := fresh(t, open)
	ctx := context.Background()
	var wg sync.WaitGroup
	var won atomic.Int64
	for range 8 {
		wg.Go(func() {
			for range 20 {
				v, err := s.Get(ctx, "s", "n")
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
				}
				err = s.Put(ctx, "s", "n", append(v.Data, 'x'), v.Rev, 0)
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, store.ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v, _ := s.Get(ctx, "s", "n"); int64(len(v.Data)) != won.Load() || won.Load() == 0 {
		t.Errorf("%d writes won, %d are stored", won.Load(), len(v.Data))
	}
}
