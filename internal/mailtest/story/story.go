// Package story runs stories: files that tell what happens to a message, from
// the client's first line to what the target got, in a form that can be read
// without knowing the code.
//
// A story is a txtar file. The text above its first section says what it is
// about. The sections are:
//
//	-- config --       keys of srsd.toml, over those that every story has
//	-- aliases --      the alias file; without it, jo@alumni.example: kim@target.example
//	-- zone --         the DNS, as mailtest.NewDNS reads it, beside the lines for alumni.example
//	-- target --       what the mail servers do: "HOST MOMENT …", as mailtest.MX.Script reads it
//	-- dialogue --     one session of a client, as mailtest.Client.Run reads it
//	-- wait 15m --     the relay's clock is moved
//	-- delivered --    what the mail servers took since the start, or since the last such section
//
// Everything from the first dialogue on happens in the order of the file. A
// section may come again, with anything behind its name to tell them apart
// ("dialogue: the bounce"); another zone replaces the first, another target
// section gives the hosts it names a new script. "HOST off" in it ends a server,
// "HOST tls" makes it offer STARTTLS.
//
// The relay is mx.alumni.example, with the alias domain alumni.example and the
// SRS domain srs.alumni.example, at NET.1. NET stands for the first three
// numbers of the story's own network in 127.0.0.0/8, REV for the same three in
// the order of in-addr.arpa. Every host that an MX record names and that has an
// address there is a mail server; all use one port. A dialogue comes from
// NET.9, or from elsewhere where its first line says so: "from NET.7". Without
// a zone section, target.example is at NET.10 and origin.example, which allows
// NET.9 to send for it, at NET.20.
//
// In what was delivered, that which is new in every run has a fixed name: DATE,
// ID, SIZE=N, PORT, BOUNDARY, and HASH and TT in SRS addresses. A dialogue that
// says RCPT TO:<SRS0=HASH=TT=origin.example=ann@srs.alumni.example> means the
// address that was delivered under this name.
//
// "go test -update" writes the delivered sections as they are now.
package story

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"srsd/internal/mailtest"
)

var update = flag.Bool("update", false, "rewrite what stories say was delivered")

// A Relay is the thing that stories are about.
type Relay interface {
	// Addr is where it takes mail, "host:port".
	Addr() string
	// Advance moves the relay's clock, wakes its queue, and returns when what
	// has become due was tried, so that several waits in a row are several
	// attempts.
	Advance(d time.Duration)
	Close() error
}

// A Start starts a relay from the configuration DIR/srsd.toml, which names
// everything else it needs, the DNS server too.
type Start func(dir, dns string) (Relay, error)

// Run runs the story in a file.
func Run(t testing.TB, file string, start Start) {
	t.Helper()
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(t.TempDir(), ar)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	t.Cleanup(func() { w.close() })
	relay, err := start(w.dir, w.dns.Addr())
	if err != nil {
		t.Fatalf("%s: start: %v", file, err)
	}
	t.Cleanup(func() {
		if err := relay.Close(); err != nil {
			t.Errorf("%s: close: %v", file, err)
		}
	})
	w.relay = relay
	for i, s := range ar.Files {
		err := w.step(t, s, i < firstStep(ar), &ar.Files[i].Data)
		if err != nil {
			t.Fatalf("%s: section %q: %v", file, s.Name, err)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// firstStep is the number of the section with which the story begins; those
// before it are the state of the world.
func firstStep(ar *txtar.Archive) int {
	for i, s := range ar.Files {
		switch kindOf(s.Name) {
		case "dialogue", "wait", "delivered":
			return i
		}
	}
	return len(ar.Files)
}

// kindOf is the first word of a section's name.
func kindOf(name string) string {
	if i := strings.IndexAny(name, " .:"); i >= 0 {
		name = name[:i]
	}
	return name
}

// step does what a section says. Those of the beginning are done already.
func (w *world) step(t testing.TB, s txtar.File, beginning bool, data *[]byte) error {
	switch kindOf(s.Name) {
	case "config", "aliases":
		if !beginning {
			return errors.New("this section must stand before the first dialogue")
		}
	case "zone", "target":
		switch {
		case beginning && s.Name != kindOf(s.Name):
			return errors.New("only one is needed before the first dialogue")
		case beginning:
		case kindOf(s.Name) == "zone":
			return w.setZone(string(s.Data))
		default:
			return w.target(string(s.Data))
		}
	case "dialogue":
		return w.dialogue(t, string(s.Data))
	case "wait":
		d, err := duration(strings.TrimSpace(strings.TrimPrefix(s.Name, "wait")))
		if err != nil {
			return err
		}
		w.relay.Advance(d)
	case "delivered":
		return w.delivered(t, s, data)
	default:
		return errors.New("no section is called so")
	}
	return nil
}

// duration reads what Go reads, and days: "3d".
func duration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// dialogue runs one session. Its lines are told where the test fails.
func (w *world) dialogue(t testing.TB, text string) error {
	from := w.net + ".9"
	text, err := w.actual(text)
	if err != nil {
		return err
	}
	if first, rest, _ := strings.Cut(text, "\n"); strings.HasPrefix(first, "from ") {
		from, text = strings.TrimSpace(strings.TrimPrefix(first, "from ")), rest
	}
	c, err := mailtest.Dial(t.Context(), w.relay.Addr(), from)
	if err != nil {
		return err
	}
	defer c.Close()
	var said []string
	c.Log = func(line string) { said = append(said, line) }
	if err := c.Run(text); err != nil {
		return fmt.Errorf("%w\nso far:\n%s", err, strings.Join(said, "\n"))
	}
	return nil
}

// delivered compares, or writes where the test is run with -update.
func (w *world) delivered(t testing.TB, s txtar.File, data *[]byte) error {
	want := string(s.Data)
	if *update {
		got := w.render(w.collect(-1))
		*data = []byte(got)
		return nil
	}
	got := w.render(w.collect(strings.Count(want, "\nMAIL FROM:")))
	if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("section %q (-want +got):\n%s", s.Name, d)
	}
	return nil
}
