package catalogue_test

import (
	"testing"
	"time"
)

// TestTheClockMayJump moves the clock while 20 messages wait for a target that
// defers. Within 15 s each is tried again (75 s where the clock is set back, which
// is seen once a minute; with -long), 0 are given up, 0 reports are
// written, and all 20 arrive, once, when the target takes them. A bounce to an
// SRS address of before comes home where the jump is not longer than the address
// lives.
func TestTheClockMayJump(t *testing.T) {
	t.Parallel()
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	for _, jump := range []time.Duration{time.Hour, day, -day, 10 * year, -10 * year} {
		t.Run(jump.String(), func(t *testing.T) {
			patience := 15 * time.Second
			if jump < 0 {
				if patience = 75 * time.Second; !*long {
					t.Skip("slow: run it with -long")
				}
			}
			t.Parallel()
			w := newWorld(t, oneTarget, "jo")
			target, origin := w.target(10), w.target(20)
			w.start("[deliver]\ndelay_warning = \"4h\"\nretry = [\"500ms\"]\n")
			w.want("jo", "250")
			bounceTo := path(target.wait(t, 1)[0].mail)

			target.behave(always("rcpt", "450 4.2.1 later"))
			for range 20 {
				w.want("jo", "250")
			}
			w.moved.Store(int64(jump))
			tries := countPrefix(target.commands(false), "RCPT")
			within(t, patience, "all are tried again", func() bool { return countPrefix(target.commands(false), "RCPT") >= tries+20 })
			if waiting, failed := w.waiting(); waiting != 20 || failed != 0 {
				t.Errorf("%d of 20 wait, %d failed", waiting, failed)
			}
			target.behave(nil)
			target.wait(t, 21)
			w.drained()
			if n, _, _ := target.count(); n != 21 {
				t.Errorf("%d of 21 arrived", n)
			}
			if n, _, _ := origin.count(); n != 0 {
				t.Errorf("%d reports: %s", n, origin.arrivals()[0].data)
			}
			reply := w.send("", bounceTo, "Subject: a report\r\n\r\nIt failed.\r\n")
			if inside := jump.Abs() < year; (reply[0] == '2') != inside {
				t.Errorf("a bounce to an address of before: %s", reply)
			}
		})
	}
}
