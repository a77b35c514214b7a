package receive_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"srsd/internal/receive"
	"srsd/internal/sender"
	"srsd/spf"
)

// The same from outside, through whole messages.
func TestSpoofedResultsAreRemovedAndNothingElse(t *testing.T) {
	b := start(t)
	p := b.open(t)
	body := "Received-SPF: pass (someone: said so)\r\nAuthentication-Results: mx.other.example; spf=fail\r\n" + hello
	for _, spoof := range []string{
		"Authentication-Results: mx.alumni.example; spf=pass\r\n", "authentication-results : MX.alumni.example 1; spf=pass\r\n",
		"Authentication-Results: (c)\r\n \"mx.alumni.example\";\r\n dkim=pass\r\n",
	} {
		p.send(spoof + body)
		if m := b.last(t); !strings.HasSuffix(m.text, body) || strings.Count(strings.ToLower(m.text), "authentication-results") != 2 || m.Size != int64(len(m.text)) {
			t.Errorf("%q became\n%s", spoof, m.text)
		}
	}
	big := "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 60_000)
	p.send("Authentication-Results: mx.alumni.example; spf=pass\r\n" + big)
	if m := b.last(t); !strings.HasSuffix(m.text, "\r\n"+big) || strings.Contains(m.text, "spf=pass\r\nSubject") {
		t.Error("a large message changed, or kept the spoof")
	}
}

func TestOddHeadersPassOrAreRefused(t *testing.T) {
	b := start(t)
	p := b.open(t)
	for what, text := range map[string]string{
		"none": "\r\nbody only\r\n", "no colon": "no colon here\r\n\r\nx\r\n", "100 KB in one field": "X-Big: " + strings.Repeat("x ", 50_000) + "\r\n\r\nx\r\n",
		"a line of 1 MB": "X-Big: " + strings.Repeat("x", 1_000_000) + "\r\n\r\nx\r\n", "5,000 fields": strings.Repeat("X-Small: y\r\n", 5000) + "\r\nx\r\n",
		"invalid octets": "X-\xff\xfe: \x01\x02\r\n\r\nx\r\n", "empty": "", "only dots": "..\r\n.\r\n", "no line end": "Subject: x",
	} {
		text := text
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text += "\r\n"
		}
		before := len(b.all())
		if got := p.send(text); !strings.HasPrefix(got, "250") {
			t.Errorf("%s: %s", what, got)
			continue
		}
		if m := b.all()[before]; !strings.HasSuffix(m.text, text) {
			t.Errorf("%s: changed", what)
		}
	}
	// What would continue our own field is refused, and so is a header of 2 MB.
	for what, text := range map[string]string{"folded first": " folded\r\n\r\nx\r\n", "2 MB": strings.Repeat("X: y\r\n", 400_000) + "\r\n"} {
		if got := p.send(text); !strings.HasPrefix(got, "55") {
			t.Errorf("%s: %s", what, got)
		}
	}
	if got := p.send(hello); !strings.HasPrefix(got, "250") {
		t.Errorf("out of step: %s", got)
	}
}

// Loops end.
func TestLoopsAreCut(t *testing.T) {
	b := start(t)
	p := b.open(t)
	other := "Received: from a.example by b.example; Sat, 21 Nov 2026 10:00:00 +0000\r\n"
	ours := "Received: from a.example by mx.alumni.example; Sat, 21 Nov 2026 10:00:00 +0000\r\n"
	for head, want := range map[string]string{
		"Delivered-To: jo@alumni.example\r\n": "554 5.4.6", "delivered-to: <JO@Alumni.Example>\r\n": "554 5.4.6",
		"Delivered-To: ann@sender.example\r\n": "250", strings.Repeat(other, 49): "250", strings.Repeat(other, 50): "554 5.4.6",
		strings.Repeat(ours, 4): "250", strings.Repeat(ours, 5): "554 5.4.6", "Subject: x\r\n\r\nDelivered-To: jo@alumni.example\r\n": "250",
	} {
		if got := p.send(head + hello); !strings.HasPrefix(got, want) {
			t.Errorf("%.60q: %s", head, got)
		}
	}
}

// The size is enforced, whatever was announced.
func TestSizes(t *testing.T) {
	b := start(t, func(c *receive.Config) { c.Policy.MaxMessage = 100_000 })
	p := b.open(t)
	for param, want := range map[string]string{
		"SIZE=100001": "552 5.3.4", "SIZE=4294967296": "552", "SIZE=99999999999999999999": "552", "SIZE=-1": "501", "SIZE=1 SIZE=2": "501", "SIZE=100000": "250",
	} {
		p.do("MAIL FROM:<ann@sender.example> "+param, want)
		p.do("RSET", "250")
	}
	exact := "\r\n" + strings.Repeat("x", 99_996) + "\r\n"
	for text, want := range map[string]string{exact: "250", "x" + exact: "552 5.3.4", exact + strings.Repeat(hello, 100_000): "552 5.3.4"} {
		p.do("MAIL FROM:<ann@sender.example> SIZE=100", "250")
		p.do("RCPT TO:<jo@alumni.example>", "250")
		if got := p.data(text); !strings.HasPrefix(got, want) {
			t.Errorf("%d octets: %s", len(text), got)
		}
	}
	if len(b.all()) != 1 {
		t.Errorf("%d delivered", len(b.all()))
	}
}

// A message that finds no memory is deferred, and the session stays in step.
func TestMemoryIsBounded(t *testing.T) {
	b := start(t, func(c *receive.Config) { c.Memory = 40_000 })
	p := b.open(t)
	if got := p.send("\r\n" + strings.Repeat("0123456789\r\n", 10_000)); !strings.HasPrefix(got, "452 4.3.1") {
		t.Error(got)
	}
	if got := p.send(hello); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	holder := b.open(t) // one message under way takes what there is
	holder.envelope("ann@sender.example", "jo@alumni.example")
	holder.do("DATA", "354")
	holder.raw("Subject: held\r\n\r\n")
	second := b.open(t)
	second.envelope("ann@sender.example", "jo@alumni.example")
	second.do("DATA", "354")
	second.raw("Subject: held\r\n\r\n")
	eventually(t, "MAIL is still accepted", func() bool {
		p.say("MAIL FROM:<ann@sender.example>")
		got := p.reply()
		p.do("RSET", "250")
		return strings.HasPrefix(got, "452 4.3.1")
	})
	holder.raw(".\r\n")
	holder.want("250")
	p.do("MAIL FROM:<ann@sender.example>", "250")
}

// Too many recipients are deferred, the others get the message.
func TestTooManyRecipients(t *testing.T) {
	b := start(t, func(c *receive.Config) { c.Policy.MaxRecipients = 20 })
	p := b.open(t)
	p.envelope("ann@sender.example", numbered("u%d@alumni.example", 20)...)
	for range 10 {
		p.do("RCPT TO:<more@alumni.example>", "452 4.5.3")
	}
	p.data(hello)
	if n := len(b.last(t).Routes); n != 20 {
		t.Errorf("%d routes", n)
	}
}

// Who guesses must go.
func TestGuessingHasAnEnd(t *testing.T) {
	b := start(t, func(c *receive.Config) { c.Policy.MaxErrors = 1000 })
	p := b.open(t)
	p.do("MAIL FROM:<>", "250")
	n := 0
	for ; n < 100; n++ {
		p.say(fmt.Sprintf("RCPT TO:<SRS0=%04d=aa=sender.example=ann@srs.alumni.example>", n))
		if got := p.reply(); strings.HasPrefix(got, "421") {
			break
		}
	}
	if n != 19 {
		t.Errorf("sent away after %d", n+1)
	}
	if got := p.reply(); got != "" {
		t.Errorf("still open: %s", got)
	}
	// Many sessions do not help: the network is counted too.
	refused := 0
	for range 20 {
		p := b.openFrom(t, "127.77.3.3")
		p.do("MAIL FROM:<>", "250")
		for i := range 19 {
			p.say(fmt.Sprintf("RCPT TO:<SRS0=%04d=aa=sender.example=ann@srs.alumni.example>", i))
			if strings.HasPrefix(p.reply(), "421") {
				refused++
				break
			}
		}
		p.Close()
	}
	if refused < 8 {
		t.Errorf("%d of 20 sessions were cut short", refused)
	}
}

// Harmless commands and errors end too.
func TestJunkHasAnEnd(t *testing.T) {
	b := start(t)
	for line, most := range map[string]int{
		"NOOP": 110, "RSET": 110, "VRFY a": 110, "HELP": 110, "EHLO client.example": 110,
		"MAIL FROM:<bad": 21, "RCPT TO:<x@evil.example>": 21, "AUTH PLAIN": 21, "FOOB": 21,
	} {
		p := b.open(t)
		n := 0
		for ; n < 400; n++ {
			p.say(line)
			if got := p.reply(); got == "" || strings.HasPrefix(got, "421") {
				break
			}
		}
		if n > most {
			t.Errorf("%s: closed after %d", line, n)
		}
		p.Close()
	}
}

// 38 classic forms and three senders; nothing is routed elsewhere.
func TestNoFormRelays(t *testing.T) {
	b := start(t)
	forms := []string{
		"u@E", "u%E@L", "u%E", `"u@E"`, `"u%E"`, "u@E@L", `"u@E"@L`, "u@E@[X]", "u%E@[X]", "@L:u@E", "@L,@mx.L:u@E",
		"@[X]:u@E", "E!u", "E!u@L", "E!u@[X]", "L!E!u", "u%E%L@L", "u@[X]", "u@mx.L", "u@E.", "u@E%L", `"u"@E`, "u@EVIL.example",
		"u@sub.L", "SRS0=AAAA=AA=E=u@L", "SRS0+AAAA+AA+E+u@L", "SRS1=AAAA=E==AAAA=AA=E=u@L", "SRS0=AAAA=AA=E=u=x%y@L",
		"srs0=aaaa=aa=E=u@srs.L", "SRS0=====@srs.L", "SRS1==@srs.L", "u@L\x00@E", "u@E\x00.L", "u(c)@E", "u@L,u@E", "u@E ,@L",
		"u@L> <u@E", "u+E@[IPv6:::1]",
	}
	expand := strings.NewReplacer("L", "alumni.example", "E", "evil.example", "X", "127.77.0.1")
	for _, from := range []string{"", "spam@passall.example", "postmaster@alumni.example"} {
		for _, form := range forms {
			if !strings.Contains(form, "EVIL") {
				form = expand.Replace(form)
			}
			p := dial(t, b.addr, "")
			p.want("220")
			p.do("EHLO client.example", "250")
			p.do("MAIL FROM:<"+from+">", "250")
			p.say("RCPT TO:<" + form + ">")
			if strings.HasPrefix(p.reply(), "250") {
				p.data(hello)
			}
			p.Close()
		}
	}
	for _, m := range b.all() {
		for _, r := range m.Routes {
			if r.Target.Domain() != "target.example" || r.Alias.Domain() != "alumni.example" {
				t.Errorf("%s would go to %s", r.Alias, r.Target)
			}
		}
	}
}

// Nothing that a stranger names gets out of its field.
func TestNothingIsInjectedIntoTheTrace(t *testing.T) {
	b := start(t, func(c *receive.Config) {
		c.Policy.Sender.Actions = map[spf.Result]sender.Action{spf.Fail: sender.Mark}
	})
	b.spf["evil.example"] = spf.Outcome{Result: spf.Fail, Reason: "no)\r\nX-Injected: yes", Explanation: "see\r\nX-Injected: yes"}
	for _, from := range []string{`"a;b"@sender.example`, `"a(b"@sender.example`, `"a)b\"c"@sender.example`, `"a b=pass"@sender.example`, "x=pass@sender.example", "x@evil.example"} {
		p := b.open(t)
		p.envelope(from, `"u;(x"@alumni.example`)
		p.data(hello)
		head := b.last(t).header(hello)
		for field := range strings.SplitSeq(strings.TrimSuffix(strings.ReplaceAll(head, "\r\n\t", " "), "\r\n"), "\r\n") {
			name, _, _ := strings.Cut(field, ":")
			if name != "Received" && name != "Received-SPF" && name != "Authentication-Results" {
				t.Errorf("%s: on top: %q", from, field)
			}
		}
	}
	for _, helo := range []string{"a\rX: y", "a) by mx.alumni.example; (", "a;b", "(", "\"x\"", "é.example", "<script>"} {
		p := dial(t, b.addr, "")
		p.want("220")
		p.do("EHLO "+helo, "5")
	}
}

// Other protocols end at their first line.
func TestOtherProtocolsAreTurnedAway(t *testing.T) {
	b := start(t)
	session := "EHLO h.example\r\nMAIL FROM:<a@sender.example>\r\nRCPT TO:<jo@alumni.example>\r\nDATA\r\n" + hello + ".\r\nQUIT\r\n"
	for _, first := range []string{
		"GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nX-Header: v\r\nX-Header: v\r\n\r\n", "CONNECT x:25 HTTP/1.1\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n",
		"*1\r\n$4\r\nPING\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
	} {
		p := dial(t, b.addr, "")
		p.raw(first + session)
		p.want("220")
		for {
			got := p.reply()
			if strings.HasPrefix(got, "354") || got == "silence" {
				t.Errorf("%q: %s", first, got)
			}
			if got == "" || got == "silence" {
				break
			}
		}
	}
	if n := len(b.all()); n != 0 {
		t.Errorf("%d messages accepted", n)
	}
}

// No line end, no command.
func TestACommandCutOffDoesNotRun(t *testing.T) {
	b := start(t)
	for _, last := range []string{"RCPT TO:<jo@alumni.example>", "DATA", "MAIL FROM:<x@sender.example>"} {
		p := b.open(t)
		p.envelope("ann@sender.example")
		p.raw(last)
		p.Conn.(*net.TCPConn).CloseWrite()
		for got := p.reply(); got != ""; got = p.reply() {
			if got[0] == '2' || got[0] == '3' {
				t.Errorf("%q ran: %s", last, got)
			}
		}
	}
}

// When a text stops, what follows are no commands and the answer is 4yz.
func TestAPauseInATextMakesNoCommands(t *testing.T) {
	b := start(t, func(c *receive.Config) { c.Policy.IdleTimeout = 300 * time.Millisecond })
	p := b.open(t)
	p.envelope("ann@sender.example", "jo@alumni.example")
	p.do("DATA", "354")
	p.raw("Subject: x\r\n\r\nhalf a message\r\n")
	p.want("4")
	p.raw("MAIL FROM:<inner@sender.example>\r\nRCPT TO:<jo@alumni.example>\r\nDATA\r\n" + hello + ".\r\n")
	if got := p.reply(); got != "" {
		t.Errorf("a command ran: %s", got)
	}
	if len(b.all()) != 0 {
		t.Error("something was delivered")
	}
}
