package guard

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"srsd/envelope"
)

// reference reads a message text the slow way: all at once, by the words of
// RFC 5321, section 4.1.1.4 and 4.5.2. The end is where CRLF.CRLF is, the
// first CRLF being that of DATA where the text is empty.
func reference(stream string) (text string, bad, ended bool, rest string) {
	all := "\r\n" + stream
	i := strings.Index(all, "\r\n.\r\n")
	if i < 0 {
		return "", false, false, ""
	}
	rest = all[i+5:]
	text = strings.ReplaceAll(all[:i+2], "\r\n.", "\r\n")[2:]
	plain := strings.ReplaceAll(all[:i+2], "\r\n", "")
	return text, strings.ContainsAny(plain, "\r\n\x00"), true, rest
}

// fakeConn is a connection that says what r says.
type fakeConn struct {
	net.Conn
	r io.Reader
}

func (c fakeConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// textOf reads stream as message text.
func textOf(r io.Reader) (text, behind string, err error) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	c := New(fakeConn{server, r}, &Config{})
	c.phase = phaseText
	var got bytes.Buffer
	_, err = io.Copy(&got, c.Data())
	c.drain()
	rest := append([]byte{}, c.in[c.r:c.w]...)
	more, _ := io.ReadAll(r)
	return got.String(), string(append(rest, more...)), err
}

// TestTextAsReference compares with the reference over streams made of what
// matters, cut into pieces anyhow.
func TestTextAsReference(t *testing.T) {
	word := rapid.SampledFrom([]string{"\r", "\n", ".", "\r\n", "\r\n.", "\r\n.\r\n", "\r\n..", "x", "\x00", "text", strings.Repeat("y", 3000), ".\r"})
	rapid.Check(t, func(t *rapid.T) {
		stream := strings.Join(rapid.SliceOf(word).Draw(t, "stream"), "") + rapid.SampledFrom([]string{"\r\n.\r\n", "\r\n.\r\nNOOP\r\n", ""}).Draw(t, "end")
		var r io.Reader = strings.NewReader(stream)
		switch rapid.IntRange(0, 2).Draw(t, "pieces") {
		case 1:
			r = iotest.OneByteReader(r)
		case 2:
			r = iotest.HalfReader(r)
		}
		got, rest, err := textOf(r)
		want, bad, ended, wantRest := reference(stream)
		switch {
		case !ended:
			if _, ok := err.(envelope.Reply); !ok {
				t.Fatalf("no end: error %v", err)
			}
		case bad != (err != nil):
			t.Fatalf("error %v, want one: %v", err, bad)
		case !bad && got != want:
			t.Fatal(cmp.Diff(want, got))
		case rest != wantRest:
			t.Fatalf("rest %q, want %q", rest, wantRest)
		}
	})
}

func TestLongestLine(t *testing.T) {
	line := strings.Repeat("x", maxDataLine-2)
	if got, _, err := textOf(strings.NewReader(line + "\r\n.\r\n")); err != nil || got != line+"\r\n" {
		t.Errorf("%d octets, %v", len(got), err)
	}
	if _, rest, err := textOf(strings.NewReader("x" + line + "\r\n.\r\nNOOP\r\n")); err != replyLongText || rest != "NOOP\r\n" {
		t.Errorf("%v, then %q", err, rest)
	}
}

// TestDrainEnds shows that a message nobody wants is not read for ever.
func TestDrainEnds(t *testing.T) {
	endless := endlessReader(strings.Repeat("x", 98) + "\r\n")
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	c := New(fakeConn{server, endless}, &Config{})
	c.phase = phaseText
	c.drain()
	if !c.text.cut || c.text.n > maxDrain+bigBuffer {
		t.Errorf("cut off: %v, after %d octets", c.text.cut, c.text.n)
	}
}

type endlessReader string

func (r endlessReader) Read(p []byte) (n int, err error) {
	for n+len(r) <= len(p) {
		n += copy(p[n:], r)
	}
	return n, nil
}

func BenchmarkText(b *testing.B) {
	message := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 100_000) + ".\r\n"
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		c := New(fakeConn{discardConn{}, strings.NewReader(message)}, &Config{})
		c.phase = phaseText
		if n, err := io.Copy(io.Discard, c.Data()); err != nil || n != int64(len(message)-3) {
			b.Fatal(n, err)
		}
	}
}

type discardConn struct{ net.Conn }

func (discardConn) SetReadDeadline(time.Time) error { return nil }

// TestBuffers shows that a connection keeps its large buffer only while much
// comes.
func TestBuffers(t *testing.T) {
	b := &backend{}
	dial := serve(t, b, &Config{})
	c := dial().inData()
	c.send(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 50_000) + ".\r\n")
	if got := c.reply(); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	c.want("NOOP", "250", "NOOP", "250")
	g := last(b)
	g.mu.Lock() // the session's goroutine has set its wait, and reads no field now
	defer g.mu.Unlock()
	if g.big != nil {
		t.Error("the large buffer was kept")
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("a\r\n..b\r\n.\r\nNOOP\r\n"))
	f.Add([]byte("\r\n.\r\n"))
	f.Add([]byte(".\r\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, rest, err := textOf(bytes.NewReader(stream))
		want, bad, ended, wantRest := reference(string(stream))
		if ended && !bad && (err != nil || got != want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		if ended && bad && err == nil || !ended && err == nil {
			t.Errorf("accepted %q", got)
		}
		if ended && rest != wantRest {
			t.Errorf("rest %q, want %q", rest, wantRest)
		}
	})
}
