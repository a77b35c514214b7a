package relay

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A cgroup counts what a peer with all its processes uses: its folder, of
// either version of cgroups.
type cgroup string

func newCgroup(b *testing.B, name string) cgroup {
	b.Helper()
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cpuacct"); err == nil {
		root += "/cpuacct"
	}
	dir, err := os.MkdirTemp(root, "srsd-bench-"+name+"-")
	if err != nil {
		b.Skipf("needs root and cgroups: %v", err)
	}
	b.Cleanup(func() {
		for range 250 { // until its last process has ended
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		b.Logf("%s stays behind: its processes have not ended", dir)
	})
	if _, err := os.Stat(dir + "/cgroup.procs"); err != nil {
		b.Skip("needs cgroups")
	}
	return cgroup(dir)
}

// take moves a process, and those that it has started, into the cgroup.
func (c cgroup) take(b *testing.B, pid int) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(string(c), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		b.Fatal(err)
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			c.take(b, child)
		}
	}
}

// cpu is the processor time used so far.
func (c cgroup) cpu() time.Duration {
	if text, err := os.ReadFile(filepath.Join(string(c), "cpuacct.usage")); err == nil {
		ns, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(ns)
	}
	text, _ := os.ReadFile(filepath.Join(string(c), "cpu.stat"))
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, _ := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
			return time.Duration(us) * time.Microsecond
		}
	}
	return 0
}

// memory is the proportional set size of all processes now, in octets.
func (c cgroup) memory() (total int64) {
	pids, _ := os.ReadFile(filepath.Join(string(c), "cgroup.procs"))
	for pid := range strings.FieldsSeq(string(pids)) {
		text, _ := os.ReadFile("/proc/" + pid + "/smaps_rollup")
		for line := range strings.Lines(string(text)) {
			if n, ok := strings.CutPrefix(line, "Pss:"); ok {
				kb, _ := strconv.ParseInt(strings.Fields(n)[0], 10, 64)
				total += kb << 10
			}
		}
	}
	return total
}

// watchMemory looks at the memory twice a second; call what it returns for the
// most that was seen.
func (c cgroup) watchMemory() (peak func() int64) {
	stop, found := make(chan struct{}), make(chan int64)
	go func() {
		ticker := time.NewTicker(time.Second / 2)
		defer ticker.Stop()
		most := int64(0)
		for {
			most = max(most, c.memory())
			select {
			case <-ticker.C:
			case <-stop:
				found <- max(most, c.memory())
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-found }
}
