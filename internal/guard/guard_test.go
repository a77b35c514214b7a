package guard

import (
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMessage(t *testing.T) {
	b := &backend{}
	c := serve(t, b, &Config{})().inData()
	c.send("Subject: x\r\n\r\n..dot\r\n.x\r\n\r\nend\r\n.\r\n")
	if got := c.reply(); got[:3] != "250" {
		t.Fatal(got)
	}
	c.want("QUIT", "221")
	if diff := cmp.Diff([]string{"Subject: x\r\n\r\n.dot\r\nx\r\n\r\nend\r\n"}, b.got()); diff != "" {
		t.Error(diff)
	}
}

// TestCheap shows that a client in the middle of a message costs less than
// 20 KB with go-smtp, its session and the goroutine. How many there may be is
// not the guard's to say.
func TestCheap(t *testing.T) {
	const n = 400
	dial := serve(t, &backend{}, &Config{})
	before := memory()
	for range n {
		c := &client{Conn: dial().Conn}
		c.send("EHLO client.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nhalf a message")
	}
	time.Sleep(brief)
	if each := (memory() - before) / n; each >= 20<<10 {
		t.Errorf("%d octets each", each)
	} else {
		t.Logf("%d octets each", each)
	}
}

func memory() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
