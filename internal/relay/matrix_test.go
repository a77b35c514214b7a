package relay

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"srsd/internal/mailtest"
)

// startRelay runs a relay in a folder of its own, with a clock that can be moved.
func startRelay(t *testing.T, config, aliases string) inProcess {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"srsd.toml": config, "aliases": aliases} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := startInProcess(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	p := r.(inProcess)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// say sends a message, and returns the reply to its end.
func say(t *testing.T, p inProcess, from, to, mailParameters, rcptParameters string) error {
	t.Helper()
	c, err := mailtest.Dial(t.Context(), p.Addr(), "127.0.43.9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Run(fmt.Sprintf("S: 220\nC: EHLO mail.helo.example\nS: 250\nC: MAIL FROM:<%s>%s\nS: 250\nC: RCPT TO:<%s>%s\nS: 250\nC: DATA\nS: 354\n"+
		"C: Subject: hello\nC:\nC: the text of the message\nC: .\nS: 250\n", from, mailParameters, to, rcptParameters))
}

const matrixZone = `
pass.example     TXT v=spf1 ip4:127.0.43.9 -all
neutral.example  TXT v=spf1 ?all
soft.example     TXT v=spf1 ~all
fail.example     TXT v=spf1 -all
perm.example     TXT v=spf1 nonsense
temp.example     SERVFAIL TXT
mail.helo.example TXT v=spf1 ip4:127.0.43.9 -all
`

// matrix is who gets what: by what became of a message, the wish of its sender.
// "-" is no NOTIFY. Whoever passed SPF gets as much as stands here.
var matrix = map[string]map[string]string{
	"accepted": {"-": "", "NEVER": "", "SUCCESS": "relayed headers", "FAILURE": "", "DELAY": "", "SUCCESS,FAILURE,DELAY": "relayed headers"},
	"refused":  {"-": "", "NEVER": "", "SUCCESS": "", "FAILURE": "", "DELAY": "", "SUCCESS,FAILURE,DELAY": ""}, // in the session
	"mixed": {"-": "failed full", "NEVER": "", "SUCCESS": "expanded headers", "FAILURE": "failed full", "DELAY": "",
		"SUCCESS,FAILURE,DELAY": "expanded headers, failed full"},
	"late": {"-": "delayed headers, failed full", "NEVER": "", "SUCCESS": "", "FAILURE": "failed full", "DELAY": "delayed headers",
		"SUCCESS,FAILURE,DELAY": "delayed headers, failed full"},
}

// bySPF is what is left of it for the other senders.
var bySPF = map[string]func(string) string{
	"pass":    func(s string) string { return s },
	"none":    func(s string) string { return strings.ReplaceAll(s, "full", "headers") },
	"neutral": func(s string) string { return strings.ReplaceAll(s, "full", "headers") },
	"soft":    func(string) string { return "" },
	"fail":    func(string) string { return "" },
	"perm":    func(string) string { return "" },
	"temp":    func(string) string { return "" },
	"":        func(string) string { return "" }, // the null reverse-path, from a host that passes
}

// TestMatrix sends a message for each SPF result, NOTIFY and outcome, and looks
// who is told: exactly these, each once. Senders who may be forged hear nothing.
func TestMatrix(t *testing.T) {
	mx, err := mailtest.NewMX(mailtest.MXConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer mx.Close()
	if err := mx.Script("ehlo 250 mx.target.example\\nPIPELINING\\n8BITMIME\nrcpt no@target.example 550 5.1.1 no is unknown\nrcpt later@target.example 451 4.3.2 later\n"); err != nil {
		t.Fatal(err)
	}
	dns, err := mailtest.NewDNS(matrixZone)
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	p := startRelay(t, fmt.Sprintf(`hostname = "mx.alumni.example"
[receive]
listen = ["127.0.43.1:0"]
[forward]
domains = ["alumni.example"]
aliases = ["aliases"]
postmaster = "root@target.example"
[srs]
domain = "srs.alumni.example"
[spf]
fail = "mark"
temperror = "mark"
[deliver]
smarthost = %q
allow_networks = ["127.0.0.0/8"]
retry = ["5h"]
lifetime = "10h"
[bounce]
suspend_after = 0
[dns]
servers = [%q]
`, mx.Addr(), dns.Addr()), "accepted: yes@target.example\nrefused: no@target.example\nmixed: yes@target.example, no@target.example\nlate: later@target.example\n")

	want := map[string]string{}
	for result, left := range bySPF {
		for outcome, row := range matrix {
			for notify, reports := range row {
				from, parameters := "", ""
				if result != "" {
					from = strings.ToLower(outcome+"."+strings.ReplaceAll(notify, ",", ".")) + "@" + result + ".example"
				}
				if notify != "-" {
					parameters = " NOTIFY=" + notify
				}
				err := say(t, p, from, outcome+"@alumni.example", " RET=FULL ENVID=the-envelope", parameters)
				if (err == nil) != (outcome != "refused") {
					t.Errorf("%s %s %s: %v", result, notify, outcome, err)
				}
				if r := left(reports); r != "" {
					want[from] = r
				}
			}
		}
	}
	for range 6 {
		p.Advance(7 * time.Hour)
	}
	if diff := cmp.Diff(want, told(t, mx)); diff != "" {
		t.Error(diff)
	}
}

// told lists the reports that came out, by their addressees.
func told(t *testing.T, mx *mailtest.MX) map[string]string {
	got := map[string][]string{}
	for _, m := range mx.Messages() {
		if m.From() != "" || slices.Contains(m.To(), "yes@target.example") {
			continue
		}
		text := string(m.Data)
		action := "?"
		for _, a := range []string{"failed", "delayed", "relayed", "expanded"} {
			if strings.Contains(text, "\r\nAction: "+a+"\r\n") {
				action = a
			}
		}
		extent := "headers"
		if strings.Contains(text, "the text of the message") {
			extent = "full"
		}
		if !strings.Contains(text, "\r\nOriginal-Envelope-Id: the-envelope\r\n") || strings.Contains(text, "target.example") {
			t.Errorf("no ENVID, or a target:\n%s", text)
		}
		to := strings.Join(m.To(), " ")
		got[to] = append(got[to], action+" "+extent)
	}
	joined := map[string]string{}
	for to, reports := range got {
		slices.Sort(reports)
		joined[to] = strings.Join(reports, ", ")
	}
	return joined
}

// TestTwoRelaysBounceAtEachOther has an alias in each of two relays that leads
// to the other, and one whose target is gone on both sides: whatever is sent,
// it ends, and with one report at the most.
func TestTwoRelaysBounceAtEachOther(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.43.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(probe.Addr().String())
	probe.Close()
	sink, err := mailtest.NewMX(mailtest.MXConfig{Addr: "127.0.43.10:" + port})
	if err != nil {
		t.Skipf("the port is taken: %v", err)
	}
	defer sink.Close()
	if err := sink.Script("rcpt gone@target.example 451 4.3.2 later\nrcpt gone@target.example 550 5.1.1 gone\n"); err != nil {
		t.Fatal(err)
	}
	zone := "target.example MX 10 mx.target.example\nmx.target.example A 127.0.43.10\norigin.example MX 10 mx.target.example\norigin.example TXT v=spf1 +all\n"
	for i, name := range []string{"a", "b"} {
		zone += fmt.Sprintf("%[1]s.example MX 10 mx.%[1]s.example\nsrs.%[1]s.example MX 10 mx.%[1]s.example\nmx.%[1]s.example A 127.0.43.%[2]d\n%[1]s.example TXT v=spf1 +all\nsrs.%[1]s.example TXT v=spf1 +all\n", name, i+1)
	}
	dns, err := mailtest.NewDNS(zone)
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	relays := map[string]inProcess{}
	for i, names := range [][2]string{{"a", "b"}, {"b", "a"}} {
		relays[names[0]] = startRelay(t, fmt.Sprintf(`hostname = "mx.%[1]s.example"
[receive]
listen = ["127.0.43.%[2]d:%[3]s"]
[forward]
domains = ["%[1]s.example"]
aliases = ["aliases"]
postmaster = "root@target.example"
[srs]
domain = "srs.%[1]s.example"
[deliver]
port = %[3]s
source = ["127.0.43.%[2]d"]
allow_networks = ["127.0.43.0/24"]
retry = ["1h"]
lifetime = "3h"
delay_warning = "0s"
[dns]
servers = [%[4]q]
`, names[0], i+1, port, dns.Addr()), fmt.Sprintf("round: round@%[1]s.example\ngone: gone@target.example\nfar: gone@%[1]s.example\nboth: gone@%[1]s.example, yes@target.example\n", names[1]))
	}
	for _, from := range []string{"ann@origin.example", "gone@a.example", "gone@b.example", "far@b.example", "round@b.example", ""} {
		for _, to := range []string{"round", "gone", "far", "both"} {
			before := len(sink.Messages())
			_ = say(t, relays["a"], from, to+"@a.example", "", "") // refused or not, it ends
			for range 5 {
				relays["a"].Advance(90 * time.Minute)
				relays["b"].Advance(90 * time.Minute)
			}
			reports := 0
			for _, m := range sink.Messages()[before:] {
				if m.From() == "" && !slices.Contains(m.To(), "yes@target.example") {
					reports++
				}
			}
			if reports > 1 || from == "" && reports > 0 {
				t.Errorf("<%s> to %s: %d reports", from, to, reports)
			}
		}
	}
	for name, p := range relays {
		if p.busy() {
			t.Errorf("%s is still at it", name)
		}
	}
	if n := len(sink.Commands()); n > 1500 {
		t.Errorf("%d commands at the target", n)
	}
}

// TestForgeriesByNetwork refuses SRS addresses to a network that guesses, and to
// no other, without looking at them.
func TestForgeriesByNetwork(t *testing.T) {
	mx, err := mailtest.NewMX(mailtest.MXConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer mx.Close()
	p := startRelay(t, strings.Replace(fmt.Sprintf(workbenchConfig, mx.Addr()), "secrets = \"secrets\"\n", "", 1)+"source = [\"127.0.43.1\"]\n", "jo: jo.private@target.example\n")
	if err := say(t, p, "ann@sender.example", "jo@alumni.example", "", ""); err != nil {
		t.Fatal(err)
	}
	srs := mx.Messages()[0].From()
	ask := func(client, rcpt, reply string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := mailtest.Dial(ctx, p.Addr(), client)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Run("S: 220\nC: EHLO x.example\nS: 250\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<" + rcpt + ">\nS: " + reply + "\n")
	}
	for i := range forgedLimit {
		if err := ask(fmt.Sprintf("127.0.44.%d", 1+i%5), fmt.Sprintf("SRS0=aaaa%04d=y7=sender.example=ann@srs.alumni.example", i), "550 5.1.1"); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := ask("127.0.44.77", srs, "450 4.7.1"); err != nil {
		t.Error(err)
	}
	if err := ask("127.0.44.77", "jo@alumni.example", "250"); err != nil {
		t.Error("other mail:", err)
	}
	if err := ask("127.0.45.77", srs, "250"); err != nil {
		t.Error("another network:", err)
	}
	p.Advance(25 * time.Hour)
	if err := ask("127.0.44.77", srs, "250"); err != nil {
		t.Error("the next day:", err)
	}
}
