package deliver

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sent is what a body looks like on the wire.
func sent(t rapid.TB, head, body string) string {
	near, far := net.Pipe()
	c := &conn{raw: near, net: near, times: Policy{}.withDefaults().phases()}
	failed := make(chan error, 1)
	go func() { failed <- c.sendBody(head, bytes.NewReader([]byte(body))); near.Close() }()
	got, _ := io.ReadAll(far)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// unstuffed reads what a strict server reads: RFC 5321, section 4.5.2.
func unstuffed(t rapid.TB, wire string) string {
	var out strings.Builder
	for r := bufio.NewReader(strings.NewReader(wire)); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("no final dot in %.100q", wire)
		}
		if line == ".\r\n" {
			if rest, _ := io.ReadAll(r); len(rest) > 0 {
				t.Fatalf("%.100q behind the dot", rest)
			}
			return out.String()
		}
		out.WriteString(strings.TrimPrefix(line, "."))
	}
}

func TestSendBody(t *testing.T) {
	for _, c := range []struct{ head, body, want string }{
		{"", "", ".\r\n"},
		{"", "a\r\n", "a\r\n.\r\n"},
		{"", "a", "a\r\n.\r\n"},
		{"H: x\r\n", ".\r\n..\r\na.b\r\n", "H: x\r\n..\r\n...\r\na.b\r\n.\r\n"},
		{"H: x\r\n", "", "H: x\r\n.\r\n"},
	} {
		if got := sent(t, c.head, c.body); got != c.want {
			t.Errorf("%q: %q, want %q", c.body, got, c.want)
		}
	}
}

// What a server reads is what the body holds, wherever the blocks end.
func TestSendBodyIsExact(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		unit := rapid.SampledFrom([]string{".\r\n", "..\r\n", "\r\n", "x\r\n", ".x\r\n", "long line " + strings.Repeat("y", 900) + "\r\n"})
		var b strings.Builder
		// around the size of a block
		b.WriteString(strings.Repeat("z", rapid.IntRange(0, 20).Draw(r, "shift")) + "\r\n")
		for range rapid.SampledFrom([]int{0, 1, blockSize / 2 / 3, blockSize / 3}).Draw(r, "filler") {
			b.WriteString(".\r\n")
		}
		for _, u := range rapid.SliceOfN(unit, 0, 60).Draw(r, "lines") {
			b.WriteString(u)
		}
		if got := unstuffed(r, sent(r, "H: x\r\n", b.String())); got != "H: x\r\n"+b.String() {
			r.Fatalf("%d octets became %d", b.Len(), len(got))
		}
	})
}

func TestASCIIHeader(t *testing.T) {
	for in, want := range map[string]bool{
		"Subject: x\r\n\r\nö\r\n": true,
		"Subject: ö\r\n\r\n":      false,
		"":                        true,
		"Subject: " + strings.Repeat("x", 5000) + "ö\r\n":     false,
		strings.Repeat("x", 4096) + "\r\nö: x\r\n\r\n":        false,
		"A: b\r\n" + strings.Repeat("\r\n", 1) + "ö":          true,
		strings.Repeat("X: y\r\n", 2000) + "ö: z\r\n\r\n":     false,
		strings.Repeat("X: y\r\n", 2000) + "\r\nö: z\r\n\r\n": true,
	} {
		if asciiHeader(bytes.NewReader([]byte(in))) != want {
			t.Errorf("%.40q: %v", in, !want)
		}
	}
}

func BenchmarkSendBody(b *testing.B) {
	near, far := net.Pipe()
	go io.Copy(io.Discard, far)
	defer near.Close()
	c := &conn{raw: near, net: near, times: phases{block: time.Minute}}
	body := bytes.NewReader(bytes.Repeat([]byte("a line of a message, as they come\r\n"), 120))
	b.SetBytes(body.Size())
	b.ReportAllocs()
	for b.Loop() {
		c.sendBody("Delivered-To: jo@alumni.example\r\n", body)
	}
}
