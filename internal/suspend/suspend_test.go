package suspend

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"srsd/envelope"
	"srsd/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A memory is the part of a store that a List needs.
type memory struct {
	store.State
	values map[string][]byte
	puts   int
	broken error
}

func (m *memory) Put(_ context.Context, _, key string, value []byte, _ int64, _ time.Duration) error {
	m.puts++
	if m.broken != nil {
		return m.broken
	}
	if m.values[key] = value; value == nil {
		delete(m.values, key)
	}
	return nil
}

func (m *memory) Scan(_ context.Context, _, _ string, fn func(string, store.Value) error) error {
	for k, v := range m.values {
		if err := fn(k, store.Value{Data: v}); err != nil {
			return err
		}
	}
	return nil
}

// A world is a list with a clock.
type world struct {
	*List
	state *memory
	now   time.Time
}

const day = 24 * time.Hour

func newWorld(t testing.TB, p Policy) *world {
	t.Helper()
	w := &world{state: &memory{values: map[string][]byte{}}, now: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)}
	w.reopen(t, p)
	return w
}

func (w *world) reopen(t testing.TB, p Policy) {
	t.Helper()
	l, err := Open(context.Background(), Config{State: w.state, Policy: p, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	w.List = l
}

var (
	jo     = envelope.MustParse("jo@alumni.example")
	target = envelope.MustParse("jo.private@target.example")
	route  = envelope.Route{Alias: jo, Target: target}
	yes    = envelope.NewReply(250, envelope.EnhancedCode{2, 0, 0}, "taken")
	no     = envelope.NewReply(550, envelope.EnhancedCode{5, 1, 1}, "unknown")
	later  = envelope.NewReply(451, envelope.EnhancedCode{4, 2, 1}, "later")
	spam   = envelope.NewReply(550, envelope.EnhancedCode{5, 7, 1}, "spam")
	usual  = Policy{After: 5, Within: 7 * day}
)

// play plays a string: n a refusal, y an acceptance, l a deferral, s a refusal
// for the content, r a bounce that came home, a digit so many hours.
func (w *world) play(script string) bool {
	for _, c := range script {
		switch c {
		case 'n':
			w.Observe(route, no)
		case 'y':
			w.Observe(route, yes)
		case 'l':
			w.Observe(route, later)
		case 's':
			w.Observe(route, spam)
		case 'r':
			w.Reported(target, jo, no)
		case 'd':
			w.now = w.now.Add(day)
		default:
			w.now = w.now.Add(time.Duration(c-'0') * time.Hour)
		}
	}
	return w.Suspended(target)
}

func TestWhenSuspended(t *testing.T) {
	for script, want := range map[string]bool{
		"":               false,
		"nnnnnnnnnn":     false, // one bad afternoon
		"nnnnn9n9n":      false,
		"nnnndn":         true,
		"n9n9n9n9n":      true,
		"ndndndn":        false, // four
		"ndndndndn":      true,
		"nndnnydn":       false, // it was alive in between
		"nnnnydnnnn":     false,
		"ndnsldndndn":    true,  // what says nothing about the mailbox does not count
		"sdsdsdsdsds":    false, //
		"nddndddndddndn": false, // too slow: a run begins anew after a week
		"rdrdrdrdr":      true,
		"yrdyrdyrdyrdyr": true, // accepted first, and returned later
		"rdrdryyyydrdr":  false,
		"ryyyyyyyrrrrd":  false,
		"rdndrdndr":      false, // three and two
	} {
		w := newWorld(t, usual)
		if got := w.play(script); got != want {
			t.Errorf("%s: %v", script, got)
		}
		w.reopen(t, usual)
		if got := w.Suspended(target); got != want {
			t.Errorf("%s: %v after a restart", script, got)
		}
	}
}

func TestHard(t *testing.T) {
	for reply, want := range map[string]bool{
		"550 5.1.1 unknown": true, "550 5.2.1 disabled": true, "552 5.2.2 full": true, "550 5.1.10 null MX": true, "550 5.1.2 no such host": true,
		"552 5.2.3 too large": false, "553 5.1.8 sender's domain": false, "550 5.7.1 spam": false, "554 5.6.0 content": false, "550 5.4.6 loop": false,
		"451 4.1.1 later": false, "250 2.1.5 ok": false,
		"550 No such user here": true, "550 User unknown": true, "550 mailbox unavailable": true, "554 This user doesn't have an account": true,
		"554 Message refused as spam": false, "550 go away": false,
	} {
		code, text, _ := strings.Cut(reply, " ")
		r := envelope.Reply{Code: int(code[0]-'0')*100 + 50, Text: text}
		if len(text) > 4 && text[1] == '.' {
			number, rest, _ := strings.Cut(text, " ")
			parts := strings.Split(number, ".")
			detail := int(parts[2][0] - '0')
			if len(parts[2]) == 2 {
				detail = 10*detail + int(parts[2][1]-'0')
			}
			r.Enhanced, r.Text = envelope.EnhancedCode{int(parts[0][0] - '0'), int(parts[1][0] - '0'), detail}, rest
		}
		if Hard(r) != want {
			t.Errorf("%s: %v", reply, !want)
		}
	}
}

// TestNoTarget leaves alone what is on its way home, and our own reports.
func TestNoTarget(t *testing.T) {
	w := newWorld(t, usual)
	for range 10 {
		w.now = w.now.Add(12 * time.Hour)
		w.Observe(envelope.Route{Alias: jo, Target: target, Return: true}, no)
		w.Observe(envelope.Route{Alias: target, Target: target}, no)
	}
	if w.Suspended(target) || len(w.state.values) != 0 {
		t.Error(w.state.values)
	}
}

func TestResume(t *testing.T) {
	w := newWorld(t, usual)
	w.play("nnnndn")
	all := w.All()
	if len(all) != 1 || all[0].Target != target || all[0].Refused.Count != 5 || !slices.Contains(all[0].Aliases, jo) || all[0].Reason != "550 5.1.1 unknown" {
		t.Fatalf("%+v", all)
	}
	if _, err := w.Resume(context.Background(), envelope.MustParse("who@alumni.example")); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	ended, err := w.Resume(context.Background(), envelope.MustParse("JO@alumni.example"))
	if err != nil || len(ended) != 1 || w.Suspended(target) || len(w.state.values) != 0 {
		t.Error(ended, err, w.state.values)
	}
	if w.play("nnnn") {
		t.Error("suspended by what was before")
	}
	if w.play("dn"); !w.Suspended(target) {
		t.Error("not suspended again")
	}
	if _, err := w.Resume(context.Background(), target); err != nil || w.Suspended(target) {
		t.Error(err)
	}
}

// TestOff keeps what is there, and uses none of it.
func TestOff(t *testing.T) {
	w := newWorld(t, usual)
	w.play("nnnndn")
	w.SetPolicy(Policy{})
	if w.play("ndn") {
		t.Error("suspended")
	}
	w.SetPolicy(usual)
	if !w.Suspended(target) {
		t.Error("forgotten")
	}
}

// TestSuccessIsFree writes nothing and takes no memory for a target without a
// record, which is nearly every one.
func TestSuccessIsFree(t *testing.T) {
	w := newWorld(t, usual)
	if n := testing.AllocsPerRun(100, func() { w.Observe(route, yes); w.Suspended(target) }); n > 0 || w.state.puts > 0 {
		t.Errorf("%v allocations, %d writes", n, w.state.puts)
	}
}

// TestStoreBroken goes on from memory.
func TestStoreBroken(t *testing.T) {
	w := newWorld(t, usual)
	w.state.broken = errors.New("disk")
	if !w.play("nnnndn") {
		t.Error("not suspended")
	}
	if _, err := w.Resume(context.Background(), jo); err == nil || !w.Suspended(target) {
		t.Error("resumed for as long as the process lives, and then suspended again")
	}
}

func TestHook(t *testing.T) {
	dir := t.TempDir()
	hook := filepath.Join(dir, "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\" > "+dir+"/out\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Policy{After: 1, Hook: hook})
	w.Observe(envelope.Route{Alias: jo, Target: target}, envelope.NewReply(550, envelope.EnhancedCode{5, 1, 1}, "$(touch x); `no` \"shell\"\x00"))
	w.hooks.running.Wait()
	out, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if diff := cmp.Diff("jo@alumni.example\njo.private@target.example\n550 5.1.1 $(touch x); `no` \"shell\"?\n", string(out)); diff != "" {
		t.Error(diff)
	}
}

// TestHookHangs ends a hook with the list.
func TestHookHangs(t *testing.T) {
	w := newWorld(t, Policy{After: 1, Hook: "/bin/sleep"})
	w.hooks.run("/bin/sleep", "60", "x")
	start := time.Now()
	if w.Close(); time.Since(start) > 10*time.Second {
		t.Error("waited for it")
	}
}

// TestSuspendedMeansEnough compares with the rule in words: whoever is suspended
// has had five hard bounces of one kind within a week.
func TestSuspendedMeansEnough(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, usual)
		script := rapid.StringOfN(rapid.RuneFrom([]rune("nnnyrrlsd19")), 0, 60, -1).Draw(rt, "script")
		if w.play(script) && strings.Count(script, "n") < 5 && strings.Count(script, "r") < 5 {
			rt.Fatal("suspended too early")
		}
		if w.Suspended(target) != (len(w.All()) == 1) {
			rt.Fatal("the list says something else")
		}
	})
}
