package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"srsd/internal/mailtest"
)

// asSRSD makes the test binary behave as srsd, so that tests can kill it.
const asSRSD = "SRSD_TEST_AS_SRSD"

func TestMain(m *testing.M) {
	if os.Getenv(asSRSD) != "" {
		os.Exit(run(os.Args[1:], console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// A process is srsd in a process of its own.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
}

// startProcess starts "srsd serve" and waits until it says that it is ready.
func startProcess(t *testing.T, config string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "-c", config)
	cmd.Env = append(os.Environ(), asSRSD+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "msg=ready") {
			go func() {
				for lines.Scan() { // so that it never waits for us
				}
			}()
			return &process{t, cmd}
		}
		t.Log(lines.Text())
	}
	cmd.Wait()
	t.Fatal("srsd ended before it was ready")
	return nil
}

func (p *process) kill() {
	p.cmd.Process.Signal(syscall.SIGKILL)
	p.cmd.Wait()
}

// end asks srsd to end, and checks its exit status.
func (p *process) end() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		p.t.Error(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestNothingIsLostByKill kills srsd in the middle of 1,000 messages to a target
// that defers. After a restart, with a target that accepts, each message that
// was answered 250 arrives.
func TestNothingIsLostByKill(t *testing.T) {
	target, err := mailtest.NewMX(mailtest.MXConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if err := target.Script("rcpt 451 4.3.2 later"); err != nil {
		t.Fatal(err)
	}
	dir, listen := t.TempDir(), freeAddress(t)
	config := filepath.Join(dir, "srsd.toml")
	text := fmt.Sprintf(`hostname = "mx.alumni.example"
[receive]
listen = [%q]
[forward]
domains = ["alumni.example"]
aliases = ["aliases"]
postmaster = "root@target.example"
[srs]
domain = "srs.alumni.example"
[spf]
skip_networks = ["127.0.0.0/8"]
[deliver]
smarthost = %q
allow_networks = ["127.0.0.0/8"]
retry = ["200ms"]
`, listen, target.Addr())
	for name, text := range map[string]string{"srsd.toml": text, "aliases": "jo: jo.private@target.example\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	srsd := startProcess(t, config)

	const messages, workers, killAt = 1000, 8, 400
	var mu sync.Mutex
	accepted := map[string]bool{}
	killed := make(chan struct{})
	var once sync.Once
	var senders sync.WaitGroup
	for w := range workers {
		senders.Go(func() {
			for i := w; i < messages; i += workers {
				id := fmt.Sprintf("message-%d", i)
				if send(listen, id) != nil {
					select {
					case <-killed: // what is refused from now on is nobody's loss
						return
					default:
						continue
					}
				}
				mu.Lock()
				accepted[id] = true
				n := len(accepted)
				mu.Unlock()
				if n == killAt {
					once.Do(func() { srsd.kill(); close(killed) })
				}
			}
		})
	}
	senders.Wait()
	if len(accepted) < killAt {
		t.Fatalf("only %d messages were accepted", len(accepted))
	}

	if err := target.Script(""); err != nil {
		t.Fatal(err)
	}
	srsd = startProcess(t, config)
	defer srsd.end()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// What was stored and not answered any more arrives too, so the number alone
	// does not say that all is there.
	var got []mailtest.Message
	for missing := len(accepted); missing > 0; {
		n := len(got) + 1
		if got, err = target.Wait(ctx, n); err != nil {
			t.Errorf("%v: %d messages were answered 250, and are lost", err, missing)
			break
		}
		missing = len(accepted) - arrived(accepted, got)
	}
	t.Logf("%d answered 250 before the kill, %d arrived", len(accepted), len(got))
}

// arrived counts those of the accepted messages that are among got.
func arrived(accepted map[string]bool, got []mailtest.Message) int {
	seen := map[string]bool{}
	for _, m := range got {
		_, id, _ := strings.Cut(string(m.Data), "X-Id: ")
		id, _, _ = strings.Cut(id, "\r\n")
		if accepted[id] {
			seen[id] = true
		}
	}
	return len(seen)
}

// send sends one message on a connection of its own.
func send(addr, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := mailtest.Dial(ctx, addr, "")
	if err != nil {
		return err
	}
	err = c.Run("S: 220\nC: EHLO client.example\nS: 250\nC: MAIL FROM:<ann@sender.example>\nC: RCPT TO:<jo@alumni.example>\nC: DATA\n" +
		"S: 250\nS: 250\nS: 354\n| X-Id: " + id + "\n|\n| Hello.\nC: .\nS: 250\n")
	return errors.Join(err, c.Close())
}
