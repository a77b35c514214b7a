// Package catalogue_test breaks a whole relay in every way that we know: what
// may go wrong around it, one subject a file, each test with the number that it
// must reach. The slow ones run with -long.
package catalogue_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"go.uber.org/goleak"

	"srsd/internal/control"
	"srsd/internal/mailtest"
	"srsd/internal/relay"
	"srsd/store"
)

var long = flag.Bool("long", false, "run the slow tests too")

// soon is how long a test waits for what should come at once.
const soon = 20 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8") // these tests wait more than they work
	dir, err := os.MkdirTemp("", "srsd-catalogue-")
	if err == nil {
		err = trust(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary.path = filepath.Join(dir, "srsd")
	status := m.Run()
	os.RemoveAll(dir)
	if status == 0 {
		// badger's cache and the metrics that it brings along start these for
		// the life of the process.
		err = goleak.Find(
			goleak.IgnoreAnyFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
			goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	os.Exit(status)
}

// networks counts the networks given out, so that no two worlds share one.
var networks atomic.Int32

// A world is everything around a relay, and the relay in it, where it has been
// started in this process.
type world struct {
	t       *testing.T
	dir     string
	net     string // "127.x.y."
	port    int    // of every mail server
	dns     *mailtest.DNS
	aliases string

	log   *journal
	moved atomic.Int64 // how far the relay's clock is ahead, in nanoseconds
	relay *relay.Relay
	addr  string // of its SMTP port
	stop  func()
}

// newWorld makes a network with a DNS. "NET." in a zone becomes the network.
// Aliases are "NAME: NAME@NAME.example" for each name.
func newWorld(t *testing.T, zone string, names ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), log: &journal{}, stop: func() {}}
	w.net = fmt.Sprintf("127.%d.%d.", 200+os.Getpid()%50, networks.Add(1))
	var err error
	if w.dns, err = mailtest.NewDNS(w.zone(zone)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop(); w.dns.Close() })
	l, err := net.Listen("tcp", w.net+"1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	for _, name := range names {
		w.aliases += fmt.Sprintf("%s: %s@%s.example\n", name, name, name)
	}
	return w
}

// ourZone is what every world has: the relay's names, and a sender that may
// send from NET.9.
const ourZone = `
alumni.example     MX 10 mx.alumni.example
srs.alumni.example MX 10 mx.alumni.example
srs.alumni.example TXT v=spf1 ip4:NET.1 -all
mx.alumni.example  A NET.1
origin.example     MX 10 mx.origin.example
origin.example     TXT v=spf1 ip4:NET.9 -all
mx.origin.example  A NET.20
`

func (w *world) zone(text string) string {
	return strings.ReplaceAll(ourZone+text, "NET.", w.net)
}

// at is an address of a mail server of this world.
func (w *world) at(host int) string { return fmt.Sprintf("%s%d:%d", w.net, host, w.port) }

// target starts a sink at NET.host.
func (w *world) target(host int) *sink {
	w.t.Helper()
	return newSink(w.t, w.at(host))
}

// configure writes the files of a relay; overlay is TOML that goes on top.
func (w *world) configure(overlay string) (file string) {
	w.t.Helper()
	c := map[string]any{
		"hostname": "mx.alumni.example",
		"data_dir": "data",
		"receive": map[string]any{"listen": []string{w.net + "1:0"}, "max_connections_per_ip": 1000,
			"max_connections_per_network": 1000},
		"forward": map[string]any{"domains": []string{"alumni.example"}, "aliases": []string{"aliases"},
			"postmaster": "root@target.example"},
		"srs": map[string]any{"domain": "srs.alumni.example"},
		"deliver": map[string]any{"port": w.port, "source": []string{w.net + "1"}, "budget": "2s",
			"retry": []string{"200ms"}, "allow_networks": []string{w.net + "0/24"}},
		"dns": map[string]any{"servers": []string{w.dns.Addr()}, "timeout": "300ms"},
	}
	var more map[string]any
	if _, err := toml.Decode(strings.ReplaceAll(overlay, "NET.", w.net), &more); err != nil {
		w.t.Fatal(err)
	}
	for section, keys := range more {
		old, ok := c[section].(map[string]any)
		if !ok {
			c[section] = keys
			continue
		}
		for k, v := range keys.(map[string]any) {
			old[k] = v
		}
	}
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(c); err != nil {
		w.t.Fatal(err)
	}
	w.write("aliases", w.aliases)
	return w.write("srsd.toml", text.String())
}

func (w *world) write(name, text string) (file string) {
	w.t.Helper()
	file = filepath.Join(w.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// start starts the relay in this process, with a clock that can be moved.
func (w *world) start(overlay string) {
	w.t.Helper()
	c, err := relay.LoadConfig(w.configure(overlay))
	if err != nil {
		w.t.Fatal(err)
	}
	w.relay, err = relay.New(c, relay.Options{Now: w.now,
		Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		w.t.Fatal(err)
	}
	w.addr = w.relay.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.relay.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.moved.Load())) }

// send sends a message from NET.9 and returns the reply to it: to the final dot,
// or to the first command that was refused.
func (w *world) send(from, to, text string) string {
	w.t.Helper()
	s, err := dial(w.addr, w.net+"9")
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	reply, err := s.send(from, to, text)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply
}

// want sends a message from ann@origin.example to an alias, and checks how the
// reply begins.
func (w *world) want(alias, reply string) {
	w.t.Helper()
	text := "From: ann@origin.example\r\nSubject: hello\r\n\r\nHello.\r\n"
	if got := w.send("ann@origin.example", alias+"@alumni.example", text); !strings.HasPrefix(got, reply) {
		w.t.Errorf("to %s: %q, want %s", alias, got, reply)
	}
}

// queue lists the entries of the queue, also those that have failed.
func (w *world) queue() (entries []store.Entry) {
	w.t.Helper()
	c, err := control.Dial(filepath.Join(w.dir, "data"))
	if err != nil {
		w.t.Fatal(err)
	}
	err = c.List(context.Background(), control.Selection{Failed: true}, func(e store.Entry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return entries
}

// waiting says how many deliveries are to be tried again, and failed how many
// were given up.
func (w *world) waiting() (waiting, failed int) {
	w.t.Helper()
	for _, e := range w.queue() {
		for _, d := range e.Deliveries {
			if d.State == store.Failed {
				failed++
			} else {
				waiting++
			}
		}
	}
	return waiting, failed
}

// drained waits until nothing is left to try.
func (w *world) drained() {
	w.t.Helper()
	eventually(w.t, "the queue is empty", func() bool { n, _ := w.waiting(); return n == 0 })
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	within(t, soon, what, so)
}

func within(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v it is still not so: %s", limit, what)
		}
	}
}

// A journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
