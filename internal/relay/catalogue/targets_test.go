package catalogue_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"srsd/store"
)

// TestDNSTroubleDefers: whatever the DNS does instead of an answer, 4 of 4
// messages are taken and none is bounced; when it is over, all arrive.
func TestDNSTroubleDefers(t *testing.T) {
	t.Parallel()
	names := []string{"servfail", "refused", "timeout", "address"}
	good, bad := "", "mx.address.example SERVFAIL\naddress.example MX 10 mx.address.example\n"
	for _, n := range names {
		good += fmt.Sprintf("%s.example MX 10 mx.%s.example\nmx.%s.example A NET.10\n", n, n, n)
		if n != "address" {
			bad += n + ".example " + strings.ToUpper(n) + "\n"
		}
	}
	w := newWorld(t, bad, names...)
	target := w.target(10)
	w.start("")
	for _, n := range names {
		w.want(n, "250")
	}
	if waiting, failed := w.waiting(); waiting != 4 || failed != 0 {
		t.Errorf("%d wait, %d failed", waiting, failed)
	}
	if err := w.dns.SetZone(w.zone(good)); err != nil {
		t.Fatal(err)
	}
	target.wait(t, 4)
	w.drained()
	if n, _, _ := target.count(); n != 4 {
		t.Errorf("%d arrived", n)
	}
}

// TestWhatTheDNSSaysDecides: each state of a target's domain has its reply, 14
// of 14, and nobody is connected to who may not be: 0 connections outside of
// allow_networks.
func TestWhatTheDNSSaysDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `
nxdomain.example      NXDOMAIN
null.example          MX 0 .
noaddress.example     MX 10 mx.noaddress.example
mx.noaddress.example  TXT here, but without an address
gone.example          MX 10 mx.nxdomain.example
implicit.example      A NET.10
cname.example         MX 10 alias.cname.example
alias.cname.example   CNAME mx.real.example
mx.real.example       A NET.10
ourname.example       MX 10 mx.alumni.example
ouraddress.example    MX 10 mx.ouraddress.example
mx.ouraddress.example A NET.1
loopback.example      MX 10 mx.loopback.example
mx.loopback.example   A 127.0.0.1
mx.loopback.example   A 127.0.0.2
unspecified.example   MX 10 mx.unspecified.example
mx.unspecified.example A 0.0.0.0
six.example           MX 10 mx.six.example
mx.six.example        AAAA ::1
mapped.example        MX 10 mx.mapped.example
mx.mapped.example     AAAA ::ffff:127.0.0.1
metadata.example      MX 10 mx.metadata.example
mx.metadata.example   A 169.254.169.254
bareword.example      MX 10 127.0.0.1
`, "nxdomain", "null", "noaddress", "gone", "implicit", "cname", "ourname", "ouraddress", "loopback", "unspecified", "six", "mapped", "metadata", "bareword")
	target := w.target(10)
	forbidden := newSink(t, fmt.Sprintf("127.0.0.1:%d", w.port))
	w.start(fmt.Sprintf("[receive]\nlisten = [%q]\n", w.at(1)))
	for name, reply := range map[string]string{
		"nxdomain": "550 5.1.2", "null": "556 5.1.10", "noaddress": "550 5.4.4", "gone": "550 5.4.4",
		"implicit": "250", "cname": "250", "ourname": "554 5.4.6", "ouraddress": "554 5.4.6",
		"loopback": "550 5.4.4", "unspecified": "550 5.4.4", "six": "550 5.4.4", "mapped": "550 5.4.4", "metadata": "550 5.4.4",
		"bareword": "550 5.4.4",
	} {
		w.want(name, reply)
	}
	if n, _, _ := target.count(); n != 2 {
		t.Errorf("%d of 2 arrived", n)
	}
	if _, n, _ := forbidden.count(); n != 0 {
		t.Errorf("%d connections to 127.0.0.1", n)
	}
	if waiting, failed := w.waiting(); waiting+failed != 0 {
		t.Errorf("%d wait, %d failed", waiting, failed)
	}
}

// TestTLSLevels: a target that offers no TLS (as after a downgrade), breaks the
// handshake, or shows a certificate that is not trusted or trusted, against each
// level: 12 of 12 go as they should, and where TLS is required 0 MAIL commands
// are said in clear.
func TestTLSLevels(t *testing.T) {
	t.Parallel()
	servers := []string{"none", "broken", "untrusted", "trusted"}
	levels := []string{"opportunistic", "required", "verified"}
	zone, overlay := "", "[deliver.tls]\n"
	var names []string
	for i, server := range servers {
		zone += fmt.Sprintf("mx.%s.example A NET.%d\n", server, 10+i)
		for _, level := range levels {
			name := server + "-" + level
			names = append(names, name)
			zone += fmt.Sprintf("%s.example MX 10 mx.%s.example\n", name, server)
			overlay += fmt.Sprintf("%q = %q\n", name+".example", level)
		}
	}
	w := newWorld(t, zone, names...)
	sinks := map[string]*sink{}
	for i, server := range servers {
		sinks[server] = newSink(t, w.at(10+i), func(s *sink) {
			switch server {
			case "broken":
				s.tls = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, fmt.Errorf("none") }}
			case "untrusted":
				s.tls = &tls.Config{Certificates: []tls.Certificate{untrusted}}
			case "trusted":
				s.tls = &tls.Config{Certificates: []tls.Certificate{trusted}}
			}
		})
	}
	w.start("[deliver]\nretry = [\"1h\"]\n" + overlay)
	passes := map[string]string{"none": "opportunistic", "broken": "opportunistic", "untrusted": "opportunistic required", "trusted": "opportunistic required verified"}
	for _, name := range names {
		server, level, _ := strings.Cut(name, "-")
		s := sinks[server]
		before, clearBefore := len(s.arrivals()), mails(s.commands(true))
		w.want(name, "250")
		arrived, inClear := len(s.arrivals())-before, mails(s.commands(true))-clearBefore
		want := 0
		if strings.Contains(passes[server], level) {
			want = 1
		}
		if arrived != want || level != "opportunistic" && inClear != 0 {
			t.Errorf("%s: %d arrived, want %d; %d MAIL in clear", name, arrived, want, inClear)
		}
	}
	if waiting, failed := w.waiting(); waiting != 5 || failed != 0 {
		t.Errorf("%d of 5 wait, %d failed", waiting, failed)
	}
}

func mails(commands []string) (n int) {
	for _, line := range commands {
		if strings.HasPrefix(line, "MAIL") {
			n++
		}
	}
	return n
}

const oneTarget = "jo.example MX 10 mx.jo.example\nmx.jo.example A NET.10\n"

// TestGreylistingIsSatOut: a target says 450 for five minutes. The message
// arrives with the first attempt after that, once: 3 attempts, 1 copy.
func TestGreylistingIsSatOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneTarget, "jo")
	target := w.target(10)
	var first time.Time // when the target first saw the sender
	target.behave(func(stage, _ string) string {
		if stage != "rcpt" {
			return ""
		}
		if first.IsZero() {
			first = w.now()
		}
		if w.now().Sub(first) < 5*time.Minute {
			return "450 4.2.0 greylisted"
		}
		return ""
	})
	w.start("[deliver]\nretry = [\"3m\"]\n")
	w.want("jo", "250")
	for try := 1; try < 3; try++ { // after 3 min and 6 min, give or take a fifth
		if n, _, _ := target.count(); n != 0 {
			t.Errorf("%d copies after %d tries", n, try)
		}
		tries := func() int { return countPrefix(target.commands(false), "RCPT") }
		before := tries()
		// Only when the last attempt is noted does its clock say when the next is due.
		eventually(t, "the attempt is noted", func() bool {
			q := w.queue()
			return len(q) == 1 && q[0].Deliveries[0].State == store.Queued && q[0].Deliveries[0].Due.After(w.now())
		})
		w.moved.Add(int64(4 * time.Minute))
		eventually(t, "the target is asked again", func() bool { return tries() > before })
	}
	w.drained()
	if n, _, _ := target.count(); n != 1 {
		t.Errorf("%d copies", n)
	}
	if n := countPrefix(target.commands(false), "RCPT"); n != 3 {
		t.Errorf("%d attempts", n)
	}
}

func countPrefix(lines []string, prefix string) (n int) {
	for _, l := range lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

// TestNoReportAboutAReport: what has the null reverse-path and fails after it
// was accepted makes 0 reports; the failure is in the log, once.
func TestNoReportAboutAReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneTarget, "jo")
	target, origin := w.target(10), w.target(20)
	target.behave(always("rcpt", "550 5.1.1 nobody of that name"))
	w.start("[deliver]\nmode = \"queue\"\n")
	if reply := w.send("", "jo@alumni.example", "Subject: a report\r\n\r\nIt failed.\r\n"); reply[0] != '2' {
		t.Fatal(reply)
	}
	w.drained()
	w.want("jo", "250") // and this one makes one, so that the test could fail
	origin.wait(t, 1)
	w.drained()
	if n, _, _ := origin.count(); n != 1 {
		t.Errorf("%d reports at the sender's", n)
	}
	if n, dialled, _ := target.count(); n != 0 || dialled == 0 {
		t.Errorf("%d messages, %d connections", n, dialled)
	}
	if !strings.Contains(w.log.String(), "550 5.1.1") {
		t.Error("nothing in the log")
	}
}
