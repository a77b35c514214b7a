package story

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"srsd/internal/mailtest"
	"srsd/internal/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			Run(t, file, startToy)
		})
	}
}

// A recorder is a test that may fail without failing the test it is in.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { r.said += fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// A story that does not go as written must fail, and say where.
func TestStoriesFail(t *testing.T) {
	hello := "-- dialogue --\nS: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<jo@alumni.example>\nS: 250\nC: DATA\nS: 354\n| x\nC: .\nS: 250\n"
	for story, want := range map[string]string{
		"-- dialogue --\nS: 220\nC: EHLO x\nS: 550\n":                                                             `line 3 of the dialogue: "S: 550"`,
		hello + "-- delivered --\nat mx.target.example\nMAIL FROM:<> SIZE=N\nRCPT TO:<kim@target.example>\n| y\n": `section "delivered" (-want +got)`,
		"-- dialogue --\nC: RCPT TO:<SRS0=HASH=TT=b.example=a@srs.alumni.example>\n":                              "nothing was delivered from SRS0=HASH",
		"-- target --\nmx.other.example off\n":                                                                    "no MX record names mx.other.example",
		"-- target --\nmx.target.example fly 250\n":                                                               `no stage is called "fly"`,
		"-- zone --\nx WKS y\n":                                                                                   `unknown type "WKS"`,
		"-- config --\n=\n":                                                                                       "toml",
		"-- wait long --\n":                                                                                       "invalid duration",
		"-- prologue --\n":                                                                                        "no section is called so",
		"-- wait 1d --\n-- aliases --\n":                                                                          "must stand before",
	} {
		file := filepath.Join(t.TempDir(), "s.txtar")
		if err := os.WriteFile(file, []byte(story), 0o600); err != nil {
			t.Fatal(err)
		}
		var r *recorder
		t.Run("", func(t *testing.T) {
			r = &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				Run(r, file, startToy)
			}()
			<-done
		})
		if !strings.Contains(r.said, want) {
			t.Errorf("%s\nsays: %s\nwant: %s", story, r.said, want)
		}
	}
}

func TestStableNames(t *testing.T) {
	mx, err := mailtest.NewMX(mailtest.MXConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer mx.Close()
	dns, err := mailtest.NewDNS("")
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	w := &world{net: "127.70.3", port: 20025, dns: dns, relay: &toy{front: mx}}
	got := w.stable(`MAIL FROM:<SRS1+x-_Y=a.example==h=TT=b.example=c@srs.alumni.example> SIZE=12345
| Received: from x (127.70.3.9) by mx.alumni.example id 01k9abcdefgh;
|  Sat, 21 Nov 2026 23:56:49 +0000 (UTC)
| Received: from y by mx.alumni.example id 01k9zzzzzzzz; Sun, 1 Feb 2026 00:00:00 -0130
| Message-ID: <01k9abcdefgh.7@mx.alumni.example>
| Content-Type: multipart/report; boundary="b/01"
| --b/01
| at 127.70.3.10:20025, not 120025; id necessarily; SRS0=ab/+=Z9=a=b@c`)
	want := `MAIL FROM:<SRS1+HASH=a.example==h=TT=b.example=c@srs.alumni.example> SIZE=N
| Received: from x (NET.9) by mx.alumni.example id ID;
|  DATE
| Received: from y by mx.alumni.example id ID2; DATE
| Message-ID: <ID@mx.alumni.example>
| Content-Type: multipart/report; boundary="BOUNDARY"
| --BOUNDARY
| at NET.10:PORT, not 120025; id necessarily; SRS0=HASH=TT=a=b@c`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A toy is just enough of a relay for a story: it knows one alias, rewrites
// without a signature, and tries again when its clock moves.
type toy struct {
	front *mailtest.MX
	dns   *resolve.Resolver
	port  int
	stop  context.CancelFunc
	wake  chan struct{}
	done  sync.WaitGroup
}

func startToy(dir, dns string) (Relay, error) {
	var c struct {
		Receive struct{ Listen []string }
		Deliver struct{ Port int }
	}
	if _, err := toml.DecodeFile(filepath.Join(dir, "srsd.toml"), &c); err != nil {
		return nil, err
	}
	front, err := mailtest.NewMX(mailtest.MXConfig{Addr: c.Receive.Listen[0], Hostname: "mx.alumni.example"})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &toy{front: front, dns: resolve.New(resolve.Config{Servers: []string{dns}}), port: c.Deliver.Port,
		stop: stop, wake: make(chan struct{}, 1)}
	r.done.Go(func() { r.run(ctx) })
	return r, nil
}

func (r *toy) Addr() string { return r.front.Addr() }

func (r *toy) Advance(time.Duration) { r.wake <- struct{}{} }

func (r *toy) Close() error {
	r.stop()
	r.done.Wait()
	return r.front.Close()
}

func (r *toy) run(ctx context.Context) {
	for n := 0; ; n++ {
		got, err := r.front.Wait(ctx, n+1)
		if err != nil {
			return
		}
		for r.forward(ctx, got[n], n) != nil {
			select {
			case <-r.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (r *toy) forward(ctx context.Context, m mailtest.Message, n int) error {
	from, to := m.From(), "kim@target.example"
	if local, domain, ok := strings.Cut(from, "@"); ok {
		from = fmt.Sprintf("SRS0=ab+/%d=ZZ=%s=%s@srs.alumni.example", n, domain, local)
	}
	if srs := strings.Split(strings.Split(m.To()[0], "@")[0], "="); len(srs) == 5 {
		to = srs[4] + "@" + srs[3]
	}
	_, domain, _ := strings.Cut(to, "@")
	mx, _, err := r.dns.MX(ctx, domain)
	if err != nil || len(mx) == 0 {
		return fmt.Errorf("%d MX records, %w", len(mx), err)
	}
	ips, _, err := r.dns.Addr(ctx, mx[0].Host, false)
	if err != nil || len(ips) == 0 {
		return fmt.Errorf("%d addresses, %w", len(ips), err)
	}
	c, err := mailtest.Dial(ctx, fmt.Sprintf("%v:%d", ips[0], r.port), "")
	if err != nil {
		return err
	}
	defer c.Close()
	text := strings.TrimSuffix("| "+strings.ReplaceAll(string(m.Data), "\r\n", "\n| "), "| ")
	return c.Run(fmt.Sprintf(`S: 220
C: EHLO mx.alumni.example
S: 250
C: MAIL FROM:<%s> SIZE=%d
S: 250
C: RCPT TO:<%s>
S: 250
C: DATA
S: 354
| Received: from %s by mx.alumni.example id 0123456789ab%d; %s
%sC: .
S: 250
`, from, len(m.Data), to, m.Client, n, time.Now().Format(time.RFC1123Z), text))
}
