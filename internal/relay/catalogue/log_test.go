package catalogue_test

import (
	"syscall"
	"testing"
	"time"
)

// TestABlockedLogHoldsUpNothing starts srsd with a log that nobody reads: 1,500
// of 1,500 messages pass, more than the pipe and srsd's own buffer hold of their
// log lines; and SIGTERM still ends it, within 10 s.
func TestABlockedLogHoldsUpNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneTarget, "jo")
	target := w.target(10)
	w.addr = w.freeAddress()
	config := w.configure("[receive]\nlisten = [\"" + w.addr + "\"]\n[log]\nlevel = \"debug\"\n")
	p := serve(t, config, nil)
	defer p.kill()
	l := load{world: w, text: func(int) string { return "Subject: x\r\n\r\nHello.\r\n" }}
	l.run(8, 1500)
	if n, _, _ := target.count(); len(l.accepted) != 1500 || n != 1500 {
		t.Errorf("%d accepted, %d arrived", len(l.accepted), n)
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it does not end")
	}
}
