package spflint_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"srsd/internal/mailtest"
	"srsd/internal/resolve"
	"srsd/spf/spflint"
)

// inspect reads d.example in a zone and returns the findings, one a line:
// severity, domain, term and text.
func inspect(t *testing.T, zone, draft string) (spflint.Report, string) {
	t.Helper()
	dns, err := mailtest.NewDNS(zone)
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	r := resolve.New(resolve.Config{Servers: []string{dns.Addr()}, Timeout: time.Second, Retries: -1})
	rep := spflint.Inspect(t.Context(), r, "d.example", draft)
	var b strings.Builder
	for _, f := range rep.Findings {
		fmt.Fprintf(&b, "%s %s [%s] %s\n", f.Severity, f.Domain, f.Term, f.Text)
	}
	return rep, b.String()
}

func TestFindings(t *testing.T) {
	filler := strings.Repeat("x", 240)
	for name, test := range map[string]struct {
		zone, draft string
		want        []string // beginnings of all findings
	}{
		"clean":              {zone: "d.example TXT v=spf1 ip4:192.0.2.0/24 -all"},
		"no record":          {zone: "d.example TXT other", want: []string{"error d.example [] no SPF record"}},
		"no name":            {zone: "x.example TXT x", want: []string{"error d.example [] no such name"}},
		"two records":        {zone: "d.example TXT v=spf1 -all\nd.example TXT v=spf1 ~all", want: []string{"error d.example [] 2 SPF records"}},
		"nearly a record":    {zone: "d.example TXT v=spf1-all", want: []string{"error d.example [] no SPF record", `warning d.example [] "v=spf1-all" is no SPF record`}},
		"trouble":            {zone: "d.example SERVFAIL", want: []string{"error d.example [] DNS trouble"}},
		"two syntax errors":  {zone: "d.example TXT v=spf1 ip4:1.2.3 a:localhost -all", want: []string{"error d.example [ip4:1.2.3]", "error d.example [a:localhost] the domain has one label only"}},
		"loop":               {zone: "d.example TXT v=spf1 include:e.example -all\ne.example TXT v=spf1 redirect=d.example", want: []string{"error e.example [redirect=d.example] the record leads back to itself"}},
		"include of nothing": {zone: "d.example TXT v=spf1 include:none.example -all", want: []string{"error d.example [include:none.example] no such name"}},
		"three voids": {zone: "d.example TXT v=spf1 a:a.none.example mx:b.none.example exists:c.none.example -all",
			want: []string{"error d.example [] 3 terms find nothing", "warning d.example [a:a.none.example]", "warning d.example [mx:b.none.example]", "warning d.example [exists:c.none.example]"}},
		"eleven lookups": {zone: "h.example A 192.0.2.1\nd.example TXT v=spf1" + strings.Repeat(" exists:%{i}.h.example", 11) + " -all",
			want: append([]string{"error d.example [] 11 terms need DNS"}, repeated(10, "warning d.example [exists:%{i}.h.example] stands in the record before")...)},
		"eleven MX": {zone: "d.example TXT v=spf1 mx -all" + lines(11, "\nd.example MX %d m.example"), want: []string{"error d.example [mx] d.example has 11 MX records"}},
		"MX host without address": {zone: "d.example TXT v=spf1 mx -all\nd.example MX 1 m.example",
			want: []string{"warning d.example [mx] the mail host m.example has no address"}},
		"no end":        {zone: "d.example TXT v=spf1 ip4:192.0.2.1", want: []string{"warning d.example [] neither all nor redirect="}},
		"+all":          {zone: "d.example TXT v=spf1 all", want: []string{"warning d.example [all] authorises every host"}},
		"?all":          {zone: "d.example TXT v=spf1 ?all", want: []string{"warning d.example [?all] says nothing"}},
		"after all":     {zone: "d.example TXT v=spf1 -all a redirect=e.example", want: []string{"warning d.example [a] never evaluated", "warning d.example [redirect=e.example] never used"}},
		"ptr":           {zone: "d.example TXT v=spf1 ptr -all", want: []string{"warning d.example [ptr] ptr is slow"}},
		"macros":        {zone: "d.example TXT v=spf1 exists:%{l}.%{p}.e.example -all", want: []string{"warning d.example [exists:%{l}.%{p}.e.example] asks DNS for every", "warning d.example [exists:%{l}.%{p}.e.example] the macro p"}},
		"host bits":     {zone: "d.example TXT v=spf1 ip4:192.0.2.1/24 -all", want: []string{"warning d.example [ip4:192.0.2.1/24] the address lies inside"}},
		"private":       {zone: "d.example TXT v=spf1 ip4:192.168.1.0/24 -all", want: []string{"warning d.example [ip4:192.168.1.0/24] no mail comes"}},
		"large":         {zone: "d.example TXT v=spf1 ip4:32.0.0.0/4 -all", want: []string{"warning d.example [ip4:32.0.0.0/4] a very large"}},
		"mapped":        {zone: "d.example TXT v=spf1 ip6:::ffff:192.0.2.1 -all", want: []string{"warning d.example [ip6:::ffff:192.0.2.1] matches nobody"}},
		"twice":         {zone: "d.example TXT v=spf1 ip4:192.0.2.1 include:e.example -all\ne.example TXT v=spf1 ip4:192.0.2.1/32 -all", want: []string{"warning e.example [ip4:192.0.2.1/32] the network is in the record of d.example"}},
		"inside":        {zone: "d.example TXT v=spf1 ip4:192.0.2.1 ip4:192.0.2.0/24 -all", want: []string{"warning d.example [192.0.2.1/32] the network lies in 192.0.2.0/24 of d.example"}},
		"read twice":    {zone: "d.example TXT v=spf1 include:e.example redirect=e.example\ne.example TXT v=spf1 -all", want: []string{"warning d.example [redirect=e.example] the record is read a second time"}},
		"modifier":      {zone: "d.example TXT v=spf1 x=y -all", want: []string{"warning d.example [x=y] an unknown modifier"}},
		"exp":           {zone: "d.example TXT v=spf1 -all exp=e.example", want: []string{"warning d.example [exp=e.example] 0 TXT records"}},
		"bad exp":       {zone: "d.example TXT v=spf1 -all exp=e.example\ne.example TXT \"\\xe9\"", want: []string{"warning d.example [exp=e.example] the explanation is not printable"}},
		"long":          {zone: "d.example TXT v=spf1 x=" + filler + filler + " -all", want: []string{"warning d.example [] 494 octets: more than 450", "warning d.example [x="}},
		"long draft":    {draft: "v=spf1 x=" + filler + "xxxx -all", want: []string{"warning d.example [] 258 octets: publish it as several", "warning d.example [x="}},
		"many texts":    {zone: "d.example TXT v=spf1 -all" + lines(5, "\nd.example TXT %d"+filler), want: []string{"warning d.example [] all TXT records of this name take about 1294 octets"}},
		"IPv4 only":     {zone: "d.example TXT v=spf1 a:a.example a:b.example a:c.example -all\na.example A 192.0.2.1\nb.example A 192.0.2.2\nc.example A 192.0.2.3", want: []string{"warning d.example [] 3 terms name hosts without IPv6"}},
		"eight lookups": {zone: "d.example TXT v=spf1" + lines(8, " exists:%%{i}.h%d.example") + " -all", want: []string{"warning d.example [] 8 terms need DNS"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := inspect(t, test.zone, test.draft)
			found := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
			ok := len(found) == len(test.want) || got == "" && len(test.want) == 0
			for i := range min(len(found), len(test.want)) {
				ok = ok && strings.HasPrefix(found[i], test.want[i])
			}
			if !ok {
				t.Errorf("found\n%swant\n%s", got, strings.Join(test.want, "\n"))
			}
		})
	}
}

func repeated(n int, s string) (all []string) {
	for range n {
		all = append(all, s)
	}
	return all
}

func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestAddresses(t *testing.T) {
	rep, _ := inspect(t, `
		d.example TXT v=spf1 ip4:192.0.2.0/24 ip4:192.0.2.9 -ip4:198.51.100.0/24 a/24//64 include:e.example ?include:f.example -all
		d.example A 203.0.113.7
		d.example AAAA 2001:db8::7
		e.example TXT v=spf1 ip4:203.0.113.128/25 ip4:10.0.0.1 -all
		f.example TXT v=spf1 ip4:11.0.0.0/8 -all`, "")
	if rep.Networks != 4 || rep.Addresses4.Int64() != 513 || rep.Addresses6.BitLen() != 65 || rep.Everybody || rep.Lookups != 3 {
		t.Errorf("%+v", rep)
	}
	rep, _ = inspect(t, "d.example TXT v=spf1 redirect=e.example\ne.example TXT v=spf1 ip4:0.0.0.0/0 -all", "")
	if !rep.Everybody {
		t.Errorf("%+v", rep)
	}
}

// Records that multiply do not.
func TestInspectIsBounded(t *testing.T) {
	var zone strings.Builder
	for i := range 12 {
		for j := range 12 {
			fmt.Fprintf(&zone, "t%d-%d.example TXT v=spf1 %s ?all\n", i, j, lines(12, fmt.Sprintf(" include:t%d-%d-%%d.example", i, j)))
		}
		fmt.Fprintf(&zone, "t%d.example TXT v=spf1 %s ?all\n", i, lines(12, fmt.Sprintf(" include:t%d-%%d.example", i)))
	}
	rep, _ := inspect(t, zone.String()+"d.example TXT v=spf1"+lines(12, " include:t%d.example")+" -all", "")
	if rep.Errors() == 0 || rep.Lookups < 12 {
		t.Errorf("%d lookups, %d errors", rep.Lookups, rep.Errors())
	}
	rep, _ = inspect(t, "d.example TXT v=spf1"+lines(1000, " a:h%d.example")+" -all", "")
	if rep.Lookups != 1000 || rep.VoidLookups > 200 {
		t.Errorf("%d lookups, %d void", rep.Lookups, rep.VoidLookups)
	}
}
