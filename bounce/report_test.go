package bounce

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"
	"time"

	"srsd/envelope"
)

func testReport() Report {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	return Report{
		Hostname: "mx.alumni.example", ID: "abc123", Date: at.Add(time.Hour), Received: at,
		To: envelope.MustParse("ann@sender.example"), Action: Failed, EnvelopeID: "env-1", Extent: Full,
		Recipients: []Recipient{{
			Alias: envelope.MustParse("jo@alumni.example"), Original: "rfc822;jo@alumni.example", At: at.Add(time.Minute),
			Reply: envelope.NewReply(550, envelope.EnhancedCode{5, 1, 1}, "<jo@alumni.example> is unknown here, and this is a text that is long enough to be folded once or twice"),
		}},
		Original: bytes.NewReader([]byte("From: ann@sender.example\r\nSubject: hello\r\n\r\nHello Jo.\r\n")),
	}
}

// parts reads a report as a mail program does: type and content of each part.
func parts(t *testing.T, text []byte) (header mail.Header, kinds, contents []string) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("%s %v %v", kind, params, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			return m.Header, kinds, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, p.Header.Get("Content-Type"))
		contents = append(contents, string(content))
	}
}

func TestReport(t *testing.T) {
	text, err := testReport().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	header, kinds, contents := parts(t, text)
	if header.Get("Auto-Submitted") != "auto-replied" || header.Get("To") != "<ann@sender.example>" || header.Get("Message-ID") != "<report.abc123@mx.alumni.example>" {
		t.Errorf("header: %v", header)
	}
	if strings.Join(kinds, ", ") != "text/plain; charset=utf-8, message/delivery-status, message/rfc822" {
		t.Fatalf("parts: %q", kinds)
	}
	for _, want := range []string{
		"Original-Envelope-Id: env-1", "Reporting-MTA: dns; mx.alumni.example", "Original-Recipient: rfc822; jo@alumni.example",
		"Final-Recipient: rfc822; jo@alumni.example", "Action: failed", "Status: 5.1.1", "Diagnostic-Code: smtp; 550 5.1.1",
		"Arrival-Date: Sat, 21 Nov 2026 10:00:00 +0000",
	} {
		if !strings.Contains(contents[1], want) {
			t.Errorf("the status has no %q:\n%s", want, contents[1])
		}
	}
	if !strings.HasSuffix(contents[2], "Subject: hello\r\n\r\nHello Jo.\r\n") {
		t.Errorf("returned: %q", contents[2])
	}
	for _, line := range strings.Split(string(text), "\r\n") {
		if len(line) > 78 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("line of %d octets: %q", len(line), line)
		}
	}
}

func TestReportReturnsHeaders(t *testing.T) {
	large := "Subject: large\r\n\r\n" + strings.Repeat("a line of the body\r\n", 5000)
	for name, change := range map[string]func(*Report){
		"asked for": func(r *Report) { r.Extent = Headers },
		"too large": func(r *Report) { r.Original = bytes.NewReader([]byte(large)) },
		"endless header": func(r *Report) {
			r.Original = bytes.NewReader([]byte(strings.Repeat("X-Header: value\r\n", 10_000)))
		},
	} {
		r := testReport()
		change(&r)
		text, err := r.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		_, kinds, contents := parts(t, text)
		if kinds[2] != "text/rfc822-headers" || strings.Contains(contents[2], "body") || strings.Contains(contents[2], "Hello") {
			t.Errorf("%s: %s %.100q", name, kinds[2], contents[2])
		}
		if len(text) > MaxReturned+3000 {
			t.Errorf("%s: %d octets", name, len(text))
		}
	}
}

func TestReportWithoutOriginal(t *testing.T) {
	r := testReport()
	r.Original = nil
	text, err := r.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, kinds, _ := parts(t, text); len(kinds) != 2 {
		t.Errorf("%q", kinds)
	}
}

func TestReportOfDelay(t *testing.T) {
	r := testReport()
	r.Action, r.RetryUntil = Delayed, r.Received.Add(5*24*time.Hour)
	r.Recipients[0].Reply = envelope.NewReply(451, envelope.EnhancedCode{}, "later")
	text, _ := r.Bytes()
	_, _, contents := parts(t, text)
	if !strings.Contains(contents[1], "Action: delayed\r\nStatus: 4.0.0") || !strings.Contains(contents[1], "Will-Retry-Until: Thu, 26 Nov 2026") {
		t.Errorf("%s", contents[1])
	}
}

// TestReportInUTF8 is RFC 6533: another type for each part, and utf-8 addresses.
func TestReportInUTF8(t *testing.T) {
	r := testReport()
	r.Recipients[0].Alias = envelope.MustParse("jörg@alumni.example")
	text, _ := r.Bytes()
	header, kinds, contents := parts(t, text)
	if header.Get("Content-Transfer-Encoding") != "8bit" || kinds[1] != "message/global-delivery-status" || kinds[2] != "message/global" ||
		!strings.Contains(contents[1], "Final-Recipient: utf-8; jörg@alumni.example") {
		t.Errorf("%v %q\n%s", header, kinds, contents[1])
	}
}

// TestReportCannotBeInjected puts line ends and a boundary where remote text goes.
func TestReportCannotBeInjected(t *testing.T) {
	r := testReport()
	r.Recipients[0].Reply.Text = "no\r\nBcc: x@evil.example\x00\r\n\r\n--report-abc123--"
	r.Recipients[0].Original = "rfc822;a\r\nBcc: x@evil.example"
	r.EnvelopeID = "e\r\nBcc: x@evil.example"
	r.Original = bytes.NewReader([]byte("Subject: x\r\n\r\n--report-abc123--\r\n"))
	text, _ := r.Bytes()
	header, kinds, contents := parts(t, text)
	if header.Get("Bcc") != "" || len(kinds) != 3 || strings.Contains(contents[1], "\nBcc") || !strings.Contains(contents[2], "--report-abc123--") {
		t.Errorf("%v\n%s", header, text)
	}
}

func TestPermit(t *testing.T) {
	sender := envelope.MustParse("ann@sender.example")
	for _, c := range []struct {
		spf    string
		from   envelope.Address
		notify envelope.Notify
		action Action
		want   Extent
	}{
		{"pass", sender, 0, Failed, Full},
		{"none", sender, 0, Failed, Headers},
		{"neutral", sender, 0, Failed, Headers},
		{"softfail", sender, 0, Failed, NoReport},
		{"fail", sender, 0, Failed, NoReport},
		{"permerror", sender, 0, Failed, NoReport},
		{"temperror", sender, 0, Failed, NoReport},
		{"", sender, 0, Failed, NoReport},
		{"pass", envelope.Address{}, 0, Failed, NoReport},
		{"pass", sender, envelope.NotifyNever, Failed, NoReport},
		{"pass", sender, envelope.NotifySuccess, Failed, NoReport},
		{"pass", sender, envelope.NotifyFailure, Failed, Full},
		{"pass", sender, 0, Delayed, Full},
		{"pass", sender, envelope.NotifyFailure, Delayed, NoReport},
		{"pass", sender, envelope.NotifyDelay, Delayed, Full},
		{"pass", sender, 0, Relayed, NoReport},
		{"none", sender, envelope.NotifySuccess, Relayed, Headers},
		{"softfail", sender, envelope.NotifySuccess, Expanded, NoReport},
	} {
		if got := Permit(c.from, c.spf, c.notify, c.action); got != c.want {
			t.Errorf("%s %v %d %s: %d, want %d", c.spf, c.from, c.notify, c.action, got, c.want)
		}
	}
}
