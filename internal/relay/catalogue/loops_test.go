package catalogue_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// twoRelays starts alumni.example at NET.1 and club.example at NET.2; each of
// the aliases of the one leads to the same name at the other.
func twoRelays(t *testing.T, overlay string, names ...string) (a, b *world) {
	zone := `
club.example      MX 10 mx.club.example
mx.club.example   A NET.2
srs.club.example  MX 10 mx.club.example
srs.club.example  TXT v=spf1 ip4:NET.2 -all
`
	a = newWorld(t, zone)
	b = newWorld(t, "")
	b.net, b.port = a.net, a.port
	for _, n := range names {
		a.aliases += fmt.Sprintf("%s: %s@club.example\n", n, n)
		b.aliases += fmt.Sprintf("%s: %s@alumni.example\n", n, n)
	}
	a.aliases += "both: jo@club.example, al@club.example\n"
	a.start(fmt.Sprintf("[receive]\nlisten = [%q]\n%s", a.at(1), overlay))
	b.start(fmt.Sprintf(`hostname = "mx.club.example"
[receive]
listen = [%q]
[forward]
domains = ["club.example"]
[srs]
domain = "srs.club.example"
[dns]
servers = [%q]
%s`, a.at(2), a.dns.Addr(), strings.Replace(overlay, "[deliver]", "[deliver]\nsource = [\"NET.2\"]", 1)))
	return a, b
}

// TestTwoForwardersEndTheirLoop: aliases of two relays lead to one another. At
// most 50 hops are made, the sender hears once (in the session, or by exactly
// one report), and no reverse-path grows longer than 200 octets. Where two
// recipients travel together, there is no Delivered-To to tell by.
func TestTwoForwardersEndTheirLoop(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{{"cut-through", "jo"}, {"queue", "jo"}, {"cut-through", "both"}, {"queue", "both"}} {
		t.Run(c[0]+" to "+c[1], func(t *testing.T) {
			t.Parallel()
			mode := c[0]
			a, b := twoRelays(t, fmt.Sprintf("[deliver]\nmode = %q\nbudget = \"5s\"\n", mode), "jo", "al")
			origin := a.target(20)
			reply := a.send("ann@origin.example", c[1]+"@alumni.example", "From: ann@origin.example\r\nSubject: round\r\n\r\nHello.\r\n")
			if mode == "cut-through" {
				if !strings.HasPrefix(reply, "5") || !strings.Contains(reply, "5.4.6") {
					t.Errorf("the sender hears %q", reply)
				}
			} else {
				if reply[0] != '2' {
					t.Fatal(reply)
				}
				reports := origin.wait(t, 1)
				if path(reports[0].mail) != "" || path(reports[0].rcpts[0]) != "ann@origin.example" || !strings.Contains(string(reports[0].data), "5.4.6") {
					t.Errorf("%s: %s", reports[0].mail, reports[0].data)
				}
			}
			a.drained()
			b.drained()
			time.Sleep(300 * time.Millisecond) // for what ought not to come
			wanted := map[string]int{"cut-through": 0, "queue": 1}[mode]
			if n, _, _ := origin.count(); n != wanted {
				t.Errorf("%d reports", n)
			}
			log := a.log.String() + b.log.String()
			if n := strings.Count(log, "msg=delivered"); n > 50 {
				t.Errorf("%d hops", n)
			}
			for field := range strings.FieldsSeq(log) {
				if r, ok := strings.CutPrefix(field, "reverse_path="); ok && len(r) > 200 {
					t.Errorf("reverse-path of %d octets: %s", len(r), r)
				}
			}
		})
	}
}
