package relay

import (
	"context"
	"crypto/tls"
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

	"github.com/google/go-cmp/cmp"

	"srsd/internal/mailtest"
)

// A workbench is a relay whose files a test changes while it runs.
type workbench struct {
	*Relay
	t      *testing.T
	dir    string
	target *mailtest.MX
	events chan string // its log
}

const workbenchConfig = `hostname = "mx.alumni.example"
[receive]
listen = ["127.0.0.1:0"]
[forward]
domains = ["alumni.example"]
aliases = ["aliases"]
postmaster = "root@target.example"
[srs]
domain = "srs.alumni.example"
secrets = "secrets"
[spf]
skip_networks = ["127.0.0.0/8"]
[deliver]
smarthost = %q
allow_networks = ["127.0.0.0/8"]
`

const (
	oldKey = "old the-secret-of-last-year\n"
	newKey = "new the-secret-of-this-year\n"
)

// newWorkbench starts a relay; more is appended to its configuration.
func newWorkbench(t *testing.T, more string) workbench {
	t.Helper()
	b := workbench{t: t, dir: t.TempDir(), events: make(chan string, 10_000)}
	var err error
	if b.target, err = mailtest.NewMX(mailtest.MXConfig{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.target.Close() })
	certificate(t, b.dir)
	b.write("srsd.toml", fmt.Sprintf(workbenchConfig, b.target.Addr())+more)
	b.write("aliases", "jo: jo.private@target.example\n")
	b.write("secrets", "srsd-keys 1\n"+oldKey)
	for _, name := range []string{"aliases", "secrets"} { // what is older than a second is not read again at the start
		past := time.Now().Add(-time.Hour)
		if err := os.Chtimes(b.path(name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	c, err := LoadConfig(b.path("srsd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if b.Relay, err = New(c, Options{Logger: slog.New(slog.NewTextHandler(lines(b.events), nil))}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return b
}

// lines passes on what is written to it, a line at a time.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func (b workbench) path(name string) string { return filepath.Join(b.dir, name) }

// write replaces a file whole, as one should.
func (b workbench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(b.path("new"), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(b.path("new"), b.path(name)); err != nil {
		b.t.Fatal(err)
	}
}

// edit replaces text in the configuration.
func (b workbench) edit(old, new string) {
	b.t.Helper()
	text, err := os.ReadFile(b.path("srsd.toml"))
	if err != nil || !strings.Contains(string(text), old) {
		b.t.Fatal(old, "is not in the configuration", err)
	}
	b.write("srsd.toml", strings.Replace(string(text), old, new, 1))
}

// until waits for an event of the log.
func (b workbench) until(part string) string {
	b.t.Helper()
	for end := time.After(20 * time.Second); ; {
		select {
		case e := <-b.events:
			if strings.Contains(e, part) {
				return e
			}
		case <-end:
			b.t.Fatalf("the log does not say %q", part)
		}
	}
}

func certificate(t *testing.T, dir string) {
	t.Helper()
	c, err := mailtest.Certificate("mx.alumni.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := mailtest.WriteCertificate(c, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
}

func (b workbench) client() *mailtest.Client {
	b.t.Helper()
	c, err := mailtest.Dial(b.t.Context(), b.Addr().String(), "")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

// says has a conversation of its own with the relay, from EHLO to the end.
func (b workbench) says(dialogue string) {
	b.t.Helper()
	c := b.client()
	defer c.Close()
	if err := c.Run("S: 220\nC: EHLO client.example\nS: 250\n" + dialogue); err != nil {
		b.t.Fatal(err)
	}
}

func rcpt(from, to, reply string) string {
	return fmt.Sprintf("C: MAIL FROM:<%s>\nS: 250\nC: RCPT TO:<%s>\nS: %s\n", from, to, reply)
}

// arrives sends a message to Jo, and returns the reverse-path that the target saw.
func (b workbench) arrives() string {
	b.t.Helper()
	n := len(b.target.Messages())
	b.says(rcpt("ann@sender.example", "jo@alumni.example", "250") + "C: DATA\nS: 354\n| Subject: x\n|\n| Hello.\nC: .\nS: 250\n")
	m, err := b.target.Wait(b.t.Context(), n+1)
	if err != nil {
		b.t.Fatal(err)
	}
	return m[n].From()
}

// TestABadReloadChangesNothing has a row for each file that a reload reads.
func TestABadReloadChangesNothing(t *testing.T) {
	b := newWorkbench(t, "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n")
	good := map[string]string{}
	for _, name := range []string{"srsd.toml", "aliases", "secrets", "cert.pem"} {
		text, err := os.ReadFile(b.path(name))
		if err != nil {
			t.Fatal(err)
		}
		good[name] = string(text)
	}
	for _, row := range []struct{ name, text, want string }{
		{"srsd.toml", strings.Replace(good["srsd.toml"], "aliases = ", "alias = ", 1), "DIR/srsd.toml:6: forward.alias: unknown key"},
		{"srsd.toml", good["srsd.toml"] + "[deliver]\n", "DIR/srsd.toml:"},
		{"aliases", "# one\njo: |mail\n", "DIR/aliases:2:5: error: commands are not run here"},
		{"secrets", "srsd-keys 1\nk1 short\n", "DIR/secrets: srs: secrets: line 2: the secret has 5 octets"},
		{"cert.pem", "nothing", "tls.certificate DIR/cert.pem, tls.key DIR/key.pem: "},
	} {
		b.write(row.name, row.text)
		want := strings.ReplaceAll(row.want, "DIR", b.dir)
		if err := b.Reload(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, not %s", row.name, err, want)
		}
		if e := b.until("reload failed"); !strings.Contains(e, "stays") {
			t.Errorf("the log does not say that the old stays: %s", e)
		}
		if from := b.arrives(); !strings.HasPrefix(from, "SRS0=") {
			t.Errorf("after a bad %s, mail goes on from %q", row.name, from)
		}
		b.write(row.name, good[row.name])
	}
	if err := b.Reload(); err != nil {
		t.Errorf("all is good again: %v", err)
	}
}

// TestWhatNeedsARestartIsReported changes everything of that kind at once, and
// one thing that may change.
func TestWhatNeedsARestartIsReported(t *testing.T) {
	b := newWorkbench(t, "")
	b.edit(`hostname = "mx.alumni.example"`, "hostname = \"other.alumni.example\"\ndata_dir = \"elsewhere\"\nuser = \"nobody\"")
	b.edit(`listen = ["127.0.0.1:0"]`, "listen = [\"127.0.0.1:1\"]\nlisten_tls = [\"127.0.0.1:2\"]\nmemory = \"1GB\"")
	b.edit(`[srs]`, "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n[dns]\ntimeout = \"1s\"\n[log]\nlevel = \"warn\"\n[postfix]\nsender_tcp = \"127.0.0.1:3\"\n[srs]")
	b.edit(`aliases = ["aliases"]`, `aliases = ["aliases", "more"]`)
	b.write("more", "lee: lee@target.example\n")
	for range 2 { // it is reported until srsd is started again
		if err := b.Reload(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for {
			e := b.until("")
			if _, key, ok := strings.Cut(strings.TrimSpace(e), `msg="a change needs a restart" key=`); ok {
				got = append(got, key)
			}
			if strings.Contains(e, "msg=reloaded") {
				break
			}
		}
		want := []string{"hostname", "data_dir", "user", "receive.listen", "receive.listen_tls", "receive.memory", "tls.certificate", "dns", "postfix", "log"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	c := b.client()
	if err := c.Run("S: 220 mx.alumni.example\nC: EHLO client.example\nS: 250\n" + rcpt("ann@sender.example", "lee@alumni.example", "250")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(b.path("elsewhere")); err == nil {
		t.Error("the other data_dir has been made")
	}
}

// TestANewKeySigns replaces the secrets file, and tells nobody: the new key
// signs, the old one verifies until it is taken out.
func TestANewKeySigns(t *testing.T) {
	b := newWorkbench(t, "")
	before := b.arrives()
	b.write("secrets", "srsd-keys 1\n"+newKey+oldKey)
	b.until("msg=reloaded")
	after := b.arrives()
	if before == after {
		t.Errorf("both keys make %s", before)
	}
	b.says(rcpt("", before, "250") + "C: RCPT TO:<" + after + ">\nS: 250\n")

	b.write("secrets", "srsd-keys 1\n"+newKey)
	b.until("msg=reloaded")
	b.says(rcpt("", before, "550 5.1.1") + "C: RCPT TO:<" + after + ">\nS: 250\n")
}

// TestACertificateIsRenewedByAReload also shows a session that has begun before.
func TestACertificateIsRenewedByAReload(t *testing.T) {
	b := newWorkbench(t, "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n")
	shown := func() string {
		t.Helper()
		conn, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		for _, line := range []string{"", "EHLO client.example\r\n", "STARTTLS\r\n"} {
			fmt.Fprint(conn, line)
			for reply := make([]byte, 4096); ; {
				n, err := conn.Read(reply)
				if err != nil {
					t.Fatal(err)
				}
				last := strings.Split(strings.TrimSpace(string(reply[:n])), "\r\n")
				if l := last[len(last)-1]; len(l) > 3 && l[3] == ' ' {
					break
				}
			}
		}
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		return secure.ConnectionState().PeerCertificates[0].SerialNumber.String() +
			string(secure.ConnectionState().PeerCertificates[0].Signature)
	}
	early := b.client()
	if err := early.Run("S: 220\nC: EHLO client.example\nS: 250-STARTTLS\nS: 250\n"); err != nil {
		t.Fatal(err)
	}
	first := shown()
	certificate(t, b.dir)
	if got := shown(); got != first {
		t.Error("the certificate has changed before the reload")
	}
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	if shown() == first {
		t.Error("the old certificate is shown after the reload")
	}
	if err := early.Run("C: STARTTLS\nS: 220\nTLS\nC: EHLO client.example\nS: 250\n"); err != nil {
		t.Error(err)
	}
}

// TestReloadsDropNoSession reloads a hundred times while four sessions send.
func TestReloadsDropNoSession(t *testing.T) {
	b := newWorkbench(t, "")
	var sent atomic.Int64
	done := make(chan struct{})
	var senders sync.WaitGroup
	for range 4 {
		c := b.client()
		senders.Go(func() {
			err := c.Run("S: 220\nC: EHLO client.example\nS: 250\n")
			for ; err == nil; sent.Add(1) {
				select {
				case <-done:
					return
				default:
				}
				err = c.Run(rcpt("ann@sender.example", "jo@alumni.example", "250") + "C: DATA\nS: 354\n| Subject: x\n|\n| Hello.\nC: .\nS: 250\n")
			}
			t.Error("a session was dropped:", err)
		})
	}
	for range 100 {
		if err := b.Reload(); err != nil {
			t.Error(err)
		}
		for len(b.events) > 0 {
			<-b.events
		}
	}
	close(done)
	senders.Wait()
	if n := len(b.target.Messages()); int64(n) != sent.Load() || n == 0 {
		t.Errorf("%d messages were answered 250, %d have arrived", sent.Load(), n)
	}
}
