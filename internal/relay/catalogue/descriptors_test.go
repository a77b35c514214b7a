package catalogue_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestFewDescriptors gives srsd 64 file descriptors and has 200 clients connect
// and stay, while others send. What was answered 250 arrives: 0 are lost. The log
// has at most 10 lines a second about it, and 1 s after the clients are gone a new
// one gets its banner and its 250.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneTarget, "jo")
	target := w.target(10)
	w.addr = w.freeAddress()
	config := w.configure("[receive]\nlisten = [\"" + w.addr + "\"]\n")
	log := &journal{}
	p := serve(t, config, log, "sh", "-c", `ulimit -n 64 && exec "$@"`, "sh")
	began := time.Now()
	var idle []net.Conn
	for i := range 200 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprint(w.net, 30+i))}, Timeout: 5 * time.Second}
		c, err := d.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
		if i%10 == 0 {
			io.WriteString(c, "EHLO idle.example\r\n")
		}
	}
	var accepted []string
	for i, end := 0, time.Now().Add(2*time.Second); time.Now().Before(end); i++ {
		if id := fmt.Sprintf("during %d.", i); w.brief(id) {
			accepted = append(accepted, id)
		}
	}
	for _, c := range idle {
		c.Close()
	}
	gone := time.Now()
	for !w.brief("after") {
		if time.Since(gone) > 5*time.Second {
			break
		}
	}
	if d := time.Since(gone); d > time.Second {
		t.Errorf("served %v after they went", d)
	}
	w.drained()
	p.end(t)
	lines := strings.Count(log.String(), "level=WARN") + strings.Count(log.String(), "level=ERROR")
	t.Logf("%d accepted meanwhile, %d lines in the log in %v", len(accepted), lines, time.Since(began))
	var arrived strings.Builder
	for _, m := range target.arrivals() {
		arrived.Write(m.data)
	}
	for _, id := range accepted {
		if !strings.Contains(arrived.String(), "X-Id: "+id) {
			t.Errorf("%s is lost", id)
		}
	}
	if float64(lines) > 10*time.Since(began).Seconds()+10 {
		t.Errorf("%d lines in %v: %.2000s", lines, time.Since(began), log.String())
	}
}

// brief sends one message with little patience.
func (w *world) brief(id string) bool {
	s, err := dial(w.addr, w.net+"9")
	if err != nil {
		return false
	}
	defer s.Close()
	defer time.AfterFunc(500*time.Millisecond, func() { s.Close() }).Stop()
	reply, err := s.send("ann@origin.example", "jo@alumni.example", "X-Id: "+id+"\r\n\r\nHello.\r\n")
	return err == nil && reply[0] == '2'
}
