package receive_test

import (
	"strings"
	"testing"

	"srsd/internal/receive"
)

// BenchmarkMessage is one message of 4 KB in an open session, to a deliverer
// that throws it away.
func BenchmarkMessage(b *testing.B) {
	bed := start(b, func(c *receive.Config) { c.Logger = nil })
	text := "Subject: hello\r\n\r\n" + strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz .,;:\r\n", 95)
	p := bed.open(b)
	b.ReportAllocs()
	for b.Loop() {
		p.raw("MAIL FROM:<ann@sender.example>\r\nRCPT TO:<jo@alumni.example>\r\nDATA\r\n")
		p.want("250")
		p.want("250")
		p.want("354")
		p.raw(text + ".\r\n")
		p.want("250")
		bed.forget()
	}
}
