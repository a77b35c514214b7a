package receive

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

func newTestMessage(t testing.TB, limit, max int64) *message {
	t.Helper()
	b := &budget{limit: limit}
	m, err := newMessage(b, &chunks{}, t.TempDir(), max, func(b []byte) []byte { return append(b, "Trace: ours\r\n"...) })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func content(t testing.TB, m *message) string {
	t.Helper()
	text, err := io.ReadAll(io.NewSectionReader(m, 0, m.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every text comes out as it went in, in memory and from a file.
func TestTextsAreKeptToTheOctet(t *testing.T) {
	head := "Subject: x\r\n\r\n"
	for name, text := range map[string]string{
		"empty": "", "no header": "\r\nbody\r\n", "header only": "Subject: x\r\n", "small": head + "x\r\n",
		"first chunk full": head + strings.Repeat("x", firstChunk-len("Trace: ours\r\n")-len(head)-2) + "\r\n",
		"memory":           head + strings.Repeat("0123456789\r\n", 20_000), "file": head + strings.Repeat("0123456789\r\n", 60_000),
		"large header": strings.Repeat("X-Many: one of many\r\n", 30_000) + "\r\n" + strings.Repeat("0123456789\r\n", 60_000),
	} {
		m := newTestMessage(t, 8<<20, 8<<20)
		if err := m.readFrom(iotest.HalfReader(strings.NewReader(text))); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := content(t, m); got != "Trace: ours\r\n"+text || m.text != int64(len(text)) {
			t.Errorf("%s: %d octets became %d", name, len(text), len(got))
		}
		if inFile := m.file != nil; inFile != (len(text) > memoryText+32<<10) {
			t.Errorf("%s: in a file: %v", name, inFile)
		}
		dir, _ := os.ReadDir(m.dir)
		if len(dir) != 0 {
			t.Errorf("%s: the file has a name: %v", name, dir)
		}
		m.Release()
		if used := m.budget.used.Load(); used != 0 {
			t.Errorf("%s: %d octets are still charged", name, used)
		}
	}
}

func TestReadAtAnywhere(t *testing.T) {
	text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 20_000)
	m := newTestMessage(t, 8<<20, 8<<20)
	defer m.Release()
	if err := m.readFrom(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	all := "Trace: ours\r\n" + text
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, len(all)+10).Draw(t, "offset")
		n := rapid.IntRange(0, 5000).Draw(t, "length")
		got := make([]byte, n)
		k, err := m.ReadAt(got, int64(off))
		want := all[min(off, len(all)):min(off+n, len(all))]
		if string(got[:k]) != want || k < n && err != io.EOF || k == n && err != nil && err != io.EOF {
			t.Fatalf("ReadAt(%d, %d): %d octets, %v", n, off, k, err)
		}
	})
}

func TestLimitsOfAText(t *testing.T) {
	line := "0123456789abcdef\r\n"
	for name, c := range map[string]struct {
		text       string
		limit, max int64
		want       error
	}{
		"at the limit":         {text: strings.Repeat("x", 1000), limit: 1 << 20, max: 1000},
		"one too many":         {text: strings.Repeat("x", 1001), limit: 1 << 20, max: 1000, want: errTooBig},
		"too big, in a file":   {text: "\r\n" + strings.Repeat(line, 60_000), limit: 8 << 20, max: 1_000_000, want: errTooBig},
		"no memory to grow":    {text: strings.Repeat(line, 2000), limit: firstChunk, max: 1 << 20, want: errNoMemory},
		"no memory to go on":   {text: "\r\n" + strings.Repeat(line, 60_000), limit: 100 << 10, max: 8 << 20, want: errNoMemory},
		"header too big":       {text: strings.Repeat("X: y\r\n", 200_000), limit: 8 << 20, max: 8 << 20, want: errHeaderTooBig},
		"header too big, ends": {text: strings.Repeat("X: y\r\n", 200_000) + "\r\nbody\r\n", limit: 8 << 20, max: 8 << 20, want: errHeaderTooBig},
	} {
		m := newTestMessage(t, c.limit, c.max)
		if err := m.readFrom(strings.NewReader(c.text)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		m.Release()
		if used := m.budget.used.Load(); used != 0 {
			t.Errorf("%s: %d octets are still charged", name, used)
		}
	}
}

// A header that comes octet by octet is not searched for its end at each.
func TestAHeaderInDropsCostsLittle(t *testing.T) {
	m := newTestMessage(t, 8<<20, 8<<20)
	defer m.Release()
	began := time.Now()
	err := m.readFrom(iotest.OneByteReader(strings.NewReader(strings.Repeat("X: y\r\n", 200_000))))
	if took := time.Since(began); !errors.Is(err, errHeaderTooBig) || took > 2*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

func TestABrokenTextStaysBroken(t *testing.T) {
	broken := errors.New("the line is dead")
	for _, n := range []int{10, 400_000} {
		text := "\r\n" + strings.Repeat("x", n)
		m := newTestMessage(t, 8<<20, 8<<20)
		err := m.readFrom(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Errorf("%d octets: %v", n, err)
		}
		m.Release()
	}
}

// A body that the deliverer keeps is there until its last user has done.
func TestRetainedBodiesLast(t *testing.T) {
	m := newTestMessage(t, 8<<20, 8<<20)
	m.readFrom(strings.NewReader("\r\nkept\r\n"))
	m.Retain()
	m.Release()
	if got := content(t, m); !strings.HasSuffix(got, "kept\r\n") {
		t.Errorf("%q", got)
	}
	m.Release()
	if m.mem != nil || m.budget.used.Load() != 0 {
		t.Error("the last release did not free it")
	}
}

func TestNoFileNoMessage(t *testing.T) {
	m := newTestMessage(t, 8<<20, 8<<20)
	defer m.Release()
	m.dir = "/nonexistent"
	err := m.readFrom(strings.NewReader("\r\n" + strings.Repeat("x", 600_000)))
	if !errors.Is(err, errTempFile) || replyFor(err) != replyNoSpace {
		t.Error(err)
	}
}

func TestCut(t *testing.T) {
	m := message{mem: []byte("0123456789")}
	m.cut([][2]int{{0, 1}, {3, 5}, {9, 10}})
	if !bytes.Equal(m.mem, []byte("125678")) {
		t.Errorf("%q", m.mem)
	}
}

func TestIDsSortAndDiffer(t *testing.T) {
	i := newIDs()
	i.next.Store(5)
	seen := map[string]bool{}
	last := ""
	for n := range int64(10_000) {
		id := i.new(timeAt(1_700_000_000_000 + n/10))
		if seen[id] || len(id) != 15 || id <= last {
			t.Fatalf("%s after %s", id, last)
		}
		seen[id], last = true, id
	}
}

func timeAt(ms int64) time.Time { return time.UnixMilli(ms) }
