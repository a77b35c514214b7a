package guard

import (
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// A row is one gap of go-smtp v0.25.1: what it does by itself, and what it does
// behind the guard. When a newer go-smtp changes a raw column, the guard may
// have less to do. Row G33 is TestCheap.
type row struct {
	id, what     string
	play         func(dial func() *client, b *backend) string
	raw, guarded string
	set          func(*smtp.Server, *Config) // how the server is configured; nil: as usual
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
				if side.name == "raw" {
					s.MaxLineLength = 2000
					s.TLSConfig = serverTLS()
				}
				if r.set != nil {
					r.set(s, cfg)
				}
				if side.name == "raw" {
					cfg = nil
				}
				if got := r.play(serveOn(t, s, cfg), b); got != side.want {
					t.Errorf("%s, %s:\n got %s\nwant %s", r.what, side.name, got, side.want)
				}
			}
		})
	}
}

var rows = []row{
	{"G1", "20 things that are not CRLF.CRLF end no message", playEnds, "0 extra, 0 refused", "0 extra, 19 refused", nil},
	{"G2", "bare CR, bare LF and NUL in a message", playBodies("a\rb", "a\nb", "a\x00b", "\n", "a\r\n\nb"), "250 250 250 250 250", "550 550 550 550 550", nil},
	{"G3", "the end is seen behind CR and behind a false end", playBodies("x\r", "x\r\n.\r"), "- -", "550 550", nil},
	{"G4", "STARTTLS with more behind it", playInjection, "0 run inside TLS", "0 run inside TLS", nil},
	{"G5", "STARTTLS is an exact verb", each("STARTTLSxyz", "STARTTLS foo", "STARTTLS"), "220 220 220", "500 501 220", nil},
	{"G6", "STARTTLS before EHLO", playBeforeEHLO, "220", "220", nil},
	{"G7", "bare LF in commands", say("NOOP\n", "NOOP\nNOOP\r\n", "NOOP\rNOOP\r\n", "NOOP\r\n"), "250 250 250 501 250", "500 500 500 500 250", nil},
	{"G8", "a command cut off by the end of file", playTruncated, "1 recipients", "0 recipients", nil},
	{"G9", "EHLO names", each("EHLO a\rb", "EHLO a\x00b", "EHLO \xff", "EHLO <script>", "EHLO a) by x (", "EHLO "+strings.Repeat("a", 1500), "EHLO [127.0.0.1]", "EHLO", "HELO", "EHLO my_host-.test"),
		"250 250 250 250 250 250 250 501 501 250", "500 500 501 501 501 501 250 501 501 250", nil},
	{"G10", "addresses that are none", froms("<a\rb@b.test>", "<a\x00b@b.test>", "<a@b\r.test>", "<a@b.test\x7f>", "<\xff@b.test>", "<a@b..test>", "<a@[junk]>", "<a@b<c.test>", "<a@b:c>", "<a@"+strings.Repeat("d", 64)+".test>", "<a@"+strings.Repeat("abc.", 120)+"test>", "<"+strings.Repeat("l", 300)+"@b.test>"),
		"250 250 250 250 250 250 250 250 250 250 250 250", "500 500 500 500 501 501 501 501 501 501 501 501", nil},
	{"G11", "two at signs", froms("<a@b@c.test>"), "250", "501", nil},
	{"G12", "a source route is dropped", playRoute, "250 a@b.test", "250 a@b.test", nil},
	{"G13", "forms around the path", froms("a@b.test", " <a@b.test>", "<a@b.test>SIZE=1", "<a@b.test>\tSIZE=1", "<a@b.test", "a@b.test>", "  <a@b.test>"), "250 250 250 250 501 500 250", "250 250 501 500 501 501 501", nil},
	{"G14", "an address in UTF-8 without SMTPUTF8", froms("<j\u00f6@b.test>", "<a@b\u00f6.test>", "<j\u00f6@b.test> SMTPUTF8"), "250 250 250", "553 553 250", nil},
	{"G15", "SIZE", froms("<> SIZE=-1", "<> SIZE="+strings.Repeat("9", 30), "<> SIZE=4294967296", "<> SIZE=2000000", "<> SIZE=1 SIZE=2", "<> SIZE=", "<> SIZE=1000"), "501 501 501 552 250 501 250", "501 552 552 552 501 501 250", nil},
	{"G15b", "other parameters", froms("<> FOO=BAR", "<> =x", "<> BODY=BINARYMIME", "<> BODY=8bitmime RET=HDRS ENVID=x", "<> SMTPUTF8=1", "<> AUTH=<>"), "500 500 504 250 250 250", "555 501 555 250 501 555", nil},
	{"G16", "recipients without a domain", playPostmaster, "501 501 501 501 ", "501 250 250 501 postmaster Postmaster", nil},
	{"G17", "MAIL within a transaction", say("MAIL FROM:<a@a.test>\r\n", "MAIL FROM:<b@b.test>\r\n"), "250 250", "250 503", nil},
	{"G18", "a quoted local part stays one address", playQuoted, `250 u> NOTIFY=NEVER @b.test`, `250 "u> NOTIFY=NEVER "@b.test`, nil},
	{"G19", "recipients without end", playRecipients, "100 taken, 50 later; 500 refused, open", "100 taken, 50 later; 20 refused, closed", nil},
	{"G20", "junk without end (200 tried)", playJunk, "NOOP 200 RSET 200 VRFY 200 HELP 200 EHLO 200 MAIL 200 RCPT 200 AUTH 200 FOO 4 empty 4", "NOOP 98 RSET 99 VRFY 99 HELP 99 EHLO 99 MAIL 20 RCPT 20 AUTH 20 FOO 20 empty 20", nil},
	{"G21", "command lines too long", say("NOOP "+strings.Repeat("x", 2100)+"\r\n", "NOOP "+strings.Repeat("x", 200_000)+"\r\n", "NOOP\r\n"), "500 closed", "500 500 250", nil},
	{"G22", "a message line of 100,000 octets", playBodies(strings.Repeat("x", 100_000)), "554", "250", nil},
	{"G23", "a header of 200,000 octets: the session's to judge", playBodies(strings.Repeat("X: y\r\n", 33_000)), "250", "250", nil},
	{"G24", "a client that does not wait for the banner", playEarly, "220 250 closed, 0 messages", "554 closed, 0 messages", greetLate},
	{"G25", "HTTP on the port", playHTTP, "1 messages", "0 messages, closed at line 1", nil},
	{"G26", "commands behind QUIT", playAfterQuit, "1 messages", "0 messages", nil},
	{"G27", "BDAT that lies about its size", playBdat("abc", "6 FOO", "4294967296"), "3 messages", "0 messages, all closed", nil},
	{"G28", "BDAT without RCPT", playBdatEarly, "502 250", "502 closed", nil},
	{"G29", "BDAT of 3,000 octets without LF, in one segment", playBdatSegment, "500", "502", nil},
	{"G30", "BDAT, RSET and MAIL at once (a race in go-smtp)", playBdatReset, "", "502 closed", nil},
	{"G31", "the end of file within a message", playCutOff, "0 messages", "0 messages", nil},
	{"G32", "a pause in a message does not turn it into commands", playPause, "554 250 250 354 250, 1 messages", "421 closed, 0 messages", impatient},
	{"G34", "nothing passes that a liberal target could split", playBodies("x\r.\r\ny", "x\n.\ny", "x\n\r.\r\ny"), "250 250 250", "550 550 550", nil},
	{"G35", "no path passes that would need escaping on its way out", froms("<a\x00@b.test>", "<a b@b.test>", "<a>b@b.test>", `<"a`+"\x01"+`"@b.test>`), "250 501 501 250", "500 501 501 500", nil},
	{"G36", "replies do not repeat what the client said", playEcho, "Roger, accepting mail from <a b@b.test>", "Sender OK", nil},
}
