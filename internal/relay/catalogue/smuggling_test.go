package catalogue_test

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

const smuggled = "MAIL FROM:<ceo@evil.example>\r\nRCPT TO:<jo@alumni.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nPay.\r\n.\r\n"

// pour says everything at once and waits for the end of the connection.
func pour(t *testing.T, addr, from, text string) {
	t.Helper()
	s, err := dial(addr, from)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(soon))
	if _, err := io.WriteString(s, text); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, s.r)
}

// TestNothingIsSmuggled sends 58 spellings of an end of text that is none, with
// a second message behind it, to a relay whose target takes each of them for an
// end: 0 extra messages arrive, and 0 of the texts themselves.
func TestNothingIsSmuggled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneTarget, "jo")
	target := newSink(t, w.at(10), func(s *sink) { s.liberal = true })
	w.start("")
	ends := []string{"\n", "\r", "\r\n", "\r\r\n", "\n\r", "\x00\r\n", "\r\x00\n", "\r\n\x00"}
	tried := 0
	for _, a := range ends {
		for _, b := range ends {
			sequence := a + "." + b
			if strings.HasSuffix(a, "\r\n") && strings.HasPrefix(b, "\r\n") {
				continue // an end that is one
			}
			tried++
			pour(t, w.addr, w.net+"9", "EHLO mail.origin.example\r\nMAIL FROM:<ann@origin.example>\r\nRCPT TO:<jo@alumni.example>\r\nDATA\r\n"+
				"Subject: carrier\r\n\r\nHello."+sequence+smuggled+"\r\n.\r\nQUIT\r\n")
			for _, m := range target.arrivals() {
				t.Fatalf("%q: %s arrived with %.300q", sequence, m.mail, m.data)
			}
		}
	}
	if tried != 58 {
		t.Errorf("%d spellings tried", tried)
	}
	// What makes the target the one to fear: said to it directly, the second
	// message arrives.
	s, err := dial(w.at(10), w.net+"1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.send("ann@origin.example", "jo@jo.example", "Hello.\n.\n"+smuggled); err != nil {
		t.Fatal(err)
	}
	target.wait(t, 2)
}

// TestNoParameterIsInjected passes senders and recipients whose quoted local
// parts look like parameters, there and back: all lines of MAIL and RCPT at the
// targets are one address with parameters of ours, each once; 2 lines for each of
// the 16 messages.
func TestNoParameterIsInjected(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneTarget, "jo")
	target, origin := w.target(10), w.target(20)
	w.start("")
	locals := []string{`"a> SIZE=1"`, `"a>SIZE=1"`, `"a> RET=HDRS ENVID=x <b"`, `"a b"`, `"a\"> NOTIFY=NEVER <\"b"`, `"a\\"`, `"<a>"`, `"a@b> ORCPT=rfc822;x"`}
	for _, local := range locals {
		if reply := w.send(local+"@origin.example", "jo@alumni.example", "Subject: x\r\n\r\nHello.\r\n"); reply[0] != '2' {
			t.Errorf("%s: %s", local, reply)
		}
	}
	var there []string
	for _, m := range target.arrivals() {
		there = append(there, path(m.mail))
	}
	for _, home := range there {
		if reply := w.send("", home, "Subject: a report\r\n\r\nIt failed.\r\n"); reply[0] != '2' {
			t.Errorf("%s: %s", home, reply)
		}
	}
	for i, m := range origin.arrivals() {
		if want := locals[i] + "@origin.example"; path(m.rcpts[0]) != want {
			t.Errorf("%s came home as %s", want, m.rcpts[0])
		}
	}
	lines := 0
	for _, line := range append(target.commands(false), origin.commands(false)...) {
		if !strings.HasPrefix(line, "MAIL") && !strings.HasPrefix(line, "RCPT") {
			continue
		}
		if lines++; !isCommand.MatchString(line) {
			t.Errorf("on the wire: %q", line)
		}
	}
	if lines != 32 {
		t.Errorf("%d lines of 32", lines)
	}
}

// isCommand is MAIL or RCPT by RFC 5321, section 4.1.2, with what we may say
// behind the address.
var isCommand = func() *regexp.Regexp {
	const local = `(?:[\w!#$%&'*+/=?^{|}~.` + "`" + `-]+|"(?:[ !#-\[\]-~]|\\[ -~])*")`
	address := "<" + local + `@[a-z0-9.-]+>`
	return regexp.MustCompile(fmt.Sprintf(`^(?:MAIL FROM:(?:<>|%s)(?: SIZE=\d+)?(?: BODY=8BITMIME)?|RCPT TO:%s)$`, address, address))
}()
