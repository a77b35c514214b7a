package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
)

var million = flag.Int("million", 0, "run TestMillion with so many entries, 1 KB each: 1000000 takes some minutes and 3 GB of disk")

// TestMillion measures the store with a long queue: start, memory, new mail
// beside it, and the disk when all is gone.
func TestMillion(t *testing.T) {
	if *million == 0 {
		t.Skip("slow: run it with -million 1000000")
	}
	dir := t.TempDir()
	short := enqueueTimes(t, t.TempDir())
	fill(t, dir, *million)
	debug.FreeOSMemory()
	before := status(t, "RssAnon:")

	start := time.Now()
	s, err := Open(dir, Options{Reserve: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	took := time.Since(start)
	debug.FreeOSMemory()
	t.Logf("%d entries: opened in %v, heap %d MB, resident %d MB (%d before) and %d MB of mapped files, disk %d MB",
		*million, took, heapSize()>>20, status(t, "RssAnon:")>>10, before>>10, status(t, "RssFile:")>>10, du(t, dir)>>20)
	if took > 30*time.Second || status(t, "RssAnon:")>>10 > 1000 {
		t.Error("too slow or too large")
	}
	lease := time.Now()
	if l, err := s.Lease(context.Background(), LeaseQuery{Max: 100, TTL: time.Minute}); err != nil || len(l) != 100 {
		t.Fatal(len(l), err)
	}
	t.Logf("100 leases in %v", time.Since(lease))
	full := measure(t, s)
	t.Logf("enqueue: p50 %v, p99 %v; with an empty queue %v, %v", full[0], full[1], short[0], short[1])

	drop := time.Now()
	n, err := s.Edit(context.Background(), Filter{}, Drop)
	t.Logf("%d dropped in %v, %v", n, time.Since(drop), err)
	// Those leased go when their attempts end; these never do.
	s.reclaim()
	t.Logf("disk %d MB after %v", du(t, dir)>>20, time.Since(drop))
	if used := du(t, dir); used > 100<<20 {
		t.Errorf("%d MB are not given back", used>>20)
	}
}

// fill writes the index of n entries as Enqueue would, without its fsyncs.
func fill(t *testing.T, dir string, n int) {
	if err := makeDirs(dir); err != nil {
		t.Fatal(err)
	}
	db, err := badgerdb.Open(badgerOptions(indexDir(dir), slog.New(slog.DiscardHandler)).WithSyncWrites(false))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	w := db.NewWriteBatch()
	set := func(key, value []byte) {
		if err := w.Set(key, value); err != nil {
			t.Fatal(err)
		}
	}
	body := bytes.Repeat([]byte("0123456789abcde\n"), 64)
	for i := range n {
		e := entry(fmt.Sprintf("%016d", i))
		d := e.Deliveries[0]
		d.Domain = fmt.Sprintf("d%d.example", i%1000)
		h := messageHead{place: inline, size: int64(len(body)), sum: sha256.Sum256(body), received: e.Received.UnixNano()}
		m, err := encodeMessage(h, e.Message)
		if err != nil {
			t.Fatal(err)
		}
		x, err := encodeDelivery(deliveryHead{domain: d.Domain, due: time.Now().UnixNano()}, d)
		if err != nil {
			t.Fatal(err)
		}
		set(messageKey(e.ID), m)
		set(deliveryKey(e.ID, 0), x)
		set(bodyKey(e.ID), body)
	}
	set([]byte("f"), []byte{formatVersion})
	set(ledgerKey, ledger{seq: 1, messages: uint64(n), deliveries: uint64(n)}.encode())
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

func enqueueTimes(t *testing.T, dir string) [2]time.Duration {
	s, err := Open(dir, Options{Reserve: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return measure(t, s)
}

// measure is the median and the 99th percentile of 2,000 messages.
func measure(t *testing.T, s *Badger) [2]time.Duration {
	body := bytes.Repeat([]byte("0123456789abcde\n"), 256)
	var times []time.Duration
	for i := range 2000 {
		start := time.Now()
		l, err := s.Enqueue(context.Background(), entry(fmt.Sprintf("z%d", i)), bytes.NewReader(body), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(start))
		if _, err := s.Finish(context.Background(), []Outcome{{Lease: l[0]}}); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(times)
	return [2]time.Duration{times[1000], times[1980]}
}

func heapSize() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// status is a line of /proc/self/status, in KB.
func status(t *testing.T, name string) (n int) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), name)
	fmt.Sscan(rest, &n)
	return n
}

// du is what the files of a folder take on the disk; badger's are sparse.
func du(t *testing.T, dir string) (sum int64) {
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			sum += fi.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
