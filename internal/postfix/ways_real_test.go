package postfix_test

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
)

var long = flag.Bool("long", false, "run the slow tests too")

// TestWays runs every way of docs/postfix.md with a real Postfix; without -long
// only the milter's.
func TestWays(t *testing.T) {
	for i, way := range []struct {
		section string
		local   string // the Return-Path of mail from ann for joe's mailbox: "SRS", "ann", or "" where nobody may write to it
		aliased string // the same for mail through an alias
		fresh   bool   // senders in our own domains are not rewritten
		forged  []string
		down    []string
	}{
		{section: "1. ", local: "SRS", aliased: "SRS", fresh: true, forged: []string{"RCPT: 550 5.1.1"}, down: []string{"RCPT: 451"}},
		{section: "2. ", local: "SRS", aliased: "SRS", fresh: true, forged: []string{"RCPT: 550 5.1.1"}, down: []string{"RCPT: 451"}},
		{section: "3. ", local: "ann", aliased: "ann", fresh: true, forged: []string{"RCPT: 550 5.1.1"}, down: []string{"EHLO: 451", "MAIL: 451", "RCPT: 451"}},
		{section: "4. ", local: "ann", aliased: "SRS", forged: []string{"RCPT: 550 5.1.1"}, down: []string{"RCPT: 451"}},
		{section: "5. ", local: "", aliased: "SRS", forged: []string{"RCPT: 550 5.1.1"}},
	} {
		t.Run(strings.TrimSuffix(way.section, ". "), func(t *testing.T) {
			if way.section != "3. " && !*long {
				t.Skip("slow: run with -long")
			}
			t.Parallel()
			w := newWorld(t, way.section, i+1)

			w.deliver("sender", "ann@sender.example", "jo@alumni.example")
			got := w.await(w.remote, 1)
			srs := got.From()
			if !strings.HasPrefix(srs, "SRS0=") || !strings.HasSuffix(srs, "=sender.example=ann@srs.alumni.example") {
				t.Errorf("jo's mail came from %q", srs)
			}
			if to := fmt.Sprint(got.To()); to != "[jo@remote.example]" {
				t.Errorf("jo's mail went to %s", to)
			}
			if !strings.Contains(string(got.Data), "Received-SPF: pass") {
				t.Errorf("no Received-SPF:\n%s", got.Data)
			}

			w.deliver("remote", "", srs)
			home := w.await(w.sender, 1)
			if home.From() != "" || fmt.Sprint(home.To()) != "[ann@sender.example]" {
				t.Errorf("the bounce came from %q to %q", home.From(), home.To())
			}
			forged := strings.Replace(srs, "=ann@", "=bob@", 1)
			w.refused("forged", "remote", "", forged, way.forged...)
			w.refused("harvested", "spammer", "spam@spam.example", srs, "RCPT: 550")
			w.refused("spoofed", "spammer", "ann@sender.example", "jo@alumni.example", "RCPT: 550 5.7.23…explains: 100% not ours", "MAIL: 550 5.7.23…explains: 100% not ours")
			w.refused("unknown", "sender", "ann@sender.example", "nobody@alumni.example", "RCPT: 550 5.1.1")

			w.mailboxes(way.local, way.aliased)
			if way.fresh {
				w.deliver("house", "joe@mailbox.example", "jo@alumni.example")
				w.awaitFrom(w.remote, "joe@mailbox.example")
			}
			w.reloadUnderLoad()
			if way.down != nil {
				w.stop()
				w.refused("down", "sender", "ann@sender.example", "jo@alumni.example", way.down...)
				w.start()
				n := len(w.remote.Messages())
				w.deliver("sender", "ann@sender.example", "jo@alumni.example")
				w.await(w.remote, n+1)
			}
		})
	}
}

// mailboxes checks the Return-Path of mail that stays in the house: straight to
// a mailbox, through an alias, and through an alias with a remote target beside.
func (w *world) mailboxes(local, aliased string) {
	w.t.Helper()
	n := 0
	check := func(to, want string) {
		w.t.Helper()
		w.deliver("sender", "ann@sender.example", to)
		n++
		have := map[string]int{}
		for _, text := range w.postfix.Mailbox("joe@mailbox.example", n) {
			have[returnPath(text)]++
		}
		w.t.Logf("%s: %v", to, have)
		if have[want] == 0 {
			w.t.Errorf("mail for %s has the Return-Path of %v, wanted %s", to, have, want)
		}
	}
	if local != "" {
		check("joe@mailbox.example", local)
	}
	check("loc@alumni.example", aliased)
	check("mix@alumni.example", "SRS")
}

func returnPath(text string) string {
	switch line, _, _ := strings.Cut(text, "\n"); {
	case line == "Return-Path: <ann@sender.example>":
		return "ann"
	case strings.HasPrefix(line, "Return-Path: <SRS0="):
		return "SRS"
	default:
		return line
	}
}

// reloadUnderLoad sends mail while srsd reloads all the time.
func (w *world) reloadUnderLoad() {
	w.t.Helper()
	done := make(chan struct{})
	var reloading, sending sync.WaitGroup
	reloading.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := w.relay.Reload(); err != nil {
					w.t.Error(err)
				}
			}
		}
	})
	for range 4 {
		sending.Go(func() {
			for range 5 {
				if err := w.send("sender", "ann@sender.example", "jo@alumni.example"); err != nil {
					w.t.Error("while reloading:", err)
				}
			}
		})
	}
	sending.Wait()
	close(done)
	reloading.Wait()
}
