package postfix

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"srsd/srs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTables shows both tables' answers.
func TestTables(t *testing.T) {
	s := settings(t)
	_, senders := serve(t, s, Sender)
	_, recipients := serve(t, s, Recipient)
	from, to := dial(t, senders), dial(t, recipients)
	ann := rewritten(t, srsDomain, "ann@sender.example")
	quoted := rewritten(t, srsDomain, `"a b"@sender.example`)
	token, _ := rewriter(srsDomain).Token([]byte("id"))
	lost, _ := rewriter(srsDomain).Token([]byte("other"))
	for _, c := range []struct {
		at        *client
		key, want string
	}{
		{from, "ann@sender.example", "200 " + ann},
		{from, "Ann@Sender.Example", "200 " + rewritten(t, srsDomain, "Ann@Sender.Example")},
		{from, "ann%40sender.example", "200 " + ann},
		{from, "j%C3%B6rg@sender.example", "200 " + strings.ReplaceAll(rewritten(t, srsDomain, "jörg@sender.example"), "ö", "%c3%b6")},
		{from, `"a%20b"@sender.example`, "200 " + strings.ReplaceAll(quoted, " ", "%20")},
		{from, long, "200 " + token},
		{from, "SRS0=abcd=G3=x.example=y@hop.example", "200 " + rewritten(t, srsDomain, "SRS0=abcd=G3=x.example=y@hop.example")},
		{from, strings.Replace(long, "a.", "b.", 1), "400 temporary failure"},
		{from, `""`, "500 not found"},
		{from, "%22%22", "500 not found"},
		{from, "<>", "500 not found"},
		{from, "", "500 not found"},
		{from, "ann", "500 not found"},
		{from, "@", "500 not found"},
		{from, "ann@", "500 not found"},
		{from, "a%00b@sender.example", "500 not found"},
		{from, "a b@sender.example", "500 not found"},
		{from, "jo@alumni.example", "500 not found"},
		{from, "jo@ALUMNI.example", "500 not found"},
		{from, "joe@box.example", "500 not found"},
		{from, "x@sub.relay.example", "500 not found"},
		{from, "x@esp.example", "500 not found"},
		{from, ann, "500 not found"},
		{from, rewritten(t, clubSRS, "ann@sender.example"), "500 not found"},
		{to, ann, "200 ann@sender.example"},
		{to, strings.ToLower(ann), "200 ann@sender.example"},
		{to, strings.ReplaceAll(quoted, " ", "%20"), `200 "a%20b"@sender.example`},
		{to, token, "200 " + long},
		{to, lost, "400 temporary failure"},
		{to, rewritten(t, srsDomain, ann[:strings.IndexByte(ann, '@')]+"@hop.example"), "200 SRS0" + ann[4:strings.IndexByte(ann, '@')] + "@hop.example"},
		{to, strings.Replace(ann, "ann", "bob", 1), "500 not found"},
		{to, strings.Replace(ann, srsDomain, "other.example", 1), "500 not found"},
		{to, "SRS0=@" + srsDomain, "500 not found"},
		{to, "SRS1@" + srsDomain, "500 not found"},
		{to, "postmaster@" + srsDomain, "500 not found"},
		{to, "ann@sender.example", "500 not found"},
		{to, "jo@alumni.example", "500 not found"},
		{to, `""`, "500 not found"},
	} {
		if got := c.at.get(c.key); got != c.want {
			t.Errorf("get %s\n got %s\nwant %s", c.key, got, c.want)
		}
	}
}

// TestExpired gives an address a lifetime.
func TestExpired(t *testing.T) {
	s := settings(t)
	old := rewritten(t, srsDomain, "ann@sender.example")
	late := rewriter(srsDomain)
	late.Now = func() time.Time { return today().Add(22 * 24 * time.Hour) }
	s.Router.SRS[srsDomain] = late
	if got := newRules(s).recipient(context.Background(), old); got.status != absent {
		t.Errorf("an expired address: %+v", got)
	}
}

// TestTrouble answers "later" when we are at fault, and never blames the address.
func TestTrouble(t *testing.T) {
	s := settings(t)
	broken := rewriter(srsDomain)
	broken.Keys = nil
	s.Router.SRS[srsDomain] = broken
	r := newRules(s)
	for _, got := range []result{
		r.sender(context.Background(), "ann@sender.example", ""),
		r.recipient(context.Background(), "SRS0=AAAAAAAA=G3=sender.example=ann@"+srsDomain),
	} {
		if got.status != trouble {
			t.Errorf("without keys: %+v", got)
		}
	}
	for _, err := range []error{srs.ErrHash, srs.ErrExpired, fmt.Errorf("x: %w", srs.ErrSyntax)} {
		if isTrouble(err) {
			t.Errorf("%v is said to be our fault", err)
		}
	}
	if !isTrouble(errors.New("disk")) || !isTrouble(srs.ErrConfig) || isTrouble(nil) {
		t.Error("our own faults are not told from an address's")
	}
}

func TestSocketmap(t *testing.T) {
	_, addr := serve(t, settings(t), Socketmap)
	c := dial(t, addr)
	ann, club := rewritten(t, srsDomain, "ann@sender.example"), rewritten(t, clubSRS, "ann@sender.example")
	for _, x := range [][2]string{
		{"forward ann@sender.example", "OK " + ann},
		{"srsencoder ann@sender.example", "OK " + ann},
		{"forward@club.example ann@sender.example", "OK " + club},
		{"forward@SRS.club.example ann@sender.example", "OK " + club},
		{"forward@unknown.example ann@sender.example", "OK " + ann},
		{"reverse " + ann, "OK ann@sender.example"},
		{"srsdecoder " + club, "OK ann@sender.example"},
		{"reverse " + strings.Replace(ann, "ann", "bob", 1), "NOTFOUND "},
		{"forward jo@alumni.example", "NOTFOUND "},
		{`forward ""`, "NOTFOUND "},
		{"forward", "NOTFOUND "},
		{"forward ", "NOTFOUND "},
		{"forward " + strings.Repeat("x", 3000) + "@sender.example", "NOTFOUND "},
		{"forward " + strings.Replace(long, "a.", "b.", 1), "TEMP temporary failure"},
		{"aliases jo@alumni.example", "OK jo@remote.example"},
		{"aliases mix@alumni.example", "OK joe@box.example, jo@remote.example"},
		{"aliases nobody@alumni.example", "NOTFOUND "},
		{"aliases gone@alumni.example", "NOTFOUND "},
		{"aliases drop@alumni.example", "NOTFOUND "},
		{"aliases later@alumni.example", "TEMP temporary failure"},
		{"aliases postmaster@alumni.example", "OK root@remote.example"},
		{"aliases @alumni.example", "NOTFOUND "},
		{"aliases jo@elsewhere.example", "NOTFOUND "},
		{"aliases " + ann, "NOTFOUND "},
		{"FORWARD ann@sender.example", "PERM no such map; there are forward, forward@DOMAIN, reverse and aliases"},
		{"reverse@x.example a", "PERM no such map; there are forward, forward@DOMAIN, reverse and aliases"},
		{"hello", "PERM no such map; there are forward, forward@DOMAIN, reverse and aliases"},
	} {
		if got := c.ask(x[0]); got != x[1] {
			t.Errorf("%s\n got %s\nwant %s", x[0], got, x[1])
		}
	}
}

// TestMalformed shows what ends a connection, and what is said before.
func TestMalformed(t *testing.T) {
	s := settings(t)
	_, table := serve(t, s, Sender)
	_, socketmap := serve(t, s, Socketmap)
	_, policy := serve(t, s, Policy)
	_, milter := serve(t, s, Milter)
	table500 := "500 invalid request\n"
	perm := "18:PERM invalid query,"
	for _, c := range []struct{ addr, sent, want string }{
		{table, "GET ann@sender.example\n", table500},
		{table, "put a b\nget ann@sender.example\n", table500},
		{table, "\n", table500},
		{table, "get %zz\n", table500},
		{table, "get a%4\n", table500},
		{table, "get " + strings.Repeat("x", maxRequest) + "\n", table500},
		{table, "POST / HTTP/1.1\r\nHost: x\r\n\r\nget ann@sender.example\n", table500},
		{table, "\x16\x03\x01\x02\x00\x01\x00\n", table500},
		{socketmap, ":x,", perm},
		{socketmap, "0:,", perm},
		{socketmap, "01:x,", perm},
		{socketmap, "-1:x,", perm},
		{socketmap, "+1:x,", perm},
		{socketmap, " 1:x,", perm},
		{socketmap, "x:forward a,", perm},
		{socketmap, "4096:" + strings.Repeat("x", 4096) + ",", perm},
		{socketmap, "2147483648:x,", perm},
		{socketmap, "18446744073709551617:x,", perm},
		{socketmap, "26:forward ann@sender.example;", perm},
		{socketmap, "POST / HTTP/1.1\r\n\r\n26:forward ann@sender.example,", perm},
		{policy, "\n", ""},
		{policy, "POST / HTTP/1.1\r\n\r\n", ""},
		{policy, "request=other\n\n", ""},
		{policy, "request=smtpd_access_policy\nno equals sign\n\n", ""},
		{policy, "request=smtpd_access_policy\n" + strings.Repeat("a=b\n", 300), ""},
		{policy, "request=" + strings.Repeat("x", maxRequest), ""},
		{milter, "\x00\x00\x00\x00", ""},
		{milter, "\xff\xff\xff\xff", ""},
		{milter, "\x00\x00\x00\x01Z", ""},
		{milter, "\x00\x00\x00\x01O", ""},
		{milter, "\x00\x00\x00\x0dO\x00\x00\x00\x01\x00\x00\x00\xff\x00\x00\x00\xff", ""},
		{milter, "\x00\x00\x00\x0dO\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00\x00\xff", ""},
		{milter, "\x00\x00\x00\x05M<a>x", ""},
		{milter, "\x00\x00\x00\x05R<a>\x00", ""},
		{milter, "\x00\x00\x00\x01E", ""},
		{milter, "\x00\x00\x00\x01D", ""},
		{milter, "\x00\x00\x00\x02C\x00", ""},
		{milter, "GET / HTTP/1.1\r\n\r\n", ""},
	} {
		conn := dial(t, c.addr)
		go func() {
			_, _ = conn.Write([]byte(c.sent)) // the server may close in the middle
		}()
		var got strings.Builder
		if _, err := conn.r.WriteTo(&got); err != nil {
			t.Errorf("%.40q: %v", c.sent, err)
		}
		if got.String() != c.want {
			t.Errorf("%.40q: got %q, want %q", c.sent, got.String(), c.want)
		}
		conn.Close()
	}
	if got := dial(t, table).get("ann@sender.example"); !strings.HasPrefix(got, "200 SRS0=") {
		t.Errorf("the door is dead: %s", got)
	}
}

// TestPipelined sends thousands of requests without waiting, and in pieces.
func TestPipelined(t *testing.T) {
	_, addr := serve(t, settings(t), Socketmap)
	c := dial(t, addr)
	const n = 5000
	go func() {
		var all strings.Builder
		for i := range n {
			q := fmt.Sprintf("forward u%d@sender.example", i)
			fmt.Fprintf(&all, "%d:%s,", len(q), q)
		}
		for s := all.String(); s != ""; {
			k := min(len(s), 1021)
			if _, err := c.Write([]byte(s[:k])); err != nil {
				return
			}
			s = s[k:]
		}
	}()
	for i := range n {
		if got := c.netstring(); !strings.HasPrefix(got, "OK SRS0=") || !strings.Contains(got, fmt.Sprintf("=u%d@", i)) {
			t.Fatalf("answer %d is %q", i, got)
		}
	}
	for _, b := range []byte("26:forward ann@sender.example,") {
		c.write(string(b))
	}
	if got := c.netstring(); !strings.HasPrefix(got, "OK SRS0=") {
		t.Errorf("in pieces: %q", got)
	}
}

// TestManyConnections has a thousand at once, and a limit.
func TestManyConnections(t *testing.T) {
	const limit = 1000
	_, addr := serveWith(t, Config{Settings: settings(t), MaxConnections: limit}, Sender)
	conns := make([]*client, limit)
	for i := range conns {
		conns[i] = dial(t, addr)
		conns[i].write("get ann@sender.example\n")
	}
	for i, c := range conns {
		if got := c.line(); !strings.HasPrefix(got, "200 ") {
			t.Fatalf("connection %d: %s", i, got)
		}
	}
	over := dial(t, addr)
	if got := over.line(); got != "(closed)" {
		t.Errorf("one more than the limit: %s", got)
	}
	conns[0].Close()
	for range 100 {
		c := dial(t, addr)
		_, _ = c.Write([]byte("get ann@sender.example\n")) // may be closed already
		if strings.HasPrefix(c.line(), "200 ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("no place became free")
}

// TestReload swaps the settings under an open connection.
func TestReload(t *testing.T) {
	s := settings(t)
	server, addr := serve(t, s, Sender)
	c := dial(t, addr)
	if got := c.get("ann@sender.example"); !strings.HasPrefix(got, "200 ") {
		t.Fatal(got)
	}
	s.Exclude = []string{"sender.example"}
	server.SetSettings(s)
	if got := c.get("ann@sender.example"); got != "500 not found" {
		t.Errorf("after the reload: %s", got)
	}
}

// TestEncoding takes any text through a tcp_table's encoding and back.
func TestEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		line := append(appendEncoded([]byte("get "), text), '\n')
		for _, c := range line[len("get ") : len(line)-1] {
			if c <= ' ' || c > '~' {
				t.Fatalf("%q stands in %q", c, line)
			}
		}
		if got, ok := tableKey(line); !ok || string(got) != text {
			t.Fatalf("%q has become %q", text, got)
		}
	})
}

// TestThereAndBack takes senders through both maps.
func TestThereAndBack(t *testing.T) {
	r := newRules(settings(t))
	rapid.Check(t, func(t *rapid.T) {
		sender := rapid.StringMatching(`[a-z0-9!#$%&'*/?^_{|}~-]{1,20}@[a-z]{1,9}\.example`).Draw(t, "sender")
		there := r.sender(context.Background(), sender, "")
		if there.status == absent && r.stays(domainOf(sender)) {
			return
		}
		if back := r.recipient(context.Background(), there.text); there.status != found || back != (result{found, sender}) {
			t.Fatalf("%s → %+v → %+v", sender, there, back)
		}
	})
}

// TestIdle ends a connection that asks nothing.
func TestIdle(t *testing.T) {
	_, addr := serveWith(t, Config{Settings: settings(t), IdleTimeout: 50 * time.Millisecond}, Sender)
	c := dial(t, addr)
	if got := c.line(); got != "(closed)" {
		t.Errorf("got %s", got)
	}
}

// TestUnixSocket serves a socket in the file system.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := New(Config{Settings: settings(t)})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l, Socketmap) }()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q := client{Conn: c, t: t, r: nil}
	q.write("19:aliases x@y.example,")
	q.write("0")
	if err := server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket was left behind")
	}
	if err := server.Serve(l, Socketmap); !errors.Is(err, ErrClosed) {
		t.Errorf("serving a closed server: %v", err)
	}
	if err := server.Serve(l, "back"); err == nil || errors.Is(err, ErrClosed) {
		t.Errorf("serving at no door: %v", err)
	}
}
