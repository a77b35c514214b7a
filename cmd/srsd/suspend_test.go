package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/internal/relay"
	"srsd/internal/suspend"
	"srsd/store"
)

// suspendedHouse runs a relay in which Jo's target has been suspended.
func suspendedHouse(t *testing.T) (config string) {
	t.Helper()
	config = aliasHouse(t, "jo@alumni.example: jo.private@target.example\n")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	// A path short enough for a socket, whatever the test is called.
	if err := os.WriteFile(config, append([]byte("data_dir = \"d\"\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := relay.LoadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	target := envelope.MustParse("jo.private@target.example")
	record, err := json.Marshal(suspend.Record{
		Target: target, Aliases: []envelope.Address{envelope.MustParse("jo@alumni.example")},
		Refused: suspend.Run{Count: 5}, Since: time.Date(2026, 11, 21, 10, 0, 0, 0, time.Local), Reason: "550 5.1.1 unknown",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(filepath.Dir(config), "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(c.DataDir, store.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "suspend", target.Key(), record, store.AnyRevision, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(c, relay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return config
}

func TestSuspendedAndResume(t *testing.T) {
	config := suspendedHouse(t)
	ask := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		status := run(append(append([]string{"alias"}, args...), "-c", config), console{In: strings.NewReader(""), Out: &out, Err: &errs})
		return status, out.String(), errs.String()
	}
	for _, c := range []struct {
		args   string
		status int
		out    string
	}{
		{"suspended", 0, "jo.private@target.example  suspended 2026-11-21 10:00:00\n  mail for jo@alumni.example\n  the last of 5 bounces: 550 5.1.1 unknown\n1 suspended target\n"},
		{"resume who@alumni.example", 1, ""},
		{"resume nonsense", 2, ""},
		{"resume jo@alumni.example", 0, "jo.private@target.example takes mail for jo@alumni.example again\n"},
		{"resume jo@alumni.example", 1, ""},
		{"suspended", 0, "0 suspended targets\n"},
		{"suspended --json", 0, "[]\n"},
	} {
		status, out, errs := ask(strings.Fields(c.args)...)
		if status != c.status || out != c.out || (errs == "") != (status == 0) {
			t.Errorf("%s: %d\n%s%s", c.args, status, out, errs)
		}
	}
}

func TestSuspendedJSON(t *testing.T) {
	config := suspendedHouse(t)
	for _, args := range [][]string{{"suspended", "--json"}, {"resume", "<jo.private@target.example>", "--json"}} {
		status, out, errs := aliasRun(append(args, "-c", config)...)
		var got []struct{ Target, Reason string }
		if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 || len(got) != 1 || got[0].Target != "jo.private@target.example" || got[0].Reason == "" {
			t.Errorf("%v: %d %v %s%s", args, status, err, out, errs)
		}
	}
}

func TestSuspendedNotRunning(t *testing.T) {
	config := aliasHouse(t, "")
	if status, _, errs := aliasRun("suspended", "-c", config); status != 1 || !strings.Contains(errs, "not running") {
		t.Errorf("%d %s", status, errs)
	}
}
