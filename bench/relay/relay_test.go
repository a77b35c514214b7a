package relay

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"srsd/internal/mailtest/realpostfix"
)

// users is how many aliases there are.
const users = 1000

var loads = []struct {
	name string
	load
}{
	{"4KB", load{connections: 10, size: 4 << 10, recipients: 1}},
	{"50rcpt", load{connections: 10, size: 4 << 10, recipients: 50}},
	{"50rcpt-pipelined", load{connections: 10, size: 4 << 10, recipients: 50, pipeline: true}},
	{"100KB", load{connections: 10, size: 100 << 10, recipients: 1}},
}

// A peer is a relay under test: start returns where it listens, and one of its
// processes' cgroup.
type peer struct {
	name  string
	start func(b *testing.B, s *sink) (addr string, group cgroup)
}

var peers = []peer{
	{"postfix", startPostfix},
	{"srsd", func(b *testing.B, s *sink) (string, cgroup) { return startSRSD(b, s, "cut-through") }},
	{"srsd-queue", func(b *testing.B, s *sink) (string, cgroup) { return startSRSD(b, s, "queue") }},
}

func BenchmarkRelay(b *testing.B) {
	for _, l := range loads {
		for _, p := range peers {
			b.Run(l.name+"/"+p.name, func(b *testing.B) { measure(b, p, l.load) })
		}
	}
}

func measure(b *testing.B, p peer, l load) {
	s, err := newSink()
	if err != nil {
		b.Fatal(err)
	}
	defer s.ln.Close()
	addr, group := p.start(b, s)
	if _, err := l.send(addr, s, min(b.N, 50)); err != nil { // a warm-up
		b.Fatal(err)
	}
	before, peak := group.cpu(), group.watchMemory()
	b.ResetTimer()
	got, err := l.send(addr, s, b.N)
	if err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	used := group.cpu() - before
	n := float64(b.N)
	b.ReportMetric(n/got.elapsed.Seconds(), "msg/s")
	b.ReportMetric(n*float64(l.recipients)/got.elapsed.Seconds(), "deliveries/s")
	b.ReportMetric(used.Seconds()/n*1000, "cpu-s/1000msg")
	b.ReportMetric(float64(got.p99.Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(peak())/(1<<20), "MB-pss")
	b.ReportMetric(0, "ns/op")
}

// startSRSD builds srsd and runs it with everything on that a default
// installation has on.
func startSRSD(b *testing.B, s *sink, mode string) (string, cgroup) {
	b.Helper()
	dir := b.TempDir()
	binary := filepath.Join(dir, "srsd")
	build := exec.Command("go", "build", "-o", binary, "./cmd/srsd")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	listen := freeAddress(b)
	var aliases strings.Builder
	for i := range users {
		fmt.Fprintf(&aliases, "user%d: user%[1]d@target.example\n", i)
	}
	config := fmt.Sprintf(`hostname = "mx.alumni.example"
[receive]
listen = [%q]
[forward]
domains = ["alumni.example"]
aliases = ["aliases"]
postmaster = "root@target.example"
[srs]
domain = "srs.alumni.example"
[spf]
skip_networks = ["127.0.0.0/8"] # Postfix checks none either
[deliver]
mode = %q
smarthost = %q
allow_networks = ["127.0.0.0/8"]
`, listen, mode, s.ln.Addr())
	for name, text := range map[string]string{"srsd.toml": config, "aliases": aliases.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	group := newCgroup(b, "srsd")
	log, err := os.Create(filepath.Join(b.TempDir(), "log")) // apart: srsd watches the folder of its aliases
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { log.Close() })
	cmd := exec.Command(binary, "serve", "-c", filepath.Join(dir, "srsd.toml"))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	group.take(b, cmd.Process.Pid)
	b.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	await(b, listen)
	return listen, group
}

// startPostfix runs Debian's Postfix with PostSRSd 1.x at its canonical maps.
func startPostfix(b *testing.B, s *sink) (string, cgroup) {
	b.Helper()
	for program, debian := range map[string]string{"postfix": "postfix", "postsrsd": "postsrsd"} {
		realpostfix.Need(b, program, debian)
	}
	group := newCgroup(b, "postfix")
	forward, reverse := freeAddress(b), freeAddress(b)
	srs := startPostSRSD(b, forward, reverse)
	group.take(b, srs)
	var virtual strings.Builder
	for i := range users {
		fmt.Fprintf(&virtual, "user%d@alumni.example user%[1]d@target.example\n", i)
	}
	host, port, _ := net.SplitHostPort(s.ln.Addr().String())
	addr := freeAddress(b)
	p := realpostfix.Start(b, addr, fmt.Sprintf(`myhostname = mx.alumni.example
virtual_alias_domains = alumni.example
virtual_alias_maps = texthash:$dir/virtual
relayhost = [%s]:%s
sender_canonical_maps = tcp:%s
sender_canonical_classes = envelope_sender
recipient_canonical_maps = tcp:%s
recipient_canonical_classes = envelope_recipient, header_recipient
smtpd_recipient_limit = 1000
minimal_backoff_time = 300s
maximal_backoff_time = 4000s
queue_run_delay = 300s
`, host, port, forward, reverse), "", map[string]string{"virtual": virtual.String()})
	text, err := os.ReadFile(filepath.Join(p.Dir, "spool/pid/master.pid"))
	if err != nil {
		b.Fatal(err)
	}
	master, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		b.Fatal(err)
	}
	group.take(b, master)
	return addr, group
}

func startPostSRSD(b *testing.B, forward, reverse string) (pid int) {
	b.Helper()
	secret := filepath.Join(b.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a-secret-for-the-benchmark\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	_, f, _ := net.SplitHostPort(forward)
	_, r, _ := net.SplitHostPort(reverse)
	cmd := exec.Command("postsrsd", "-s", secret, "-d", "alumni.example", "-l", "127.0.0.1", "-f", f, "-r", r)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	await(b, forward)
	return cmd.Process.Pid
}

func freeAddress(b *testing.B) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// await waits for a port to open.
func await(b *testing.B, addr string) {
	b.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
	}
	b.Fatal("nobody listens at", addr)
}
