package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srsd/internal/control"
	"srsd/store"
	"srsd/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server on dir, over a queue that is made in it.
func serve(t *testing.T, dir string, verbs map[string]control.Verb) (*store.Badger, *control.Client) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	queue, err := store.Open(dir, store.Options{Reserve: -1, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &control.Server{Queue: queue, Verbs: verbs, Logger: log}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Shutdown(context.Background()), <-served, queue.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "control.sock")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	c, err := control.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	return queue, c
}

func fill(t *testing.T, q store.Queue, n int, state store.DeliveryState) {
	t.Helper()
	for i := range n {
		e, _ := storetest.Entry(fmt.Sprintf("%c%03d", state[0], i), state, fmt.Sprintf("d%d.example", i%2))
		body := bytes.NewReader([]byte("Subject: hello\r\nX: y\r\n\r\nsecret body\r\n"))
		if _, err := q.Enqueue(t.Context(), e, body, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQueue(t *testing.T) {
	q, c := serve(t, t.TempDir(), nil)
	fill(t, q, 450, store.Queued) // several pages
	fill(t, q, 3, store.Failed)
	ctx := t.Context()
	ids := func(s control.Selection) (ids []string) {
		t.Helper()
		if err := c.List(ctx, s, func(e store.Entry) error { ids = append(ids, e.ID); return nil }); err != nil {
			t.Fatal(err)
		}
		n, err := c.Count(ctx, s)
		if err != nil || n != len(ids) {
			t.Errorf("%d listed, counted %d, %v", len(ids), n, err)
		}
		return ids
	}
	if got := ids(control.Selection{}); len(got) != 450 || got[0] != "q000" || got[449] != "q449" {
		t.Errorf("listed %d", len(got))
	}
	if got := ids(control.Selection{Filter: store.Filter{State: store.Failed}, Failed: true}); len(got) != 3 {
		t.Errorf("failed: %v", got)
	}
	if got := ids(control.Selection{Filter: store.Filter{Domain: "d1.example"}}); len(got) != 225 {
		t.Errorf("%d of one domain", len(got))
	}
	var seen []int
	n, err := c.Edit(ctx, store.Filter{Domain: "d1.example"}, store.Hold, func(n int) { seen = append(seen, n) })
	if err != nil || n != 225 || len(seen) < 2 || seen[len(seen)-1] != n {
		t.Errorf("held %d, %v, progress %v", n, err, seen)
	}
	if got := ids(control.Selection{Filter: store.Filter{State: store.Held}}); len(got) != 225 {
		t.Errorf("%d are held", len(got))
	}
	if n, err := c.Edit(ctx, store.Filter{}, store.Drop, nil); err != nil || n != 453 {
		t.Errorf("dropped %d, %v", n, err)
	}
	if _, err := c.Edit(ctx, store.Filter{IDs: []string{"q000"}}, "explode", nil); err != nil {
		t.Errorf("an unknown action on nothing: %v", err)
	}
}

func TestShow(t *testing.T) {
	q, c := serve(t, t.TempDir(), nil)
	fill(t, q, 1, store.Queued)
	fill(t, q, 1, store.Failed)
	s, err := c.Show(t.Context(), "q000")
	if err != nil || s.Header != "Subject: hello\r\nX: y\r\n" || s.Entry.Deliveries[0].Domain != "d0.example" {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = c.Show(t.Context(), "f000"); err != nil || s.Header != "" || s.Note == "" {
		t.Errorf("failed: %+v, %v", s, err)
	}
	if _, err := c.Show(t.Context(), "nosuch"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no entry: %v", err)
	}
}

func TestVerbs(t *testing.T) {
	_, c := serve(t, t.TempDir(), map[string]control.Verb{
		"echo": func(_ context.Context, args json.RawMessage, say func(any) error) error {
			return errors.Join(say(args), say(1), say("two"))
		},
		"fail": func(context.Context, json.RawMessage, func(any) error) error { return errors.New("it failed") },
	})
	var got []string
	err := c.Do(t.Context(), "echo", map[string]int{"a": 1}, func(line json.RawMessage) error {
		got = append(got, string(line))
		return nil
	})
	if err != nil || strings.Join(got, " ") != `{"a":1} 1 "two"` {
		t.Errorf("%q, %v", got, err)
	}
	if err := c.Do(t.Context(), "fail", nil, nil); err == nil || err.Error() != "it failed" {
		t.Errorf("fail: %v", err)
	}
	if err := c.Do(t.Context(), "unknown", nil, nil); err == nil {
		t.Error("an unknown verb is no error")
	}
}

func TestNotRunning(t *testing.T) {
	dir := t.TempDir()
	if _, err := control.Dial(dir); !errors.Is(err, control.ErrNotRunning) || !strings.Contains(err.Error(), dir) {
		t.Errorf("no socket: %v", err)
	}
	// What a killed process leaves.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "control.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := control.Dial(dir); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("stale socket: %v", err)
	}
	_, c := serve(t, dir, nil)
	if _, err := c.Count(t.Context(), control.Selection{}); err != nil {
		t.Error(err)
	}
	if _, err := control.Listen(dir); err == nil {
		t.Error("a second listener")
	}
	fi, err := os.Stat(filepath.Join(dir, "control.sock"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

// TestLongPath has a data directory with a path that no socket can have.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), strings.Repeat("path", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	q, c := serve(t, dir, nil)
	fill(t, q, 1, store.Queued)
	if n, err := c.Count(t.Context(), control.Selection{}); n != 1 || err != nil {
		t.Error(n, err)
	}
}
