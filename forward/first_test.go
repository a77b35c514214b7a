package forward

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"srsd/envelope"
)

func TestMillion(t *testing.T) {
	var b strings.Builder
	for i := range 1000000 {
		fmt.Fprintf(&b, "user%d@example.test: user%d@sink.test\n", i, i)
	}
	f := write(t, t.TempDir(), "aliases", b.String())
	b.Reset()
	runtime.GC()
	t0 := time.Now()
	tab, err := Load(Config{Domains: []string{"example.test"}, Files: []string{f}})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("load", time.Since(t0), tab.Len())
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Println("heap", m.HeapAlloc>>20, "sys", m.Sys>>20)
	runtime.GC()
	runtime.ReadMemStats(&m)
	fmt.Println("heap", m.HeapAlloc>>20)
	as := make([]envelope.Address, 100000)
	for i := range as {
		as[i] = envelope.MustParse(fmt.Sprintf("user%d@example.test", i*7919%1000000))
	}
	t0 = time.Now()
	for range 10 {
		for _, a := range as {
			if e, err := tab.Expand(a); err != nil || len(e.Targets) != 1 {
				t.Fatal(err)
			}
		}
	}
	fmt.Println("lookup", time.Since(t0)/1000000)
	t0 = time.Now()
	fmt.Println(tab.AliasesOf(envelope.MustParse("user77@sink.test")), time.Since(t0))
}
