package store

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"srsd/envelope"
)

func entry(id string) Entry {
	return Entry{
		Message:    envelope.Message{ID: id, Received: time.Now(), ReversePath: envelope.MustParse("ann@sender.example"), Size: 4096, SPF: "pass"},
		Deliveries: []Delivery{{Domain: "target.example", Routes: []envelope.Route{{Alias: envelope.MustParse("jo@alumni.example"), Target: envelope.MustParse("jo.private@target.example")}}, Due: time.Now(), State: Leased}},
	}
}

// BenchmarkQueue enqueues and finishes 4 KB messages from 16 callers.
func BenchmarkQueue(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	body := bytes.Repeat([]byte("0123456789abcde\n"), 256)
	ctx := context.Background()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 16 {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				l, err := s.Enqueue(ctx, entry(fmt.Sprintf("%016d", n)), bytes.NewReader(body), time.Minute)
				if err != nil || len(l) != 1 {
					b.Error(err)
					return
				}
				if errs, err := s.Finish(ctx, []Outcome{{Lease: l[0]}}); err != nil || errs[0] != nil {
					b.Error(errs, err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	if n, _ := s.Count(ctx); n != 0 {
		b.Error(n, "left")
	}
}
