package bounce

import (
	"bytes"
	"encoding/base64"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"srsd/envelope"
)

var update = flag.Bool("update", false, "write what Hide makes of the samples")

// aliases is the table of the tests.
var aliases = map[string][]string{
	"jo@alumni.example":   {"jo.private@target.example"},
	"two@alumni.example":  {"a.private@target.example", "b.private@other.example"},
	"kim@alumni.example":  {"ki@target.example"},
	"mary@alumni.example": {"mary.private@gmail.example"},
}

func testHider() Hider {
	return Hider{
		Hostname: "mx.alumni.example",
		Ours:     func(a envelope.Address) bool { return strings.HasSuffix(lower(a.Domain()), "alumni.example") },
		Targets: func(a envelope.Address) (all []envelope.Address) {
			for _, t := range aliases[a.Key()] {
				all = append(all, envelope.MustParse(t))
			}
			return all
		},
		Aliases: func(t envelope.Address) (all []envelope.Address) {
			for alias, targets := range aliases {
				if slices.Contains(targets, t.Key()) {
					all = append(all, envelope.MustParse(alias))
				}
			}
			return all
		},
		Now: func() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) },
	}
}

var ann = envelope.MustParse("ann@sender.example")

// hide is what Ann gets of a report.
func hide(t testing.TB, text string) string {
	t.Helper()
	body, err := testHider().Hide(bytes.NewReader([]byte(text)), ann, "abc123")
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func isOwnReport(text string) bool {
	return strings.Contains(text, "Message-ID: <report.abc123@mx.alumni.example>")
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// TestHideSamples hides the target in reports of the forms that are known, and
// compares them with what was read by a person.
func TestHideSamples(t *testing.T) {
	files, err := filepath.Glob("testdata/reports/*.eml")
	if err != nil || len(files) < 9 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".eml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := crlf(string(data))
			if seek([]byte(text), "jo.private@target.example") == nil {
				t.Fatal("the sample does not hold what is to be hidden")
			}
			got := hide(t, text)
			if isOwnReport(got) {
				t.Error("it was replaced")
			}
			for _, secret := range []string{"jo.private", "jo.alias", "deeper@elsewhere"} {
				if forms := seek([]byte(got), secret); forms != nil {
					t.Errorf("%s as %v", secret, forms)
				}
			}
			golden := strings.TrimSuffix(file, ".eml") + ".hidden"
			if *update {
				if err := os.WriteFile(golden, []byte(strings.ReplaceAll(got, "\r\n", "\n")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(crlf(string(want)), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// report is a small report with a text, a status and a copy.
func report(text, status, returned string) string {
	return crlf("From: MAILER-DAEMON@mx.target.example\nTo: <SRS0=x=y7=sender.example=ann@srs.alumni.example>\nMIME-Version: 1.0\n" +
		"Content-Type: multipart/report; report-type=delivery-status; boundary=\"sep\"\n\n" +
		"--sep\n" + text + "\n--sep\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.target.example\n\n" + status +
		"\n--sep\n" + returned + "\n--sep--\n")
}

const (
	plainText = "Content-Type: text/plain\n\nIt failed.\n"
	joStatus  = "Final-Recipient: rfc822; jo.private@target.example\nAction: failed\nStatus: 5.1.1\n"
	joCopy    = "Content-Type: text/rfc822-headers\n\nDelivered-To: jo@alumni.example\nFrom: ann@sender.example\nSubject: hello\n"
)

// TestHideForms writes the target in many ways. Whatever happens, it is not to
// be seen; where same is set, the report must keep its form.
func TestHideForms(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(crlf(s))) }
	wide := ""
	for _, c := range "To jo.private@target.example" {
		wide += string(c) + "\x00"
	}
	for name, c := range map[string]struct {
		text string
		same bool
	}{
		"mixed case":        {report(strings.Replace(plainText, "It", "JO.Private@Target.EXAMPLE", 1), strings.ToUpper(joStatus), joCopy), true},
		"folded":            {report(plainText, "X-Note: to\n\tjo.private@target.example\n\tfailed\n"+joStatus, joCopy), true},
		"cut by a fold":     {report(plainText, "X-Note: jo.private@\n target.example\n"+joStatus, joCopy), false},
		"cut by a line end": {report("Content-Type: text/plain\n\nfailed: jo.pri\nvate@target.example\n", joStatus, joCopy), true},
		"xtext":             {report(plainText, "Original-Recipient: rfc822; jo.private+40target.example\n"+joStatus, joCopy), true},
		"percent":           {report("Content-Type: text/plain\n\nhttps://help.example/?who=jo.private%40target.example\n", joStatus, joCopy), true},
		"every sign encoded": {report("Content-Type: text/html\n\n<p>&#106;&#111;&#46;&#112;&#x72;ivate&commat;target.example\n",
			joStatus, joCopy), true},
		"html in pieces":              {report("Content-Type: text/html\n\n<p>jo.private<wbr>@<b>target</b>.example\n", joStatus, joCopy), true},
		"encoded word":                {report("Content-Type: text/plain\nX-To: =?utf-8?q?jo=2Eprivate=40target=2Eexample?=\n\nx\n", joStatus, joCopy), true},
		"encoded word, b":             {report("Content-Type: text/plain\nX-To: =?windows-1252?B?"+b64("to jo.private@target.example!")+"?=\n\nx\n", joStatus, joCopy), true},
		"two words":                   {report("Content-Type: text/plain\nX-To: =?utf-8?q?jo.private?=\n =?utf-8?q?=40target.example?=\n\nx\n", joStatus, joCopy), true},
		"parameter":                   {report("Content-Type: text/plain; name*=utf-8''jo.private%40target.example\n\nx\n", joStatus, joCopy), true},
		"parameter pieces":            {report("Content-Type: text/plain; name*0=\"jo.pri\";\n name*1=\"vate@target.example\"\n\nx\n", joStatus, joCopy), false},
		"attachment":                  {report(plainText+"\n--sep\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n"+b64("log: jo.private@target.example refused\n")+"\n", joStatus, joCopy), true},
		"base64 that does not say so": {report("Content-Type: text/plain\n\nx"+b64("log: jo.private@target.example refused\n")+"\n", joStatus, joCopy), false},
		"base64 within base64":        {report("Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n"+b64("x "+b64("log: jo.private@target.example refused"))+"\n", joStatus, joCopy), false},
		"UTF-16":                      {report("Content-Type: text/plain; charset=utf-16le\nContent-Transfer-Encoding: base64\n\n"+b64(wide)+"\n", joStatus, joCopy), false},
		"UTF-7":                       {report("Content-Type: text/plain; charset=utf-7\n\njo.private+AEA-target.example\n", joStatus, joCopy), false},
		"uuencode":                    {report("Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nbegin\n", joStatus, joCopy), false},
		"nested copies": {report(plainText, joStatus, "Content-Type: message/rfc822\n\nDelivered-To: jo@alumni.example\nContent-Type: message/rfc822\n\n"+
			"Received: for <jo.private@target.example>\nContent-Type: multipart/mixed; boundary=in\n\n--in\n\nto jo.private@target.example\n--in--\n"), true},
		"detail":          {report("Content-Type: text/plain\n\n<jo.private+x@target.example> and <jo.private@in.target.example>\n", joStatus, joCopy), true},
		"list sender":     {report("Content-Type: text/plain\n\nReturn-Path: <list-bounces+jo.private=target.example@list.example>\n", joStatus, joCopy), true},
		"local part":      {report("Content-Type: text/plain\n\nUnknown user: jo.private; mailbox \"JO.PRIVATE\" closed. jo.private.\n", joStatus, joCopy), true},
		"forwarded on":    {report("Content-Type: text/plain\n\n<last@far.example>: gone\n", "Final-Recipient: rfc822; last@far.example\nStatus: 5.1.1\n", joCopy), true},
		"in the boundary": {strings.ReplaceAll(report(plainText, joStatus, joCopy), "sep", "jo.private@target.example"), false},
		"in the preamble": {strings.Replace(report(plainText, joStatus, joCopy), "\r\n--sep", "\r\nfor jo.private@target.example\r\n--sep", 1), false},
		"no alias named":  {report("Content-Type: text/plain\n\n<jo.private@target.example> is gone\n", joStatus, "Content-Type: text/plain\n\nno copy\n"), true},
		"cut off":         {strings.TrimSuffix(report(plainText, joStatus, joCopy), "\r\n--sep--\r\n"), true},
	} {
		t.Run(name, func(t *testing.T) {
			got := hide(t, c.text)
			for _, secret := range []string{"jo.private@target.example", "jo.private", "last@far.example"} {
				if forms := seek([]byte(got), secret); forms != nil {
					t.Errorf("%s as %v:\n%s", secret, forms, got)
				}
			}
			if isOwnReport(got) == c.same {
				t.Errorf("replaced: %v:\n%s", isOwnReport(got), got)
			}
			if !strings.Contains(got, "5.1.1") || !strings.Contains(got, "jo@alumni.example") && name != "UTF-7" && name != "uuencode" {
				t.Errorf("the status or the alias is gone:\n%s", got)
			}
		})
	}
}

// TestHideSeveral tells several targets apart.
func TestHideSeveral(t *testing.T) {
	got := hide(t, report("Content-Type: text/plain\n\n<a.private@target.example>: gone\n<b.private@other.example>: gone too\n<jo.private@target.example>: full\n",
		"Final-Recipient: rfc822; a.private@target.example\nStatus: 5.1.1\n\nFinal-Recipient: rfc822; b.private@other.example\nStatus: 5.1.1\n\n"+joStatus,
		"Content-Type: text/rfc822-headers\n\nTo: jo@alumni.example, two@alumni.example\n"))
	if seek([]byte(got), "private") != nil || isOwnReport(got) {
		t.Error(got)
	}
	for _, want := range []string{"<two@alumni.example>: gone\r\n", "<two@alumni.example>: gone too", "<jo@alumni.example>: full"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestHideNothing lists what goes on octet for octet.
func TestHideNothing(t *testing.T) {
	for name, text := range map[string]string{
		"no report":        "From: kim@target.example\nSubject: Re: hello\n\nI am jo.private@target.example, write to me.\n",
		"auto-reply":       "From: jo.private@target.example\nAuto-Submitted: auto-replied\nSubject: away\n\nback on Monday\n",
		"empty":            "",
		"names ours only":  strings.ReplaceAll(report(plainText, strings.ReplaceAll(joStatus, "jo.private@target", "jo@alumni"), joCopy), "\r\n", "\n"),
		"of another house": strings.ReplaceAll(report("Content-Type: text/plain\n\n<jo@alumni.example>: gone, says kim@target.example\n", strings.ReplaceAll(joStatus, "jo.private@target", "jo@alumni"), joCopy), "\r\n", "\n"),
	} {
		body := bytes.NewReader([]byte(crlf(text)))
		got, err := testHider().Hide(body, ann, "abc123")
		if err != nil || got != envelope.Body(body) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHideKeeps leaves alone what only looks like the target.
func TestHideKeeps(t *testing.T) {
	text := report("Content-Type: text/plain\n\n<ki@target.example>: gone, unknown user \"ki\"; the kit, ki-lo, ki.example and ann.ki@target.example stay\n",
		"Final-Recipient: rfc822; ki@target.example\nStatus: 5.1.1\n", "Content-Type: message/rfc822\n\nTo: kim@alumni.example\nReceived: from waiki@target.example\n\nHello ki.\n")
	got := hide(t, text)
	want := strings.ReplaceAll(strings.ReplaceAll(text, "<ki@target.example>", "<kim@alumni.example>"), "; ki@target.example", "; kim@alumni.example")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestHideLeavesTheRestAlone compares all parts that do not name the target.
func TestHideLeavesTheRestAlone(t *testing.T) {
	odd := "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\naGVs\nbG8=\n\n\n" // in short lines
	text := report(plainText+"\n--sep\n"+odd, joStatus, joCopy+"X-Odd:  two  blanks \t\n")
	got := hide(t, text)
	want := strings.ReplaceAll(text, "jo.private@target.example", "jo@alumni.example")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestHideKeepsTrace has our own trace fields on top, which stay as they are,
// in a rewritten report and in one of our own.
func TestHideKeepsTrace(t *testing.T) {
	trace := crlf("Authentication-Results: mx.alumni.example; spf=none smtp.helo=jo.private\n" +
		"Received-SPF: none (mx.alumni.example: no record) helo=jo.private\n" +
		"Received: from jo.private ([192.0.2.9])\n\tby mx.alumni.example with ESMTP id X\n\tfor <SRS0=x=y7=sender.example=ann@srs.alumni.example>;\n\tSat, 21 Nov 2026 10:00:00 +0000\n")
	for name, text := range map[string]string{
		"rewritten": report(plainText, joStatus, joCopy),
		"replaced":  strings.ReplaceAll(report(plainText, joStatus, joCopy), "sep", "jo.private@target.example"),
	} {
		got := hide(t, trace+text)
		if !strings.HasPrefix(got, trace) || seek([]byte(got), "jo.private@target") != nil || isOwnReport(got) != (name == "replaced") {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}
