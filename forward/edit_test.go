package forward_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srsd/envelope"
	"srsd/forward"
	"srsd/forward/watch"
)

var long = flag.Bool("long", false, "run the slow tests too")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// edits are what editors, scripts and people do to a file.
var edits = map[string]func(path, text string) error{
	"in place": func(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) },
	"rename over": func(path, text string) error {
		return errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path))
	},
	"delete and create": func(path, text string) error {
		return errors.Join(os.Remove(path), os.WriteFile(path, []byte(text), 0o600))
	},
	"move away and write": func(path, text string) error {
		return errors.Join(os.Rename(path, path+"~"), os.WriteFile(path, []byte(text), 0o600))
	},
	"truncate, think, write in pieces": func(path, text string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		time.Sleep(30 * time.Millisecond)
		_, err1 := f.WriteString(text[:len(text)/3])
		_, err2 := f.WriteString(text[len(text)/3:])
		return errors.Join(err1, err2, f.Close())
	},
	"append": func(path, text string) error {
		old, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(text, string(old)) {
			return os.WriteFile(path, []byte(text), 0o600)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text[len(old):])
		return errors.Join(err, f.Close())
	},
	"a broken one first": func(path, text string) error {
		err := os.WriteFile(path, []byte("jo@club.example: wrong@t.example\njo\n"), 0o600)
		time.Sleep(150 * time.Millisecond)
		return errors.Join(err, os.WriteFile(path, []byte(text), 0o600))
	},
}

// TestEditsUnderLoad edits the table in all these ways while it is asked, with a
// reload for each that the watcher sees, and others in between: whoever was there is there at every
// moment, whoever was not is not, and the last edit is live soon.
func TestEditsUnderLoad(t *testing.T) {
	t.Parallel()
	rounds := 4
	if *long {
		rounds = 100/len(edits) + 1
	}
	path := filepath.Join(t.TempDir(), "aliases")
	var text strings.Builder
	text.WriteString("jo@club.example: jo@t.example\n")
	for i := range 2000 {
		fmt.Fprintf(&text, "filler%d@club.example: filler%d@t.example\n", i, i)
	}
	text.WriteString("ann@club.example: ann@t.example\n")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &living{t: t, config: forward.Config{Domains: []string{"club.example"}, Files: []string{path}}}
	if err := l.reload(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := watch.Watch(ctx, []string{path}, func() { _ = l.reload() }); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		running.Go(func() { l.ask(ctx) })
	}
	running.Go(func() { l.hangUp(ctx) })
	n := 0
	for range rounds {
		for how, edit := range edits {
			name := fmt.Sprintf("new%d", n)
			n++
			fmt.Fprintf(&text, "%s@club.example: new@t.example\n", name)
			if err := edit(path, text.String()); err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			time.Sleep(time.Duration(n%3) * 40 * time.Millisecond)
			if n%9 == 0 {
				l.eventually(how, name)
			}
		}
	}
	l.eventually("the last", fmt.Sprintf("new%d", n-1))
	cancel()
	running.Wait()
	t.Logf("%d edits, %d reloads, %d answers", n, l.reloads.Load(), l.answers.Load())
}

// living is a table that is replaced while it is asked.
type living struct {
	t                *testing.T
	config           forward.Config
	table            atomic.Pointer[forward.Table]
	reloading        sync.Mutex
	reloads, answers atomic.Int64
}

// reload keeps the old table where the new one is bad, as the relay does.
func (l *living) reload() error {
	l.reloading.Lock()
	defer l.reloading.Unlock()
	table, err := forward.Load(l.config)
	if err == nil {
		l.table.Store(table)
		l.reloads.Add(1)
	}
	return err
}

// hangUp reloads at moments that nobody has chosen, as SIGHUP may.
func (l *living) hangUp(ctx context.Context) {
	for ctx.Err() == nil {
		_ = l.reload()
		time.Sleep(11 * time.Millisecond)
	}
}

func (l *living) has(name string) (string, error) {
	e, err := l.table.Load().Expand(envelope.MustParse(name + "@club.example"))
	if err != nil {
		return "", err
	}
	return e.Targets[0].Address.Local(), nil
}

func (l *living) ask(ctx context.Context) {
	for ctx.Err() == nil {
		for _, name := range []string{"jo", "ann"} {
			if got, err := l.has(name); err != nil || got != name {
				l.t.Errorf("%s became %q, %v", name, got, err)
				return
			}
		}
		if _, err := l.has("nobody"); !errors.Is(err, forward.ErrUnknown) {
			l.t.Errorf("nobody: %v", err)
			return
		}
		l.answers.Add(3)
		time.Sleep(time.Millisecond)
	}
}

func (l *living) eventually(how, name string) {
	l.t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := l.has(name); err == nil {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("%s: %s is not live after 5 s", how, name)
		}
	}
}
