package relay

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogWriter(t *testing.T) {
	var out bytes.Buffer
	w := NewLogWriter(&out)
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for k := range 500 {
				fmt.Fprintf(w, "%d %d\n", i, k)
			}
		})
	}
	writers.Wait()
	w.Close()
	fmt.Fprintln(w, "afterwards")
	next := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var i, k int
		if n, _ := fmt.Sscan(line, &i, &k); n != 2 {
			if line != "afterwards\n" {
				t.Errorf("broken line %q", line)
			}
			continue
		}
		if next[fmt.Sprint(i)] != k {
			t.Errorf("writer %d: line %d came instead of %d", i, k, next[fmt.Sprint(i)])
		}
		next[fmt.Sprint(i)] = k + 1
	}
	if fmt.Sprint(next) != "map[0:500 1:500 2:500 3:500]" {
		t.Errorf("%v", next)
	}
}

// A dam lets nothing through until it is opened.
type dam struct {
	open chan struct{}
	bytes.Buffer
}

func (d *dam) Write(p []byte) (int, error) {
	<-d.open
	return d.Buffer.Write(p)
}

// TestLogWriterNeverWaits writes more than may be pending to a log that nobody
// reads: the writer goes on, and the log says later what is missing.
func TestLogWriterNeverWaits(t *testing.T) {
	d := &dam{open: make(chan struct{})}
	w := NewLogWriter(d)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 3 * maxPending / len(line) {
		if n, err := w.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	close(d.open)
	w.Close()
	if !strings.Contains(d.String(), "lines of the log were lost") || d.Len() > 3*maxPending {
		t.Errorf("%d octets, and no word of the lost lines", d.Len())
	}
}

// TestLogWriterEnds closes a log that nobody reads: that takes two seconds, so
// that srsd ends all the same.
func TestLogWriterEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dam{open: make(chan struct{})}
		w := NewLogWriter(d)
		w.Write([]byte("the end\n"))
		began := time.Now()
		if err := w.Close(); err == nil || time.Since(began) != lastWait {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		close(d.open)
	})
}
