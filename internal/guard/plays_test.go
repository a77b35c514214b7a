package guard

import (
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
)

// greetLate makes early talkers visible: the wait is over with the first octet.
func greetLate(_ *smtp.Server, c *Config) { c.GreetDelay = 10 * time.Second }

// impatient sets the same short idle time on both sides.
func impatient(s *smtp.Server, c *Config) {
	s.ReadTimeout, c.Idle = 400*time.Millisecond, 400*time.Millisecond
}

func playPause(dial func() *client, b *backend) string {
	c := dial().inData()
	c.send("Subject: x\r\n\r\nhalf a message\r\n")
	time.Sleep(600 * time.Millisecond)
	c.send(strings.TrimPrefix(aMessage, "EHLO h.test\r\n"))
	return fmt.Sprintf("%s, %d messages", strings.Join(c.codes(brief), " "), len(b.got()))
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
			out = append(out, c.within(700*time.Millisecond))
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
	for end := time.Now().Add(brief); len(b.got()) == 0 && time.Now().Before(end); { // go-smtp alone closes, and reads on
		time.Sleep(time.Millisecond)
	}
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
