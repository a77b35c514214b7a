package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"srsd/internal/mailtest"
)

// soon is when a test stops waiting: far beyond what it takes.
const soon = 20 * time.Second

// A site is a folder with a configuration, and a target that defers everything.
type site struct {
	t      *testing.T
	dir    string
	listen string
}

const siteConfig = `hostname = "mx.alumni.example"
%s
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
`

// newSite makes a site; top are more lines for the top of the configuration.
func newSite(t *testing.T, listen, top string) site {
	t.Helper()
	target, err := mailtest.NewMX(mailtest.MXConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	if err := target.Script("rcpt 451 4.3.2 later"); err != nil {
		t.Fatal(err)
	}
	s := site{t: t, dir: t.TempDir(), listen: listen}
	s.write("srsd.toml", fmt.Sprintf(siteConfig, top, listen, target.Addr()))
	s.write("aliases", "jo: jo.private@target.example\n")
	return s
}

func (s site) path(name string) string { return filepath.Join(s.dir, name) }

func (s site) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// queued is what the queue of the running relay holds.
func (s site) queued() string {
	s.t.Helper()
	status, out, errs := command("queue", "list", "--count", "-c", s.path("srsd.toml"))
	if status != 0 {
		s.t.Fatal(errs)
	}
	return strings.TrimSpace(out)
}

func command(args ...string) (status int, out, errs string) {
	var o, e strings.Builder
	status = run(args, console{In: strings.NewReader(""), Out: &o, Err: &e})
	return status, o.String(), e.String()
}

// A server is "srsd serve" in a process of its own, whose log can be waited for.
type server struct {
	*exec.Cmd
	t   *testing.T
	log chan string // its lines; closed at its end
}

// serve starts srsd; adjust may change the command first.
func (s site) serve(adjust func(*exec.Cmd)) server {
	s.t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "-c", s.path("srsd.toml"))
	cmd.Env = append(os.Environ(), asSRSD+"=1")
	if adjust != nil {
		adjust(cmd)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	v := server{Cmd: cmd, t: s.t, log: make(chan string, 1000)}
	go func() {
		defer close(v.log)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			v.log <- lines.Text()
		}
	}()
	s.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return v
}

// until waits for a line of the log.
func (v server) until(part string) string {
	v.t.Helper()
	timeout := time.After(soon)
	var seen []string
	for {
		select {
		case line, ok := <-v.log:
			if !ok {
				v.t.Fatalf("srsd ended and did not say %q; it said:\n%s", part, strings.Join(seen, "\n"))
			}
			if strings.Contains(line, part) {
				return line
			}
			seen = append(seen, line)
		case <-timeout:
			v.t.Fatalf("srsd does not say %q", part)
		}
	}
}

func (v server) signal(s os.Signal) {
	v.t.Helper()
	if err := v.Process.Signal(s); err != nil {
		v.t.Fatal(err)
	}
}

// status waits for the end of srsd, and returns its exit status.
func (v server) status() int {
	v.t.Helper()
	for end := time.After(soon); ; {
		select {
		case _, ok := <-v.log:
			if ok {
				continue
			}
			err := v.Wait()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				v.t.Fatal(err)
			}
			return v.ProcessState.ExitCode()
		case <-end:
			v.t.Fatal("srsd does not end")
		}
	}
}

func (v server) wantStatus(want int) {
	v.t.Helper()
	if got := v.status(); got != want {
		v.t.Errorf("exit status %d instead of %d", got, want)
	}
}

// client is a client that is greeted.
func (s site) client() *mailtest.Client {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	c, err := mailtest.Dial(ctx, s.listen, "")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	s.say(c, "S: 220\nC: EHLO client.example\nS: 250\n")
	return c
}

func (s site) say(c *mailtest.Client, dialogue string) {
	s.t.Helper()
	if err := c.Run(dialogue); err != nil {
		s.t.Fatal(err)
	}
}

const toData = "C: MAIL FROM:<ann@sender.example>\nS: 250\nC: RCPT TO:<jo@alumni.example>\nS: 250\nC: DATA\nS: 354\n| Subject: hello\n|\n"

// TestSignalsDrain ends srsd with an idle session, one in DATA, and one more
// that comes too late. SIGINT is SIGTERM.
func TestSignalsDrain(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, freeAddress(t), "")
			srsd := s.serve(nil)
			srsd.until("msg=ready")
			idle, busy := s.client(), s.client()
			s.say(busy, toData)
			srsd.signal(sig)
			srsd.until("msg=draining")
			start := time.Now()
			s.say(idle, "S: 421\nS: closed\n")
			if took := time.Since(start); took > time.Second {
				t.Errorf("an idle session was told after %v", took)
			}
			if c, err := net.Dial("tcp", s.listen); err == nil {
				text, _ := io.ReadAll(c)
				c.Close()
				if strings.HasPrefix(string(text), "220") {
					t.Error("a new session was greeted")
				}
			}
			s.say(busy, "| Hello.\nC: .\nS: 250\n")
			srsd.wantStatus(0)

			srsd = s.serve(nil)
			srsd.until("msg=ready")
			if n := s.queued(); n != "1" {
				t.Errorf("%s messages in the queue, 1 was answered 250", n)
			}
			srsd.signal(syscall.SIGTERM)
			srsd.wantStatus(0)
		})
	}
}

// TestASecondSignalEndsAtOnce shows it with a session in DATA, which would be
// waited for.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, freeAddress(t), "")
	srsd := s.serve(nil)
	srsd.until("msg=ready")
	s.say(s.client(), toData)
	srsd.signal(syscall.SIGINT)
	srsd.until("msg=draining")
	start := time.Now()
	srsd.signal(syscall.SIGINT)
	srsd.wantStatus(1)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestSystemdIsTold listens where systemd would.
func TestSystemdIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, freeAddress(t), "")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	said := func() string {
		t.Helper()
		socket.SetReadDeadline(time.Now().Add(soon))
		text := make([]byte, 1000)
		n, err := socket.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	srsd := s.serve(func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+s.path("notify")) })
	if got := said(); got != "READY=1" {
		t.Errorf("after its start srsd says %q", got)
	}
	s.client() // the ports are open by then
	srsd.signal(syscall.SIGHUP)
	if got := said(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("at SIGHUP srsd says %q", got)
	}
	if got := said(); got != "READY=1" {
		t.Errorf("after the reload srsd says %q", got)
	}
	srsd.signal(syscall.SIGTERM)
	if got := said(); got != "STOPPING=1" {
		t.Errorf("at SIGTERM srsd says %q", got)
	}
	srsd.wantStatus(0)
}

// opened is a socket that listens, as systemd hands it over.
func opened(t *testing.T, address string) *os.File {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// activate has srsd started as systemd does: with open sockets from the third
// descriptor on, and variables that name its process.
func activate(sockets ...*os.File) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.ExtraFiles = sockets
		// Only the process itself knows its number.
		cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(sockets)))
	}
}

// TestSocketActivation shows that srsd uses the sockets that systemd has opened,
// and does not start with one that nobody has asked for.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	s := newSite(t, freeAddress(t), "")
	socket := opened(t, s.listen) // the address is taken: srsd cannot open it itself
	srsd := s.serve(activate(socket))
	srsd.until("msg=ready")
	s.client()
	srsd.signal(syscall.SIGTERM)
	srsd.wantStatus(0)

	other := freeAddress(t)
	srsd = s.serve(activate(socket, opened(t, other)))
	srsd.until("systemd has opened " + other + ", which no key of the configuration names")
	srsd.wantStatus(1)
}
