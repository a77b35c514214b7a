package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"srsd/store"
	"srsd/store/storetest"
)

// crashDir names the data directory to the child process: this test binary,
// started again, fills and empties a queue until it is killed.
const crashDir = "SRSD_STORE_CRASH_DIR"

// crashChild never returns. It says on standard output what it is about to do
// and what has been acknowledged: "try ID", "in ID", "end ID", "out ID".
func crashChild(dir string) {
	if other := os.Getenv(filledBy); other != "" {
		filledChild(dir, other)
	}
	if os.Getenv(unsynced) != "" {
		unsyncedChild(dir)
	}
	s, err := store.Open(dir, store.Options{Reserve: -1})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	say := func(what, id string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%s %s\n", what, id)
	}
	for w := range 8 {
		go churn(s, fmt.Sprintf("%x%x", time.Now().UnixNano(), w), say)
	}
	select {}
}

// churn enqueues and, of two messages, finishes one.
func churn(s *store.Badger, prefix string, say func(what, id string)) {
	ctx := context.Background()
	for i := 0; ; i++ {
		id := fmt.Sprintf("%sx%d", prefix, i)
		e, body := crashEntry(id)
		say("try", id)
		leases, err := s.Enqueue(ctx, e, body, time.Minute)
		if err != nil {
			say("error", err.Error())
			return
		}
		say("in", id)
		if i%2 == 0 {
			continue
		}
		say("end", id)
		if _, err := s.Finish(ctx, []store.Outcome{{Lease: leases[0]}}); err != nil {
			say("error", err.Error())
			return
		}
		say("out", id)
	}
}

// crashEntry has a body that is told from all others, sometimes a large one.
func crashEntry(id string) (store.Entry, *bytes.Reader) {
	e, body := storetest.Entry(id, store.Leased, "target.example")
	if id[len(id)-1] == '5' {
		body = bytes.NewReader(bytes.Repeat([]byte(id+"\r\n"), 3000))
	}
	return e, body
}

// A ledger is what a child has said: the last word about each id.
type ledger map[string]string

// said collects the words of a child, over all its lives.
type said struct {
	mu       sync.Mutex
	words    ledger
	problems []string
	ended    chan struct{} // the last child has said all
}

func newSaid(r io.Reader) *said {
	s := &said{words: ledger{}}
	s.listen(r)
	return s
}

func (s *said) listen(r io.Reader) {
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			what, id, ok := strings.Cut(lines.Text(), " ")
			s.mu.Lock()
			if what == "error" {
				s.problems = append(s.problems, id)
			} else if ok {
				s.words[id] = what
			}
			s.mu.Unlock()
		}
	}()
}

func (s *said) copy() ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.words)
}

func TestKill(t *testing.T) {
	kills, life := 3, 150
	if *long {
		kills, life = 50, 1000
	}
	dir, said := t.TempDir(), &said{words: ledger{}}
	for range kills {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		said.listen(out)
		time.Sleep(time.Duration(30+rand.IntN(life)) * time.Millisecond)
		child.Process.Kill()
		<-said.ended
		if child.Wait(); len(said.problems) > 0 {
			t.Fatal(said.problems)
		}
		checkLedger(t, dir, said.copy())
	}
	t.Logf("%d ids, %d kills", len(said.words), kills)
}

// checkLedger opens the store and compares it with what was acknowledged.
func checkLedger(t *testing.T, dir string, said ledger) {
	t.Helper()
	s := openWith(t, dir, store.Options{})
	defer s.Close()
	if d := checked(t, s); d != (store.Damage{Checked: true}) {
		t.Errorf("damage after a mere kill: %+v", d)
	}
	there := listed(t, s)
	for id, last := range said {
		switch e, ok := there[id]; {
		case last == "in" && !ok:
			t.Errorf("%s was acknowledged and is lost", id)
		case last == "out" && ok:
			t.Errorf("%s was finished and is there again", id)
		case ok:
			if err := sameBody(s, id); err != nil {
				t.Errorf("%s: %v", id, err)
			}
			if e.Deliveries[0].State != store.Queued {
				t.Errorf("%s is %s", id, e.Deliveries[0].State)
			}
		}
		delete(there, id)
	}
	if len(there) > 0 {
		t.Errorf("never enqueued: %v", slices.Collect(maps.Keys(there)))
	}
}

// checked waits until all bodies have been verified.
func checked(t testing.TB, s *store.Badger) store.Damage {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if d := s.Damage(); d.Checked {
			return d
		}
	}
	t.Fatal("bodies are not verified")
	return store.Damage{}
}

func listed(t testing.TB, s *store.Badger) map[string]store.Entry {
	t.Helper()
	there := map[string]store.Entry{}
	for cursor := ""; ; {
		es, next, err := s.List(context.Background(), store.Filter{}, cursor, 500)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			there[e.ID] = e
		}
		if cursor = next; next == "" {
			return there
		}
	}
}

// sameBody compares a stored body with what crashEntry made.
func sameBody(s *store.Badger, id string) error {
	body, err := s.OpenBody(context.Background(), id)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return err
	}
	_, r := crashEntry(id)
	if want, _ := io.ReadAll(r); !bytes.Equal(got, want) {
		return errors.New("another body")
	}
	return nil
}
