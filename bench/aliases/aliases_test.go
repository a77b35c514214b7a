// Package aliases measures a table of a million aliases: how long it takes to
// load, what it keeps in memory, how many lookups a second it gives, and what a
// reload does to those who ask meanwhile. Postfix's postmap is measured beside
// it where it is installed.
//
//	go test ./aliases -run XXX -bench 'Load|Reload|Postmap' -benchtime 5x
//	go test ./aliases -run XXX -bench 'Lookup|File|Back' -benchtime 2s
//	go test ./aliases -run Million -v            resident memory, in a process of its own
package aliases

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/forward"
)

var count = flag.Int("aliases", 1_000_000, "aliases in the table")

// source writes the table that performance is compared by: ascending numbers,
// one target each.
func source(tb testing.TB, colon string) string {
	tb.Helper()
	var b bytes.Buffer
	for i := range *count {
		fmt.Fprintf(&b, "user%d@example.test%s user%d@sink.test\n", i, colon, i)
	}
	path := filepath.Join(tb.TempDir(), "aliases")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		tb.Fatal(err)
	}
	old := time.Now().Add(-time.Hour) // or Load would wait for the writer to be done
	if err := os.Chtimes(path, old, old); err != nil {
		tb.Fatal(err)
	}
	return path
}

func load(tb testing.TB, path string) *forward.Table {
	tb.Helper()
	table, err := forward.Load(forward.Config{Domains: []string{"example.test"}, Files: []string{path}})
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

// keys are names in random order, one in ten of them unknown.
func keys(n int) []envelope.Address {
	r := rand.New(rand.NewPCG(7, 7))
	list := make([]envelope.Address, n)
	for i := range list {
		list[i] = envelope.MustParse(fmt.Sprintf("user%d@example.test", r.IntN(*count*10/9)))
	}
	return list
}

func BenchmarkLoad(b *testing.B) {
	path := source(b, ":")
	for b.Loop() {
		load(b, path)
	}
}

func BenchmarkLookup(b *testing.B) {
	table := load(b, source(b, ":"))
	list := keys(200_000)
	runtime.GC()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		_, _ = table.Expand(list[i%len(list)])
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
}

func BenchmarkLookupParallel(b *testing.B) {
	table := load(b, source(b, ":"))
	list := keys(200_000)
	runtime.GC()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(list)); pb.Next(); i++ {
			_, _ = table.Expand(list[i%len(list)])
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
}

// BenchmarkForwardFile asks for a name that stands in a forward file.
func BenchmarkForwardFile(b *testing.B) {
	dir := b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "example.test"), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "example.test", "jo"), []byte("jo@sink.test\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	table, err := forward.Load(forward.Config{Domains: []string{"example.test"}, Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	jo := envelope.MustParse("jo@example.test")
	for b.Loop() {
		if _, err := table.Expand(jo); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBackwards asks which alias leads to a target, after the first time.
func BenchmarkBackwards(b *testing.B) {
	table := load(b, source(b, ":"))
	start := time.Now()
	table.AliasesOf(envelope.MustParse("user1@sink.test"))
	first := time.Since(start)
	for b.Loop() {
		if n := len(table.AliasesOf(envelope.MustParse("user77@sink.test"))); n != 1 {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(first.Milliseconds()), "ms-first")
}

// BenchmarkReloadUnderLoad reloads while one goroutine asks, and reports the
// slowest answer.
func BenchmarkReloadUnderLoad(b *testing.B) {
	path := source(b, ":")
	var table atomic.Pointer[forward.Table]
	table.Store(load(b, path))
	list := keys(200_000)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	var times []time.Duration
	asking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			start := time.Now()
			_, _ = table.Load().Expand(list[i%len(list)])
			times = append(times, time.Since(start))
			time.Sleep(50 * time.Microsecond)
		}
	})
	for b.Loop() {
		table.Store(load(b, path))
	}
	close(stop)
	asking.Wait()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*999/1000].Microseconds()), "µs-p99.9")
	b.ReportMetric(float64(times[len(times)-1].Microseconds()), "µs-max")
}

// TestMillion loads the table in a process of its own and shows what it takes:
// at the moment after loading, and after a reload beside the old table.
func TestMillion(t *testing.T) {
	if path := os.Getenv("BENCH_ALIASES_TABLE"); path != "" {
		child(t, path)
		return
	}
	path := source(t, ":")
	cmd := exec.Command(os.Args[0], "-test.run=^TestMillion$", "-test.v")
	cmd.Env = append(os.Environ(), "BENCH_ALIASES_TABLE="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, "figure: "); ok {
			t.Log(strings.TrimSpace(text))
		}
	}
}

func child(t *testing.T, path string) {
	start := time.Now()
	table := load(t, path)
	fmt.Printf("figure: %d aliases loaded in %v, resident %d MB, at most %d MB\n", table.Len(), time.Since(start).Round(time.Millisecond), status("VmRSS"), status("VmHWM"))
	start = time.Now()
	next := load(t, path)
	took := time.Since(start)
	runtime.KeepAlive(table)
	fmt.Printf("figure: reloaded in %v, resident %d MB, at most %d MB\n", took.Round(time.Millisecond), status("VmRSS"), status("VmHWM"))
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("figure: the table alone: %d MB\n", m.HeapAlloc>>20)
	runtime.KeepAlive(next)
}

// status reads a line of /proc/self/status, in MB; 0 where there is none.
func status(key string) int {
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n >> 10
		}
	}
	return 0
}

// BenchmarkPostmap builds and asks the lmdb table of the same aliases.
func BenchmarkPostmap(b *testing.B) {
	postmap, err := exec.LookPath("postmap")
	if err != nil {
		b.Skip("needs postmap: apt-get install postfix postfix-lmdb")
	}
	path := source(b, "")
	dir := filepath.Dir(path)
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte("compatibility_level = 3.6\nlmdb_map_size = 1073741824\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if out, err := exec.Command(postmap, "-c", dir, "lmdb:"+path).CombinedOutput(); err != nil {
			b.Skipf("postmap: %v: %s", err, out)
		}
	}
	b.StopTimer()
	var ask strings.Builder
	list := keys(200_000)
	for _, a := range list {
		ask.WriteString(a.String() + "\n")
	}
	cmd := exec.Command(postmap, "-c", dir, "-q", "-", "lmdb:"+path)
	cmd.Stdin = strings.NewReader(ask.String())
	start := time.Now()
	_ = cmd.Run() // exit status 1: some are unknown
	b.ReportMetric(float64(len(list))/time.Since(start).Seconds(), "lookups/s")
}
