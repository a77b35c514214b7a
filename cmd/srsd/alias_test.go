package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"srsd/internal/mailtest"
)

// aliasHouse writes a configuration with these aliases and returns its path.
func aliasHouse(t *testing.T, aliases string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"secrets": "srsd-keys 1\nk1 the-secret-of-the-tests\n",
		"aliases": aliases,
		"srsd.toml": `hostname = "mx.alumni.example"
[receive]
listen = ["127.0.0.1:0"]
[forward]
domains = ["alumni.example", "club.example"]
aliases = ["aliases"]
postmaster = "root@target.example"
[srs]
domain = "srs.alumni.example"
secrets = "secrets"
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "srsd.toml")
}

func aliasRun(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(append([]string{"alias"}, args...), console{In: strings.NewReader(""), Out: &out, Err: &errs})
	return status, out.String(), errs.String()
}

func TestAliasResolve(t *testing.T) {
	config := aliasHouse(t, "jo@alumni.example: jo.private@target.example\nboard: jo@alumni.example, kim@target.example\nhole: :blackhole:\n")
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"jo@alumni.example", "--from", "<>"}, 0,
			"jo@alumni.example is an alias: 250 2.1.5 OK\n  jo@alumni.example → jo.private@target.example\n      from <>\n"},
		{[]string{"<board@club.example>", "--from", "kim@club.example"}, 0,
			"<board@club.example> is an alias: 250 2.1.5 OK\n  <board@club.example> → jo@alumni.example → jo.private@target.example\n      from <kim@club.example>\n" +
				"  <board@club.example> → kim@target.example\n      from <kim@club.example>\n"},
		{[]string{"postmaster", "--from="}, 0, "postmaster is the postmaster: 250 2.1.5 OK\n  postmaster → root@target.example\n      from <>\n"},
		{[]string{"hole@club.example"}, 0, "hole@club.example is a black hole, mail to it is accepted and dropped: 250 2.1.5 OK\n"},
		{[]string{"nobody@alumni.example"}, 1, "nobody@alumni.example is refused: 550 5.1.1 no such address here\n  because: forward: no such alias\n"},
		{[]string{"jo@elsewhere.example"}, 1, "jo@elsewhere.example is refused: 550 5.7.1 relaying denied: this domain is not served here\n"},
	} {
		status, out, stderr := aliasRun(append([]string{"resolve", "-c", config}, c.args...)...)
		if diff := cmp.Diff(c.want, out); diff != "" || status != c.status || stderr != "" {
			t.Errorf("%q: exit %d, %q (-want +got)\n%s", c.args, status, stderr, diff)
		}
	}
	if status, _, stderr := aliasRun("resolve", "-c", config, "no address"); status != exitFailed || stderr == "" {
		t.Errorf("no address: exit %d, %q", status, stderr)
	}
}

// TestAliasResolveBounce follows a rewritten sender on its way home.
func TestAliasResolveBounce(t *testing.T) {
	config := aliasHouse(t, "jo: jo.private@target.example\n")
	resolve := func(args ...string) (r resolved) {
		t.Helper()
		status, out, stderr := aliasRun(append([]string{"resolve", "--json", "-c", config}, args...)...)
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%q: exit %d, %q, %q: %v", args, status, out, stderr, err)
		}
		return r
	}
	there := resolve("jo@alumni.example", "--from", "ann@sender.example")
	if len(there.Routes) != 1 || there.Kind != "alias" || there.Routes[0].Target != "jo.private@target.example" || !strings.HasPrefix(there.Routes[0].ReversePath, "SRS0=") {
		t.Fatalf("%+v", there)
	}
	back := resolve(there.Routes[0].ReversePath)
	want := resolved{Recipient: there.Routes[0].ReversePath, Kind: "srs", Reply: "250 2.1.5 OK", Routes: []resolvedRoute{{Target: "ann@sender.example", Via: []string{}}}}
	if diff := cmp.Diff(want, back); diff != "" {
		t.Error(diff)
	}
	if r := resolve(there.Routes[0].ReversePath, "--from", "spam@evil.example"); r.Kind != "refused" || len(r.Routes) != 0 {
		t.Errorf("from a stranger: %+v", r)
	}
	if r := resolve("jo@alumni.example", "--from", "forged@sender.example", "--spf", "fail"); r.Routes[0].ReversePath != "forged@sender.example" {
		t.Errorf("SPF fail is signed: %+v", r)
	}
}

func TestAliasLint(t *testing.T) {
	config := aliasHouse(t, "jo: jo@target.example\nann@elsewhere.example: ann@target.example\n")
	dir := filepath.Dir(config)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good", "a@x.example: b@x.example\nb@x.example: c@y.example\n")
	bad := write("bad", "a: |/bin/sh\nb: c\n")
	virtual := write("virtual", "jo@x.example jo@y.example # hm\n")
	members := write("members", "list@x.example: :include:list\n")
	if err := os.Mkdir(filepath.Join(dir, "include"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("include/list", "jo@y.example\n")
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{good}, 0, ""},
		{[]string{good, bad}, 1, "DIR/bad:1:4: error: commands are not run here: srsd is a relay and has no users to run them for\nDIR/bad:2:4: error: there is no alias c@x.example, and srsd has no mailboxes\n"},
		{[]string{"-c", config}, 0, "DIR/aliases:2:1: warning: elsewhere.example is not in forward.domains: no mail will come here\n"},
		{[]string{"-c", config, good}, 0, "DIR/good:1:1: warning: x.example is not in forward.domains: no mail will come here\nDIR/good:2:1: warning: x.example is not in forward.domains: no mail will come here\n"},
		{[]string{"--postfix", virtual}, 0, "DIR/virtual:1:27: warning: # starts a comment here; in Postfix only at the start of a line\n"},
		{[]string{virtual}, 0, ""},
		{[]string{members}, 1, "DIR/members:1:17: error: :include: reads only below forward.include_dir, and none is set\n"},
		{[]string{members, "--include-dir", filepath.Join(dir, "include")}, 0, ""},
		{[]string{filepath.Join(dir, "none")}, 1, "DIR/none:1:1: error: cannot be read: no such file or directory\n"},
	} {
		status, out, stderr := aliasRun(append([]string{"lint"}, c.args...)...)
		if diff := cmp.Diff(c.want, strings.ReplaceAll(out, dir, "DIR")); diff != "" || status != c.status || stderr != "" {
			t.Errorf("%q: exit %d, %q (-want +got)\n%s", c.args, status, stderr, diff)
		}
	}
}

func TestAliasLintDNS(t *testing.T) {
	dns, err := mailtest.NewDNS("" +
		"good.example MX 10 mx.good.example\n" +
		"null.example MX 0 .\n" +
		"bare.example A 127.0.0.1\n" +
		"empty.example TXT nothing\n" +
		"ours.example MX 10 other.example\nours.example MX 20 MX.Alumni.Example\n" +
		"broken.example SERVFAIL MX\n")
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	config := aliasHouse(t, "a: a@good.example\nb: b@null.example\nc: c@bare.example\nd: d@empty.example\ne: e@ours.example, again@ours.example\nf: f@broken.example\ng: g@gone.example\nh: h@[127.0.0.1]\n")
	f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "[dns]\nservers = [%q]\n", dns.Addr())
	f.Close()
	status, out, stderr := aliasRun("lint", "--dns", "-c", config)
	want := `DIR/aliases:2:1: error: null.example takes no mail: it has a null MX
DIR/aliases:3:1: warning: bare.example has no MX: its address stands in for one
DIR/aliases:4:1: error: empty.example has neither an MX nor an address
DIR/aliases:5:1: error: ours.example has this host as its MX, and is not in forward.domains: mail to it would go round
DIR/aliases:6:1: warning: broken.example: the DNS gives no answer: REASON
DIR/aliases:7:1: error: gone.example does not exist
`
	got := strings.ReplaceAll(out, filepath.Dir(config), "DIR")
	if i := strings.Index(got, "no answer: "); i > 0 {
		end := strings.IndexByte(got[i:], '\n')
		got = got[:i] + "no answer: REASON" + got[i+end:]
	}
	if diff := cmp.Diff(want, got); diff != "" || status != 1 {
		t.Errorf("exit %d, %q (-want +got)\n%s", status, stderr, diff)
	}
}
