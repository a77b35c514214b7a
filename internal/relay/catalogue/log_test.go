package catalogue_test

import (
	"syscall"
	"testing"
	"time"
)

// TestABlockedLogHoldsUpNothing starts srsd with a log that nobody reads: 500 of
// 500 messages pass, more than the pipe holds of their log lines (with -long,
// 3,000 of 3,000, more than srsd's own buffer holds too); and SIGTERM still ends
// it, within 10 s.
func TestABlockedLogHoldsUpNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneTarget, "jo")
	target := w.target(10)
	w.addr = w.freeAddress()
	config := w.configure("[receive]\nlisten = [\"" + w.addr + "\"]\n[log]\nlevel = \"debug\"\n")
	p := serve(t, config, nil)
	defer p.kill()
	l := load{world: w, text: func(int) string { return "Subject: x\r\n\r\nHello.\r\n" }}
	messages := 500
	if *long {
		messages = 3000
	}
	l.run(8, messages)
	if n, _, _ := target.count(); len(l.accepted) != messages || n != messages {
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
