package spf_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"gopkg.in/yaml.v3"

	"srsd/internal/resolve"
	"srsd/spf"
)

// The suites of open-spf.org, in testdata with their licences. They are run
// over the network of this machine, against a DNS server for each scenario.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A scenario is one document of a suite.
type scenario struct {
	Description string
	Tests       map[string]suiteTest
	Zone        map[string]yaml.Node `yaml:"zonedata"`
}

type suiteTest struct {
	Helo, Host, MailFrom string
	Result               stringList
	Explanation          string
}

// A stringList is written as one string or as several.
type stringList []string

func (l *stringList) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = []string{latin1(n.Value)}
		return nil
	}
	for _, c := range n.Content {
		*l = append(*l, latin1(c.Value))
	}
	return nil
}

// latin1 makes octets of what the suites write as \xEF.
func latin1(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

func TestRFC7208Suite(t *testing.T) {
	t.Parallel()
	for _, tcp := range []bool{false, true} {
		t.Run(network(tcp), func(t *testing.T) {
			t.Parallel()
			right := runSuite(t, "testdata/rfc7208-tests.yml", tcp, true)
			if right.results != 203 || right.explanations != 22 {
				t.Errorf("%d results and %d explanations are right; want 203 and 22", right.results, right.explanations)
			}
			t.Logf("%+v", right)
		})
	}
}

// The suite of RFC 4408, where both standards agree on the answer or the suite
// lists the answer of RFC 7208 among its alternatives.
func TestRFC4408Suite(t *testing.T) {
	t.Parallel()
	for _, tcp := range []bool{false, true} {
		t.Run(network(tcp), func(t *testing.T) {
			t.Parallel()
			if right := runSuite(t, "testdata/rfc4408-tests.yml", tcp, false); right.results != 191 {
				t.Errorf("%d results are right; want 191", right.results)
			}
		})
	}
}

func network(tcp bool) string {
	if tcp {
		return "tcp"
	}
	return "udp"
}

// A score counts what is right, and the questions that it took.
type score struct{ results, explanations, queries int64 }

// patience is how long a resolver waits for the servers that keep silent. The
// checks run side by side, so that this costs little.
const patience = 1500 * time.Millisecond

// runSuite runs a suite. Of alternatives the first is wanted where preferred
// is set.
func runSuite(t *testing.T, file string, tcp, preferred bool) score {
	var results, explanations atomic.Int64
	var running sync.WaitGroup
	var servers []*dnsServer
	slots := make(chan struct{}, 16)
	for _, sc := range loadSuite(t, file) {
		server := serveDNS(t, tcp, sc.zone(t))
		servers = append(servers, server)
		checker := &spf.Checker{Resolver: resolve.New(resolve.Config{Servers: []string{server.addr}, Timeout: patience, Retries: -1})}
		for name, test := range sc.Tests {
			slots <- struct{}{}
			running.Go(func() {
				result, explanation := test.run(t, checker, name, preferred)
				results.Add(result)
				explanations.Add(explanation)
				<-slots
			})
		}
	}
	running.Wait()
	right := score{results: results.Load(), explanations: explanations.Load()}
	for _, s := range servers {
		right.queries += s.queries.Load()
	}
	return right
}

// run makes one check and says whether the result is right, and the
// explanation, if the test states one.
func (test suiteTest) run(t *testing.T, c *spf.Checker, name string, preferred bool) (result, explanation int64) {
	want := []string(test.Result)
	if preferred {
		want = want[:1]
	}
	o := c.Check(t.Context(), netip.MustParseAddr(test.Host), test.Helo, test.MailFrom)
	if !slices.Contains(want, string(o.Result)) {
		t.Errorf("%s: %s (%s); want %s", name, o.Result, o.Reason, want)
		return 0, 0
	}
	switch {
	case test.Explanation == "" || o.Result != spf.Fail:
		return 1, 0
	case test.Explanation == o.Explanation || test.Explanation == "DEFAULT" && o.Explanation == "":
		return 1, 1
	}
	t.Errorf("%s: explanation %q; want %q", name, o.Explanation, test.Explanation)
	return 1, 0
}

func loadSuite(t *testing.T, file string) []scenario {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []scenario
	for d := yaml.NewDecoder(f); ; {
		var sc scenario
		err := d.Decode(&sc)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sc)
	}
}

// zone makes records of a scenario's zonedata. A name's SPF records are its TXT
// records too, unless it has TXT records of its own ("NONE" is such a record).
func (sc scenario) zone(t *testing.T) zone {
	z := zone{}
	for name, list := range sc.Zone {
		var spfRecords [][]string
		hasTXT := false
		n := z.node(latin1(name))
		for _, entry := range list.Content {
			if entry.Kind == yaml.ScalarNode { // a bare TIMEOUT
				n.silent = true
				continue
			}
			kind, value := entry.Content[0].Value, entry.Content[1]
			var texts stringList
			if err := value.Decode(&texts); err != nil {
				t.Fatal(err)
			}
			switch kind {
			case "TIMEOUT":
				n.silent = true
			case "SERVFAIL":
				n.failing = true
			case "SPF":
				spfRecords = append(spfRecords, texts)
			case "TXT":
				hasTXT = true
				if len(texts) != 1 || texts[0] != "NONE" {
					z.add(latin1(name), &dns.TXT{Hdr: rrHeader(dns.TypeTXT), Txt: characterStrings(texts)})
				}
			default:
				z.add(latin1(name), record(kind, name, texts))
			}
		}
		for _, texts := range spfRecords {
			z.add(latin1(name), &dns.SPF{Hdr: rrHeader(dns.TypeSPF), Txt: characterStrings(texts)})
			if !hasTXT {
				z.add(latin1(name), &dns.TXT{Hdr: rrHeader(dns.TypeTXT), Txt: characterStrings(texts)})
			}
		}
	}
	return z
}

func record(kind, name string, data []string) dns.RR {
	switch kind {
	case "A":
		return &dns.A{Hdr: rrHeader(dns.TypeA), A: net.ParseIP(data[0])}
	case "AAAA":
		return &dns.AAAA{Hdr: rrHeader(dns.TypeAAAA), AAAA: net.ParseIP(data[0])}
	case "MX":
		var pref uint16
		fmt.Sscan(data[0], &pref)
		return &dns.MX{Hdr: rrHeader(dns.TypeMX), Preference: pref, Mx: dnsName(data[1])}
	case "PTR":
		return &dns.PTR{Hdr: rrHeader(dns.TypePTR), Ptr: dnsName(data[0])}
	case "CNAME":
		return &dns.CNAME{Hdr: rrHeader(dns.TypeCNAME), Target: dnsName(data[0])}
	case "CNAMELOOP":
		return &dns.CNAME{Hdr: rrHeader(dns.TypeCNAME), Target: dnsName(strings.ToUpper(name))}
	}
	panic("a record of type " + kind)
}
