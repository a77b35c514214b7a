package guard

import (
	"testing"

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
