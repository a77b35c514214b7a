package postfix

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func networks(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// A pipe is a connection that says what it was given, and records the answers.
type pipe struct {
	net.Conn
	in  io.Reader
	out *bytes.Buffer
}

func (p pipe) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p pipe) Write(b []byte) (int, error) { return p.out.Write(b) }

// fuzzDoor sends a door anything, and checks that what comes back is answers.
func fuzzDoor(f *testing.F, s Settings, d Door, check func(*testing.T, *bufio.Reader)) {
	server := New(Config{Settings: s})
	serve := map[Door]func(*conn) error{
		Sender: server.serveSender, Recipient: server.serveRecipient, Socketmap: server.serveSocketmap,
		Policy: server.servePolicy, Milter: server.serveMilter,
	}[d]
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := net.Pipe() // for deadlines and addresses only
		defer a.Close()
		defer b.Close()
		var out bytes.Buffer
		c := newConn(pipe{a, bytes.NewReader(data), &out}, defaultIdle)
		if err := serve(c); err == nil && d != Milter {
			t.Error("the connection has ended without a cause")
		}
		if err := c.w.Flush(); err != nil {
			t.Fatal(err)
		}
		check(t, bufio.NewReaderSize(&out, maxRequest))
	})
}

func FuzzTable(f *testing.F) {
	signed := rewritten(f, srsDomain, "ann@sender.example")
	for _, s := range []string{
		"get ann@sender.example\nget \"\"\n", "get " + signed + "\n", "get j%C3%B6rg@sender.example\n", "get %zz\n", "put a b\n",
		"get SRS0=@" + srsDomain + "\n", "get SRS1=a=b=@" + srsDomain + "\n", "get " + strings.Repeat("x", 200) + "@sender.example\n",
	} {
		f.Add([]byte(s))
	}
	s := settings(f)
	fuzzDoor(f, s, Recipient, func(t *testing.T, out *bufio.Reader) { checkLines(t, out, "200 ", "400 ", "500 ") })
}

func FuzzSenderTable(f *testing.F) {
	for _, s := range []string{"get ann@sender.example\n", "get \"a%20b\"@sender.example\n", "get SRS0=abcd=G3=x.example=y@hop.example\n", "get " + long + "\n"} {
		f.Add([]byte(s))
	}
	fuzzDoor(f, settings(f), Sender, func(t *testing.T, out *bufio.Reader) { checkLines(t, out, "200 ", "400 ", "500 ") })
}

// checkLines wants lines of printable ASCII with one of these beginnings.
func checkLines(t *testing.T, out *bufio.Reader, beginnings ...string) {
	for {
		line, err := out.ReadString('\n')
		if err == io.EOF && line == "" {
			return
		}
		if err != nil {
			t.Fatalf("%q does not end: %v", line, err)
		}
		known := false
		for _, b := range beginnings {
			known = known || strings.HasPrefix(line, b)
		}
		if !known {
			t.Errorf("an odd answer: %q", line)
		}
		for _, r := range line[:len(line)-1] {
			if r < ' ' || r > '~' {
				t.Errorf("%q in the answer %q", r, line)
			}
		}
	}
}

func FuzzSocketmap(f *testing.F) {
	for _, s := range []string{
		"26:forward ann@sender.example,", "0:,", "01:x,", "5:hello,", "99999999:", "9:reverse x,25:aliases jo@alumni.example,",
		"41:forward@club.example ann@sender.example,",
	} {
		f.Add([]byte(s))
	}
	fuzzDoor(f, settings(f), Socketmap, func(t *testing.T, out *bufio.Reader) {
		for {
			text, err := readNetstring(out)
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatalf("an answer is no netstring: %v", err)
			}
			status, _, _ := strings.Cut(string(text), " ")
			if !strings.Contains("OK NOTFOUND TEMP PERM", status) {
				t.Errorf("an odd answer: %q", text)
			}
		}
	})
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte("request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.1\nhelo_name=mx\nsender=ann@sender.example\nrecipient=jo@alumni.example\n\n"))
	f.Add([]byte("request=smtpd_access_policy\nprotocol_state=RCPT\nsender=\nrecipient=SRS0=a=b=c=d@" + srsDomain + "\n\n"))
	f.Add([]byte("request=smtpd_access_policy\nprotocol_state=MAIL\nclient_address=::1\nsender=fail@sender.example\n\n"))
	fuzzDoor(f, settings(f), Policy, func(t *testing.T, out *bufio.Reader) {
		for {
			line, err := out.ReadString('\n')
			if err == io.EOF && line == "" {
				return
			}
			empty, _ := out.ReadString('\n')
			if !strings.HasPrefix(line, "action=") || empty != "\n" {
				t.Fatalf("an odd answer: %q %q", line, empty)
			}
		}
	})
}
