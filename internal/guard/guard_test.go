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

// TestCheap shows that a client in the middle of a message costs hardly more
// behind the guard than with go-smtp alone, which takes about 15 KB for it.
// How many there may be is not the guard's to say.
func TestCheap(t *testing.T) {
	const n, most = 300, 4 << 10
	used := map[string]int{}
	for name, cfg := range map[string]*Config{"raw": nil, "guarded": {}} {
		dial := serve(t, &backend{}, cfg)
		before := memory()
		for range n {
			c := &client{Conn: dial().Conn}
			c.send("EHLO client.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nhalf a message")
		}
		time.Sleep(brief)
		used[name] = (memory() - before) / n
	}
	t.Logf("octets each, with the client's end: %v", used)
	if extra := used["guarded"] - used["raw"]; extra > most {
		t.Errorf("%d octets more each", extra)
	}
}

func memory() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
