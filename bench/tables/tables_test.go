// Package tables measures lookups at srsd's doors beside PostSRSd 1: both as
// processes of their own, the client here, all on one machine.
//
//	cd bench && go test -bench . -benchtime 20000x -count 3 ./tables
package tables

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	host   = "127.0.48.1"
	secret = "the-secret-of-this-benchmark"
)

// A request is one lookup in the protocol of a door, and how its answer ends.
type request struct {
	text string
	end  byte
}

func BenchmarkForward(b *testing.B) {
	dir := b.TempDir()
	secrets := filepath.Join(dir, "secret")
	write(b, secrets, secret+"\n")
	srsd := startSrsd(b, dir, secrets)
	peers := []struct {
		name    string
		port    string
		request request
	}{
		{"srsd-tcp", srsd[0], request{"get user@remote.example\n", '\n'}},
		{"srsd-socketmap", srsd[1], request{"27:forward user@remote.example,", ','}},
	}
	if port := startPostSRSd(b, secrets); port != "" {
		peers = append(peers, peers[0])
		peers[2].name, peers[2].port = "postsrsd1-tcp", port
	}
	for _, connections := range []int{1, 16} {
		for _, pipeline := range []int{1, 16} {
			for _, p := range peers {
				b.Run(fmt.Sprintf("%s/connections=%d/pipeline=%d", p.name, connections, pipeline), func(b *testing.B) {
					measure(b, net.JoinHostPort(host, p.port), p.request, connections, pipeline)
				})
			}
		}
	}
}

// measure spreads b.N lookups over connections that each keep a number of them
// in flight.
func measure(b *testing.B, addr string, q request, connections, pipeline int) {
	conns := make([]net.Conn, connections)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		conns[i] = c
	}
	times := make([][]time.Duration, connections)
	batch := []byte(strings.Repeat(q.text, pipeline))
	b.ResetTimer()
	var running sync.WaitGroup
	for i, c := range conns {
		running.Go(func() {
			r := bufio.NewReader(c)
			for n := b.N / connections; n > 0; n -= pipeline {
				k := min(n, pipeline)
				start := time.Now()
				if _, err := c.Write(batch[:k*len(q.text)]); err != nil {
					b.Error(err)
					return
				}
				for range k {
					answer, err := r.ReadSlice(q.end)
					if err != nil || !strings.Contains(string(answer), "SRS0=") {
						b.Errorf("%q, %v", answer, err)
						return
					}
				}
				times[i] = append(times[i], time.Since(start))
			}
		})
	}
	running.Wait()
	b.StopTimer()
	all := slices.Concat(times...)
	slices.Sort(all)
	if len(all) > 0 {
		b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e3, "p50-µs")
		b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds())/1e3, "p99-µs")
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
}

// startSrsd builds and runs srsd; the ports are those of its doors.
func startSrsd(b *testing.B, dir, secrets string) []string {
	binary := filepath.Join(dir, "srsd")
	build := exec.Command("go", "build", "-o", binary, "./cmd/srsd")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	ports := []string{freePort(b), freePort(b)}
	config := filepath.Join(dir, "srsd.toml")
	write(b, config, fmt.Sprintf(`hostname = "mx.alumni.example"
data_dir = %q
[srs]
domain = "srs.alumni.example"
secrets = %q
format = "classic"
[postfix]
sender_tcp = "%[3]s:%[4]s"
socketmap = "%[3]s:%[5]s"
`, filepath.Join(dir, "data"), secrets, host, ports[0], ports[1]))
	run(b, exec.Command(binary, "serve", "-c", config), ports...)
	return ports
}

// startPostSRSd runs PostSRSd 1 where it is installed.
func startPostSRSd(b *testing.B, secrets string) string {
	if _, err := exec.LookPath("postsrsd"); err != nil {
		b.Log("needs postsrsd 1.x for comparison: apt-get install postsrsd")
		return ""
	}
	forward, reverse := freePort(b), freePort(b)
	run(b, exec.Command("postsrsd", "-s", secrets, "-d", "srs.alumni.example", "-l", host, "-f", forward, "-r", reverse, "-u", "nobody"), forward)
	return forward
}

func run(b *testing.B, c *exec.Cmd, ports ...string) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // PostSRSd has children
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM) // may have ended already
		_ = c.Wait()
	})
	for _, port := range ports {
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
			if err == nil {
				conn.Close()
				break
			}
			if time.Now().After(end) {
				b.Fatal(err)
			}
		}
	}
}

func freePort(b *testing.B) string {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func write(b *testing.B, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}
