package catalogue_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"srsd/internal/mailtest"
)

// binary is srsd itself, built when the first test needs it.
var binary struct {
	path string
	once sync.Once
	err  error
}

func build(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		if out, err := exec.Command("go", "build", "-o", binary.path, "srsd/cmd/srsd").CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("go build: %w: %s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// A process is srsd in a process of its own.
type process struct {
	cmd  *exec.Cmd
	read sync.WaitGroup
}

// serve starts srsd and waits until it is ready. Its log goes to log; where that
// is nil, nobody reads it once srsd is ready. wrap, where there is one, is a
// command that starts it.
func serve(t *testing.T, config string, log io.Writer, wrap ...string) *process {
	t.Helper()
	args := append(wrap, build(t), "serve", "-c", config)
	p := &process{cmd: exec.Command(args[0], args[1:]...)}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill) // what has ended already does not mind
	lines := bufio.NewReader(stderr)
	said := ""
	for {
		line, err := lines.ReadString('\n')
		if said += line; strings.Contains(line, "msg=ready") {
			break
		}
		if err != nil {
			p.cmd.Wait()
			t.Fatalf("srsd ended before it was ready: %s", said)
		}
	}
	if log != nil {
		p.read.Go(func() { io.Copy(log, lines) })
	}
	return p
}

// kill ends srsd as a crash does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.read.Wait()
	p.cmd.Wait()
}

// end asks srsd to end, and checks that it does with status 0.
func (p *process) end(t *testing.T) {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.read.Wait()
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// freeAddress finds an address for a relay that is started more than once.
func (w *world) freeAddress() string {
	w.t.Helper()
	l, err := net.Listen("tcp", w.net+"1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// trusted is the certificate of mx.trusted.example, which relays of this test
// trust, and untrusted one of the same name that nobody trusts.
var trusted, untrusted tls.Certificate

// trust makes the certificates, and lets this process trust the one.
func trust(dir string) (err error) {
	if trusted, err = mailtest.Certificate("mx.trusted.example"); err != nil {
		return err
	}
	if untrusted, err = mailtest.Certificate("mx.trusted.example"); err != nil {
		return err
	}
	file := filepath.Join(dir, "roots.pem")
	if err := mailtest.WriteCertificate(trusted, file, filepath.Join(dir, "key.pem")); err != nil {
		return err
	}
	return os.Setenv("SSL_CERT_FILE", file)
}
