package resolve

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func TestOneQueryInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		asked := 0
		ask := func(ctx context.Context) (answer, error) {
			asked++
			select {
			case <-time.After(time.Second):
				return answer{alias: "x"}, nil
			case <-ctx.Done():
				return answer{}, ctx.Err()
			}
		}
		q := question{"d.example.", dns.TypeTXT}
		hurried, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := f.do(hurried, q, ask)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the hurried one: %v", err)
			}
		})
		synctest.Wait()
		for range 5 {
			wg.Go(func() {
				a, err := f.do(t.Context(), q, ask)
				check(t, "answer", a.alias, "x", err)
			})
		}
		wg.Wait()
		check(t, "asked", asked, 1, nil)
		check(t, "left over", len(f.m), 0, nil)
	})
}

func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		ended := false
		ask := func(ctx context.Context) (answer, error) {
			<-ctx.Done()
			ended = true
			return answer{}, ctx.Err()
		}
		q := question{"d.example.", dns.TypeTXT}
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			go f.do(ctx, q, ask)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		check(t, "the query ended with the last who waited", ended, true, nil)
		// The next caller does not inherit the cancelled query.
		a, err := f.do(t.Context(), q, func(context.Context) (answer, error) { return answer{alias: "new"}, nil })
		check(t, "answer", a.alias, "new", err)
	})
}

func TestCancelled(t *testing.T) {
	s := serve(t, func(string, *dns.Msg) [][]byte { return nil })
	r := New(Config{Servers: []string{s.addr}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, _, err := r.TXT(ctx, "d.example")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	_, _, err = r.TXT(ctx, "e.example")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
