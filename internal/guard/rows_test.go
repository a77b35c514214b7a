package guard

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A row is one gap of go-smtp v0.25.1: what it does by itself, and what it does
// behind the guard. When a newer go-smtp changes a raw column, the guard may
// have less to do.
type row struct {
	id, what     string
	play         func(dial func() *client, b *backend) string
	raw, guarded string
}

const brief = 150 * time.Millisecond // of silence, where no reply is to come

func TestRows(t *testing.T) {
	for _, r := range rows {
		t.Run(r.id, func(t *testing.T) {
			t.Parallel()
			for _, side := range []struct{ name, want string }{{"raw", r.raw}, {"guarded", r.guarded}} {
				if side.want == "" {
					continue
				}
				b := &backend{}
				s := newServer(b)
				cfg := &Config{TLS: serverTLS}
				if r.id == "G24" {
					cfg.GreetDelay = 10 * time.Second // it is over with the first octet
				}
				if side.name == "raw" {
					cfg = nil
					s.MaxLineLength = 2000
					s.TLSConfig = serverTLS()
				}
				if got := r.play(serveOn(t, s, cfg), b); got != side.want {
					t.Errorf("%s, %s:\n got %s\nwant %s", r.what, side.name, got, side.want)
				}
			}
		})
	}
}

var rows = []row{
	{"G1", "20 things that are not CRLF.CRLF end no message", playEnds, "0 extra, 0 refused", "0 extra, 19 refused"},
	{"G2", "bare CR, bare LF and NUL in a message", playBodies("a\rb", "a\nb", "a\x00b", "\n", "a\r\n\nb"), "250 250 250 250 250", "550 550 550 550 550"},
	{"G3", "the end is seen behind CR and behind a false end", playBodies("x\r", "x\r\n.\r"), "- -", "550 550"},
	{"G4", "STARTTLS with more behind it", playInjection, "0 run inside TLS", "0 run inside TLS"},
	{"G5", "STARTTLS is an exact verb", each("STARTTLSxyz", "STARTTLS foo", "STARTTLS"), "220 220 220", "500 501 220"},
	{"G6", "STARTTLS before EHLO", playBeforeEHLO, "220", "220"},
	{"G7", "bare LF in commands", say("NOOP\n", "NOOP\nNOOP\r\n", "NOOP\rNOOP\r\n", "NOOP\r\n"), "250 250 250 501 250", "500 500 500 500 250"},
	{"G8", "a command cut off by the end of file", playTruncated, "1 recipients", "0 recipients"},
	{"G9", "EHLO names", each("EHLO a\rb", "EHLO a\x00b", "EHLO \xff", "EHLO <script>", "EHLO a) by x (", "EHLO "+strings.Repeat("a", 1500), "EHLO [127.0.0.1]", "EHLO", "HELO", "EHLO my_host-.test"),
		"250 250 250 250 250 250 250 501 501 250", "500 500 501 501 501 501 250 501 501 250"},
	{"G10", "addresses that are none", froms("<a\rb@b.test>", "<a\x00b@b.test>", "<a@b\r.test>", "<a@b.test\x7f>", "<\xff@b.test>", "<a@b..test>", "<a@[junk]>", "<a@b<c.test>", "<a@b:c>", "<a@"+strings.Repeat("d", 64)+".test>", "<a@"+strings.Repeat("abc.", 120)+"test>", "<"+strings.Repeat("l", 300)+"@b.test>"),
		"250 250 250 250 250 250 250 250 250 250 250 250", "500 500 500 500 501 501 501 501 501 501 501 501"},
	{"G11", "two at signs", froms("<a@b@c.test>"), "250", "501"},
	{"G12", "a source route is dropped", playRoute, "250 a@b.test", "250 a@b.test"},
	{"G13", "forms around the path", froms("a@b.test", " <a@b.test>", "<a@b.test>SIZE=1", "<a@b.test>\tSIZE=1", "<a@b.test", "a@b.test>", "  <a@b.test>"), "250 250 250 250 501 500 250", "250 250 501 500 501 501 501"},
	{"G14", "an address in UTF-8 without SMTPUTF8", froms("<j\u00f6@b.test>", "<a@b\u00f6.test>", "<j\u00f6@b.test> SMTPUTF8"), "250 250 250", "553 553 250"},
	{"G15", "SIZE", froms("<> SIZE=-1", "<> SIZE="+strings.Repeat("9", 30), "<> SIZE=4294967296", "<> SIZE=2000000", "<> SIZE=1 SIZE=2", "<> SIZE=", "<> SIZE=1000"), "501 501 501 552 250 501 250", "501 552 552 552 501 501 250"},
	{"G15b", "other parameters", froms("<> FOO=BAR", "<> =x", "<> BODY=BINARYMIME", "<> BODY=8bitmime RET=HDRS ENVID=x", "<> SMTPUTF8=1", "<> AUTH=<>"), "500 500 504 250 250 250", "555 501 555 250 501 555"},
	{"G16", "recipients without a domain", playPostmaster, "501 501 501 501 ", "501 250 250 501 postmaster Postmaster"},
	{"G17", "MAIL within a transaction", say("MAIL FROM:<a@a.test>\r\n", "MAIL FROM:<b@b.test>\r\n"), "250 250", "250 503"},
	{"G18", "a quoted local part stays one address", playQuoted, `250 u> NOTIFY=NEVER @b.test`, `250 "u> NOTIFY=NEVER "@b.test`},
	{"G19", "recipients without end", playRecipients, "100 taken, 50 later; 500 refused, open", "100 taken, 50 later; 20 refused, closed"},
	{"G20", "junk without end (200 tried)", playJunk, "NOOP 200 RSET 200 VRFY 200 HELP 200 EHLO 200 MAIL 200 RCPT 200 AUTH 200 FOO 4 empty 4", "NOOP 98 RSET 99 VRFY 99 HELP 99 EHLO 99 MAIL 20 RCPT 20 AUTH 20 FOO 20 empty 20"},
	{"G21", "command lines too long", say("NOOP "+strings.Repeat("x", 2100)+"\r\n", "NOOP "+strings.Repeat("x", 200_000)+"\r\n", "NOOP\r\n"), "500 closed", "500 500 250"},
	{"G22", "a message line of 100,000 octets", playBodies(strings.Repeat("x", 100_000)), "554", "250"},
	{"G23", "a header of 200,000 octets: the session's to judge", playBodies(strings.Repeat("X: y\r\n", 33_000)), "250", "250"},
	{"G24", "a client that does not wait for the banner", playEarly, "220 250 closed, 0 messages", "554 closed, 0 messages"},
	{"G25", "HTTP on the port", playHTTP, "1 messages", "0 messages, closed at line 1"},
	{"G26", "commands behind QUIT", playAfterQuit, "1 messages", "0 messages"},
	{"G27", "BDAT that lies about its size", playBdat("abc", "6 FOO", "4294967296"), "3 messages", "0 messages, all closed"},
	{"G28", "BDAT without RCPT", playBdatEarly, "502 250", "502 closed"},
	{"G29", "BDAT of 3,000 octets without LF, in one segment", playBdatSegment, "500", "502"},
	{"G30", "BDAT, RSET and MAIL at once (a race in go-smtp)", playBdatReset, "", "502 closed"},
	{"G31", "the end of file within a message", playCutOff, "0 messages", "0 messages"},
	{"G34", "nothing passes that a liberal target could split", playBodies("x\r.\r\ny", "x\n.\ny", "x\n\r.\r\ny"), "250 250 250", "550 550 550"},
	{"G35", "no path passes that would need escaping on its way out", froms("<a\x00@b.test>", "<a b@b.test>", "<a>b@b.test>", `<"a`+"\x01"+`"@b.test>`), "250 501 501 250", "500 501 501 500"},
	{"G36", "replies do not repeat what the client said", playEcho, "Roger, accepting mail from <a b@b.test>", "Sender OK"},
}

// codesOf makes a row's result of replies: their codes, "-" for none.
func codesOf(replies []string) string {
	for i, r := range replies {
		switch {
		case r == "":
			replies[i] = "closed"
		case len(r) > 3:
			replies[i] = r[:3]
		}
	}
	return strings.Join(replies, " ")
}

// each says each line in a session of its own.
func each(lines ...string) func(func() *client, *backend) string {
	return func(dial func() *client, _ *backend) string {
		var out []string
		for _, l := range lines {
			c := dial().open()
			c.want("MAIL FROM:<a@a.test>", "250")
			out = append(out, c.cmd(l))
			c.Close()
		}
		return codesOf(out)
	}
}

func froms(paths ...string) func(func() *client, *backend) string {
	return func(dial func() *client, _ *backend) string {
		var out []string
		for _, p := range paths {
			c := dial().open()
			out = append(out, c.cmd("MAIL FROM:"+p))
			c.Close()
		}
		return codesOf(out)
	}
}

// say sends pieces in one session, with a silence behind each.
func say(pieces ...string) func(func() *client, *backend) string {
	return func(dial func() *client, _ *backend) string {
		c := dial().open()
		var out []string
		for _, p := range pieces {
			c.send(p)
			out = append(out, c.codes(brief)...)
			if len(out) > 0 && out[len(out)-1] == "closed" {
				break
			}
		}
		return strings.Join(out, " ")
	}
}

func playBodies(bodies ...string) func(func() *client, *backend) string {
	return func(dial func() *client, _ *backend) string {
		var out []string
		for _, body := range bodies {
			c := dial().inData()
			c.send(body + "\r\n.\r\n")
			out = append(out, c.within(time.Second))
			c.Close()
		}
		return codesOf(out)
	}
}

// falseEnds are taken for the end of a message by one server or another.
var falseEnds = []string{"\n.\n", "\n.\r\n", "\r.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r\n.\r\r\n", "\n.\r", "\r\r.\r\n", "\r\n.\x00\r\n",
	"\r\n\x00.\r\n", "\r\n.\r\x00\n", "\r\x00\n.\r\n", "\n\r.\r\n", "\r\n.\n\r\n", "\n\n.\n\n", "\r\r.\r\r", "\r.\n", "\n\r\n.\n\r\n", "\v.\v"}

func playEnds(dial func() *client, b *backend) string {
	const hidden = "MAIL FROM:<inner@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\ninner"
	refused := 0
	for _, end := range falseEnds {
		c := dial().inData()
		c.send("outer" + end + hidden + "\r\n.\r\n")
		if !strings.HasPrefix(c.within(brief), "250") {
			refused++
		}
		c.Close()
	}
	extra := 0
	for _, m := range b.got() {
		if !strings.HasPrefix(m, "outer") {
			extra++
		}
	}
	return fmt.Sprintf("%d extra, %d refused", extra, refused)
}

func playInjection(dial func() *client, b *backend) string {
	run := 0
	for _, tail := range []string{"NOOP\r\n", "EHLO x\r\nMAIL FROM:<a@a.test>\r\n", "x"} {
		c := dial().open()
		c.send("STARTTLS\r\n" + tail)
		if r := c.reply(); strings.HasPrefix(r, "220") && c.startTLS() == nil {
			if r := c.within(brief); r != "-" && r != "" {
				run++
			}
		}
		c.Close()
	}
	return fmt.Sprintf("%d run inside TLS", run)
}

func playBeforeEHLO(dial func() *client, _ *backend) string {
	c := dial()
	c.reply()
	return codesOf([]string{c.cmd("STARTTLS")})
}

func playTruncated(dial func() *client, b *backend) string {
	c := dial().open()
	c.want("MAIL FROM:<a@a.test>", "250")
	c.send("RCPT TO:b@b.te")
	c.closeWrite()
	c.codes(time.Second)
	return fmt.Sprintf("%d recipients", len(b.rcpts))
}

func playRoute(dial func() *client, b *backend) string {
	c := dial().open()
	r := c.cmd("MAIL FROM:<@x.test,@y.test:a@b.test>")
	return r[:3] + " " + strings.Join(b.mails, " ")
}

func playPostmaster(dial func() *client, b *backend) string {
	c := dial().open()
	c.want("MAIL FROM:<>", "250")
	var out []string
	for _, to := range []string{"", "postmaster", "Postmaster", "u"} {
		out = append(out, c.cmd("RCPT TO:<"+to+">"))
	}
	return codesOf(out) + " " + strings.Join(b.rcpts, " ")
}

func playQuoted(dial func() *client, b *backend) string {
	c := dial().open()
	c.want("MAIL FROM:<>", "250")
	r := c.cmd(`RCPT TO:<"u> NOTIFY=NEVER "@b.test>`)
	return r[:3] + " " + strings.Join(b.rcpts, " ")
}

func playRecipients(dial func() *client, b *backend) string {
	taken, later := 0, 0
	c := dial().open()
	c.want("MAIL FROM:<>", "250")
	for i := range 150 {
		switch r := c.cmd(fmt.Sprintf("RCPT TO:<u%d@b.test>", i)); r[:3] {
		case "250":
			taken++
		case "452":
			later++
		}
	}
	c.want("DATA", "354", "x\r\n.", "250")
	out := fmt.Sprintf("%d taken, %d later; ", taken, later)
	c = dial().open()
	c.want("MAIL FROM:<>", "250")
	for n := range 500 {
		if r := c.cmd("RCPT TO:<nobody@b.test>"); r == "" || r[:3] == "421" {
			return out + fmt.Sprintf("%d refused, closed", n)
		}
	}
	return out + "500 refused, open"
}

func playJunk(dial func() *client, _ *backend) string {
	var out []string
	for _, x := range [][2]string{{"NOOP", "NOOP"}, {"RSET", "RSET"}, {"VRFY", "VRFY a"}, {"HELP", "HELP"}, {"EHLO", "EHLO a"}, {"MAIL", "MAIL FROM:<bad"}, {"RCPT", "RCPT TO:<nobody@b.test>"}, {"AUTH", "AUTH PLAIN"}, {"FOO", "FOOB"}, {"empty", ""}} {
		c := dial().open()
		if x[0] == "NOOP" {
			c.want("NOOP", "250")
		}
		if x[0] == "RCPT" {
			c.want("MAIL FROM:<>", "250")
		}
		n := 0
		for ; n < 200; n++ {
			if r := c.cmd(x[1]); r == "" || r[:3] == "421" || strings.Contains(r, "Too many errors") {
				break
			}
		}
		out = append(out, fmt.Sprint(x[0], " ", n))
		c.Close()
	}
	return strings.Join(out, " ")
}

func playEarly(dial func() *client, b *backend) string {
	c := dial()
	c.send("EHLO client.test\r\nQUIT\r\n")
	codes := c.codes(brief)
	if len(codes) == 4 { // 221
		codes = append(codes[:2], codes[3])
	}
	return fmt.Sprintf("%s, %d messages", strings.Join(codes, " "), len(b.got()))
}

// aMessage is a whole transaction, in one piece.
const aMessage = "EHLO h.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"

func playHTTP(dial func() *client, b *backend) string {
	c := dial()
	c.reply()
	c.send("POST / HTTP/1.0\r\nHost: x\r\n" + aMessage + "QUIT\r\n")
	codes := c.codes(brief)
	out := fmt.Sprintf("%d messages", len(b.got()))
	if len(codes) == 2 && codes[1] == "closed" {
		out += ", closed at line 1"
	}
	return out
}

func playAfterQuit(dial func() *client, b *backend) string {
	c := dial()
	c.reply()
	c.send("QUIT\r\n" + aMessage)
	c.codes(brief)
	return fmt.Sprintf("%d messages", len(b.got()))
}

func playBdat(args ...string) func(func() *client, *backend) string {
	return func(dial func() *client, b *backend) string {
		closed := 0
		for _, a := range args {
			c := dial().open()
			c.want("MAIL FROM:<a@a.test>", "250", "RCPT TO:<b@b.test>", "250")
			c.send("BDAT " + a + "\r\nRSET\r\n" + aMessage)
			if codes := c.codes(brief); codes[len(codes)-1] == "closed" {
				closed++
			}
			c.Close()
		}
		out := fmt.Sprintf("%d messages", len(b.got()))
		if closed == len(args) {
			out += ", all closed"
		}
		return out
	}
}

func playBdatEarly(dial func() *client, b *backend) string {
	c := dial().open()
	c.send("BDAT 6\r\nNOOP\r\nNOOP\r\n")
	return strings.Join(c.codes(brief), " ")
}

func playBdatSegment(dial func() *client, b *backend) string {
	c := dial().open()
	c.want("MAIL FROM:<a@a.test>", "250", "RCPT TO:<b@b.test>", "250")
	c.send("BDAT 3000 LAST\r\n" + strings.Repeat("x", 3000))
	return codesOf([]string{c.reply()})
}

func playBdatReset(dial func() *client, b *backend) string {
	c := dial().open()
	c.want("MAIL FROM:<a@a.test>", "250", "RCPT TO:<b@b.test>", "250")
	c.send("BDAT 1\r\nxRSET\r\nMAIL FROM:<c@c.test>\r\n")
	return strings.Join(c.codes(brief), " ")
}

func playCutOff(dial func() *client, b *backend) string {
	c := dial().inData()
	c.send("Subject: x\r\n\r\nhalf")
	c.closeWrite()
	c.codes(time.Second)
	c = dial().inData()
	c.send("Subject: x\r\n\r\nhalf\r\n.\r")
	c.closeWrite()
	c.codes(time.Second)
	return fmt.Sprintf("%d messages", len(b.got()))
}

func playEcho(dial func() *client, b *backend) string {
	r := dial().open().cmd(`MAIL FROM:<"a b"@b.test>`)
	return r[len("250 2.x.0 "):]
}

// closeWrite sends FIN and keeps reading.
func (c *client) closeWrite() { c.Conn.(interface{ CloseWrite() error }).CloseWrite() }
