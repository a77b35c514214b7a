package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/internal/control"
	"srsd/store"
)

// queueOf runs a queue with two messages, and returns what runs "srsd queue"
// on it.
func queueOf(t *testing.T) func(args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "srsd.toml")
	text := "hostname = \"mx.alumni.example\"\ndata_dir = \"data\"\n[receive]\nlisten = [\"127.0.0.1:2525\"]\n[forward]\ndomains = [\"alumni.example\"]\npostmaster = \"root@target.example\"\n[srs]\ndomain = \"srs.alumni.example\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	queue, err := store.Open(filepath.Join(dir, "data"), store.Options{Reserve: -1, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	s := &control.Server{Queue: queue, Logger: log}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Shutdown(context.Background())
		<-done
		queue.Close()
	})
	for i, state := range []store.DeliveryState{store.Queued, store.Failed} {
		target := envelope.MustParse("jo.private@target.example")
		e := store.Entry{
			Message: envelope.Message{ID: fmt.Sprintf("q%d", i), Received: time.Now().Add(-3 * time.Minute), ReversePath: envelope.MustParse("ann@sender.example"), Size: 5000, SPF: "pass"},
			Deliveries: []store.Delivery{{
				Domain: "target.example", State: state, Due: time.Now().Add(time.Hour), Tries: 1,
				Routes:   []envelope.Route{{Alias: envelope.MustParse("jo@alumni.example"), Target: target}},
				Attempts: []store.Attempt{{At: time.Now(), Remote: "mx.target.example", Reply: envelope.NewReply(450, envelope.EnhancedCode{4, 2, 1}, "later\x1b[2J")}},
			}},
		}
		if _, err := queue.Enqueue(t.Context(), e, strings.NewReader("Subject: hello\r\n\r\ntext\r\n"), 0); err != nil {
			t.Fatal(err)
		}
	}
	return func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		status := run(append(append([]string{"queue"}, args...), "-c", config), console{In: strings.NewReader(""), Out: &out, Err: &errs})
		return status, out.String(), errs.String()
	}
}

func TestQueueList(t *testing.T) {
	srsd := queueOf(t)
	status, out, errs := srsd("list", "--json")
	var list []struct {
		ID          string
		ReversePath string `json:"reverse_path"`
		Size        int64
		Received    time.Time
		Recipients  []struct {
			Alias, Target, State string
			Attempts             int
			NextAttempt          *time.Time `json:"next_attempt"`
			LastReply            string     `json:"last_reply"`
		}
	}
	if err := json.Unmarshal([]byte(out), &list); status != 0 || err != nil || len(list) != 1 {
		t.Fatalf("exit %d, %v: %s%s", status, err, out, errs)
	}
	m := list[0]
	if m.ID != "q0" || m.ReversePath != "ann@sender.example" || m.Size != 5000 || m.Received.IsZero() || len(m.Recipients) != 1 {
		t.Errorf("%+v", m)
	}
	if r := m.Recipients[0]; r.Alias != "jo@alumni.example" || r.Target != "jo.private@target.example" || r.State != "queued" ||
		r.Attempts != 1 || r.NextAttempt == nil || !strings.HasPrefix(r.LastReply, "450 4.2.1 later") {
		t.Errorf("%+v", r)
	}
	if _, out, _ = srsd("list"); !strings.Contains(out, "jo@alumni.example -> jo.private@target.example  queued after 1 attempt, next in 59m") || strings.Contains(out, "\x1b") {
		t.Errorf("text: %q", out)
	}
	if _, out, _ = srsd("list", "--failed"); !strings.Contains(out, "q1") || strings.Contains(out, "q0") {
		t.Errorf("failed: %s", out)
	}
	if _, out, _ = srsd("list", "--count"); out != "1\n" {
		t.Errorf("count: %q", out)
	}
	if _, out, _ = srsd("list", "--older-than", "1h", "--json"); out != "[]\n" {
		t.Errorf("none: %q", out)
	}
}

func TestQueueShow(t *testing.T) {
	srsd := queueOf(t)
	if status, out, _ := srsd("show", "q0"); status != 0 || !strings.Contains(out, "Subject: hello") || !strings.Contains(out, "450 4.2.1 later?[2J") {
		t.Errorf("exit %d: %q", status, out)
	}
	if status, out, _ := srsd("show", "q0", "--json"); status != 0 || !json.Valid([]byte(out)) {
		t.Errorf("exit %d: %q", status, out)
	}
	if status, _, errs := srsd("show", "q7"); status != 1 || !strings.Contains(errs, "q7") {
		t.Errorf("exit %d: %q", status, errs)
	}
}

func TestQueueEdit(t *testing.T) {
	srsd := queueOf(t)
	for _, test := range []struct {
		args   string
		status int
		says   string
	}{
		{"hold", 2, "--all"},
		{"hold q0", 0, "1 delivery held"},
		{"hold q0", 1, "nothing was held"},
		{"release --all --domain target.example", 0, "1 delivery released"},
		{"retry q0", 0, "1 delivery tried now"},
		{"drop --all --state failed --json", 0, `{"changed": 1}`},
		{"drop --all", 0, "1 delivery dropped"},
		{"drop --all", 0, "0 deliveries dropped"},
		{"retry q0", 1, "nothing"},
	} {
		status, out, errs := srsd(strings.Fields(test.args)...)
		if status != test.status || !strings.Contains(out+errs, test.says) {
			t.Errorf("%s: exit %d, %s%s", test.args, status, out, errs)
		}
	}
}

func TestQueueNotRunning(t *testing.T) {
	config := filepath.Join(t.TempDir(), "srsd.toml")
	text := "hostname = \"mx.alumni.example\"\n[receive]\nlisten = [\"127.0.0.1:2525\"]\n[forward]\ndomains = [\"alumni.example\"]\npostmaster = \"root@target.example\"\n[srs]\ndomain = \"srs.alumni.example\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	status := run([]string{"queue", "list", "-c", config}, console{Out: &out, Err: &errs})
	if status != 1 || !strings.Contains(errs.String(), "srsd is not running on data_dir") {
		t.Errorf("exit %d: %s", status, errs.String())
	}
}
