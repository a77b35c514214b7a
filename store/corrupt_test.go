package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"srsd/store"
	"srsd/store/storetest"
)

// corruptions are what may happen to one file.
var corruptions = map[string]func(path string, r *rand.Rand) error{
	"deleted": func(path string, _ *rand.Rand) error { return os.Remove(path) },
	"empty":   func(path string, _ *rand.Rand) error { return os.Truncate(path, 0) },
	"half": func(path string, _ *rand.Rand) error {
		fi, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, fi.Size()/2)
	},
	"4096 octets": func(path string, _ *rand.Rand) error { return os.Truncate(path, 4096) },
	"zeros":       func(path string, r *rand.Rand) error { return scribble(path, r, make([]byte, 4096)) },
	"flip":        func(path string, r *rand.Rand) error { return scribble(path, r, nil) },
}

// scribble writes data somewhere into the part of a file that is not zeros; nil
// inverts four octets.
func scribble(path string, r *rand.Rand, data []byte) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	used := len(bytes.TrimRight(text, "\x00"))
	if used == 0 {
		return nil
	}
	at := r.IntN(used)
	if data == nil {
		for i := at; i < min(at+4, len(text)); i++ {
			text[i] ^= 0xff
		}
	} else {
		copy(text[at:], data)
	}
	return os.WriteFile(path, text, 0o600)
}

// corpus fills a store: more than one table, a log that is not empty, some
// files; it copies it while it is open, as a kill leaves it.
func corpus(t *testing.T) (dir string, ids []string) {
	live, dir := t.TempDir(), t.TempDir()
	s := openWith(t, live, store.Options{})
	var outcomes []store.Outcome
	for i := range 700 {
		id := fmt.Sprintf("c%04d", i)
		e, _ := storetest.Entry(id, store.Leased, "target.example")
		size := 30_000
		if i%100 == 5 {
			size = 40_000
		}
		body := bytes.NewReader(bytes.Repeat([]byte(id+"\r\n"), size/7))
		l, err := s.Enqueue(context.Background(), e, body, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if i%10 == 3 {
			outcomes = append(outcomes, store.Outcome{Lease: l[0]})
		} else {
			ids = append(ids, id)
		}
	}
	if _, err := s.Finish(context.Background(), outcomes); err != nil {
		t.Fatal(err)
	}
	copyTree(t, live, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, ids
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestCorrupt damages one file at a time. Open must refuse, or say exactly how
// many messages are missing or damaged; what is there must be whole.
func TestCorrupt(t *testing.T) {
	if !*long {
		t.Skip("slow: run it with -long")
	}
	dir, ids := corpus(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	tally := map[string]int{}
	for _, file := range kinds(t, dir) {
		for what, harm := range corruptions {
			times := 1
			if what == "flip" {
				times = 20
			}
			for range times {
				tally[corrupted(t, dir, ids, file, what, func(path string) error { return harm(path, r) })]++
			}
		}
	}
	t.Logf("%v", tally)
}

// kinds returns one or two files of each kind, relative to dir.
func kinds(t *testing.T, dir string) (files []string) {
	n := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		kind := filepath.Ext(name)
		if strings.HasPrefix(name, "spool") {
			kind = "spool"
		} else if kind == "" {
			kind = name
		}
		if n[kind]++; n[kind] <= 2 {
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// corrupted says what Open made of a damaged file.
func corrupted(t *testing.T, from string, ids []string, file, what string, harm func(path string) error) string {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	copyTree(t, from, dir)
	if err := harm(filepath.Join(dir, file)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(os.Args[0], "-test.run", "^TestInspect$", "-inspect", dir, "-expect", strings.Join(ids, ",")).CombinedOutput()
	text := strings.TrimSpace(string(out))
	switch {
	case err != nil && !strings.Contains(text, "refused: "), strings.Contains(text, "panic"), strings.Contains(text, "fault"):
		t.Errorf("%s, %s: %v\n%s", file, what, err, text)
		return "bad"
	case strings.Contains(text, "refused: "):
		return "refused"
	case strings.Contains(text, "silent: "):
		t.Errorf("%s, %s: %s", file, what, text)
		return "bad"
	case strings.Contains(text, "reported: "):
		return "reported"
	}
	return "no loss"
}
