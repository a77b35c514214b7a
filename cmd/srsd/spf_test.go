package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"srsd/internal/mailtest"
)

// spfZone is like the zones of shops that send through large mail hosts.
const spfZone = `
	shop.example              TXT v=spf1 include:_spf.mailhost.example mx a:www.shop.example exists:%{ir}.%{v}.list.example ~all
	shop.example              MX  10 mx.shop.example
	mx.shop.example           A   198.51.100.10
	www.shop.example          A   198.51.100.80
	www.shop.example          AAAA 2001:db8::80
	_spf.mailhost.example     TXT v=spf1 include:_n1.mailhost.example include:_n2.mailhost.example ~all
	_n1.mailhost.example      TXT v=spf1 ip4:203.0.113.0/25 ip4:203.0.113.128/25 ~all
	_n2.mailhost.example      TXT v=spf1 ip6:2001:db8:1::/48 -all
	strict.example            TXT v=spf1 -all exp=why.strict.example
	why.strict.example        TXT %{i} is no mail host of %{d}
	neutral.example           TXT v=spf1 ?all
	soft.example              TXT v=spf1 ~all
	perm.example              TXT v=spf1 nonsense
	temp.example              SERVFAIL
	messy.example             TXT v=spf1 ip4:10.0.0.0/8 ip4:10.0.0.0/8 a:gone.example ptr +all mx
	void.example              TXT v=spf1 a:n1.void.example a:n2.void.example a:n3.void.example -all`

// spfRun runs a command that asks a DNS server with spfZone.
func spfRun(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dns, err := mailtest.NewDNS(spfZone)
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	var out, errs bytes.Buffer
	args = append([]string{"spf", args[0], "--dns", dns.Addr()}, args[1:]...)
	status = run(args, console{In: strings.NewReader(stdin), Out: &out, Err: &errs})
	return status, out.String(), errs.String()
}

func TestSPFCheckStatus(t *testing.T) {
	for from, want := range map[string]struct {
		status int
		word   string
	}{
		"ann@shop.example": {0, "pass"}, "<ann@strict.example>": {1, "fail"}, "ann@soft.example": {3, "softfail"}, "ann@neutral.example": {4, "neutral"},
		"ann@none.example": {5, "none"}, "ann@temp.example": {6, "temperror"}, "ann@perm.example": {7, "permerror"},
	} {
		status, out, stderr := spfRun(t, "", "check", "--ip=203.0.113.200", "--from", from)
		if status != want.status || !strings.HasPrefix(out, want.word+"  ") || stderr != "" {
			t.Errorf("%s: exit %d, %q, %q", from, status, out, stderr)
		}
	}
	for _, args := range [][]string{{"check"}, {"check", "--ip=x", "--from=a@b.c"}, {"check", "--ip=192.0.2.1"}, {"explain"}, {"lint"}, {"tree", "--nonsense", "a.b"}} {
		if status, out, stderr := spfRun(t, "", args...); status != exitUsage || out != "" || stderr == "" {
			t.Errorf("%q: exit %d, %q, %q", args, status, out, stderr)
		}
	}
}

func TestSPFCheckSays(t *testing.T) {
	_, out, _ := spfRun(t, "", "check", "--ip=192.0.2.9", "--from=ann@strict.example")
	if !strings.Contains(out, "strict.example says: 192.0.2.9 is no mail host of strict.example\nReceived-SPF: fail (") {
		t.Error(out)
	}
	status, out, _ := spfRun(t, "", "check", "--ip=192.0.2.9", "--helo=strict.example", "--json")
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 1 || got["identity"] != "helo" || got["result"] != "fail" {
		t.Errorf("exit %d, %v: %s", status, err, out)
	}
	status, out, _ = spfRun(t, "", "check", "--ip=192.0.2.9", "--from=ann@new.example", "--record=v=spf1 ip4:192.0.2.0/28 -all")
	if status != 0 || !strings.HasPrefix(out, "pass  ip4:192.0.2.0/28 of new.example matches\n") {
		t.Errorf("a draft: exit %d, %s", status, out)
	}
}

func TestSPFBatch(t *testing.T) {
	in := "203.0.113.9\th.example\tann@shop.example\r\n192.0.2.1\tstrict.example\t\n\n192.0.2.1\th.example\t<ann@void.example>\nnonsense\n"
	status, out, _ := spfRun(t, in, "check", "--batch")
	want := `{"result":"pass","explanation":"","error":"","lookups":2,"void_lookups":0}
{"result":"fail","explanation":"192.0.2.1 is no mail host of strict.example","error":"","lookups":0,"void_lookups":0}
{"result":"permerror","explanation":"","error":"void lookup limit exceeded: more than 2 terms found nothing in DNS, at a:n3.void.example of void.example","lookups":3,"void_lookups":3}
{"result":"","explanation":"","error":"line 5: 1 fields, not IP, HELO name and reverse-path with tabs between them","lookups":0,"void_lookups":0}
`
	if d := cmp.Diff(want, out); d != "" || status != exitFailed {
		t.Errorf("exit %d: %s", status, d)
	}
}

// A program that writes a line and waits for its answer gets it.
func TestSPFBatchAnswersAtOnce(t *testing.T) {
	dns, err := mailtest.NewDNS(spfZone)
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	questions, ask := io.Pipe()
	answer, answers := io.Pipe()
	done := make(chan int)
	go func() {
		done <- run([]string{"spf", "check", "--batch", "--dns", dns.Addr()}, console{In: questions, Out: answers, Err: io.Discard})
	}()
	lines := bufio.NewReader(answer)
	for range 2 {
		io.WriteString(ask, "192.0.2.1\th.example\tann@strict.example\n")
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"result":"fail"`) {
			t.Fatal(line, err)
		}
	}
	ask.Close()
	if status := <-done; status != 0 {
		t.Errorf("exit %d", status)
	}
}

// untimed takes the durations out.
func untimed(s string) string {
	return regexp.MustCompile(`\d+\.\d ms`).ReplaceAllString(s, "T")
}

func TestSPFExplain(t *testing.T) {
	status, out, stderr := spfRun(t, "", "explain", "--ip=198.51.100.80", "--from=ann@shop.example", "--helo=www.shop.example")
	want := `client 198.51.100.80, HELO www.shop.example, reverse-path <ann@shop.example>

TXT shop.example: 1 record  T
v=spf1 include:_spf.mailhost.example mx a:www.shop.example exists:%{ir}.%{v}.list.example ~all
  include:_spf.mailhost.example
    TXT _spf.mailhost.example: 1 record  T
    v=spf1 include:_n1.mailhost.example include:_n2.mailhost.example ~all
      include:_n1.mailhost.example
        TXT _n1.mailhost.example: 1 record  T
        v=spf1 ip4:203.0.113.0/25 ip4:203.0.113.128/25 ~all
          ip4:203.0.113.0/25: no match
          ip4:203.0.113.128/25: no match
          ~all: softfail
        _n1.mailhost.example: softfail
      include:_n1.mailhost.example: no match  (DNS terms 2 of 10, void lookups 0 of 2)
      include:_n2.mailhost.example
        TXT _n2.mailhost.example: 1 record  T
        v=spf1 ip6:2001:db8:1::/48 -all
          ip6:2001:db8:1::/48: no match
          -all: fail
        _n2.mailhost.example: fail
      include:_n2.mailhost.example: no match  (DNS terms 3 of 10, void lookups 0 of 2)
      ~all: softfail
    _spf.mailhost.example: softfail
  include:_spf.mailhost.example: no match  (DNS terms 3 of 10, void lookups 0 of 2)
  mx → shop.example
    MX shop.example: 10 mx.shop.example  T
    A mx.shop.example: 198.51.100.10  T
  mx: no match  (DNS terms 4 of 10, void lookups 0 of 2)
  a:www.shop.example
    A www.shop.example: 198.51.100.80  T
  a:www.shop.example: pass  (DNS terms 5 of 10, void lookups 0 of 2)

pass  a:www.shop.example of shop.example matches
DNS terms 5 of 10, void lookups 0 of 2, queries 7, T
`
	if d := cmp.Diff(want, untimed(out)); d != "" || status != 0 || stderr != "" {
		t.Errorf("exit %d, %q: %s", status, stderr, d)
	}
	_, out, _ = spfRun(t, "", "explain", "void.example", "--json")
	var got struct {
		Outcome struct{ Result string }
		Steps   []struct{ Step string }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Outcome.Result != "permerror" || len(got.Steps) != 1+1+3*3+1 {
		t.Errorf("%v, %d steps: %s", err, len(got.Steps), out)
	}
	_, out, _ = spfRun(t, "", "explain", "redirect.example", "--record=v=spf1 redirect=strict.example")
	if !strings.Contains(out, "\n  redirect=strict.example\n    TXT strict.example: 1 record") {
		t.Error(out)
	}
}

func TestSPFLint(t *testing.T) {
	status, out, _ := spfRun(t, "", "lint", "messy.example")
	want := `warning  messy.example: ip4:10.0.0.0/8: no mail comes from this network over the Internet
warning  messy.example: ip4:10.0.0.0/8: a very large network
warning  messy.example: ip4:10.0.0.0/8: the network is in the record of messy.example already
warning  messy.example: a:gone.example: DNS has nothing for gone.example: a void lookup, 2 are allowed  [RFC 7208, 4.6.4]
warning  messy.example: ptr: ptr is slow and unreliable, and should not be used  [RFC 7208, 5.5]
warning  messy.example: +all: authorises every host of the Internet  [RFC 7208, 8.3]
warning  messy.example: mx: never evaluated, because it stands after all  [RFC 7208, 5.1]
messy.example: 0 errors, 7 warnings; 2 of 10 lookups, 1 of 2 void
`
	if d := cmp.Diff(want, out); d != "" || status != 0 {
		t.Errorf("exit %d: %s", status, d)
	}
	if status, out, _ = spfRun(t, "", "lint", "void.example", "--json"); status != exitFailed || !json.Valid([]byte(out)) {
		t.Errorf("exit %d: %s", status, out)
	}
}

func TestSPFTree(t *testing.T) {
	status, out, _ := spfRun(t, "", "tree", "shop.example")
	want := `shop.example  6 lookups
├─ include:_spf.mailhost.example  3 lookups
│  ├─ include:_n1.mailhost.example  1 lookup, 2 networks
│  └─ include:_n2.mailhost.example  1 lookup, 1 network
├─ mx  1 lookup, 1 network
├─ a:www.shop.example  1 lookup, 2 networks
└─ exists:%{ir}.%{v}.list.example  1 lookup, depends on the message

lookups    6 of 10 in the worst case, within the limit
void       0 of 2
authorised 6 networks: 258 IPv4 and about 2^80 IPv6 addresses
`
	if d := cmp.Diff(want, out); d != "" || status != 0 {
		t.Errorf("exit %d: %s", status, d)
	}
	if status, out, _ = spfRun(t, "", "tree", "shop.example", "--json"); status != 0 || !json.Valid([]byte(out)) {
		t.Errorf("exit %d: %s", status, out)
	}
	if status, out, _ = spfRun(t, "", "tree", "none.example"); status != exitFailed || !strings.HasPrefix(out, "none.example  no such name\n") {
		t.Errorf("exit %d: %s", status, out)
	}
}
