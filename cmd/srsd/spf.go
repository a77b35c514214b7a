package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"srsd/internal/resolve"
	"srsd/spf"
	"srsd/spf/spflint"
)

type spfCmd struct {
	Check   spfCheckCmd   `cmd:"" help:"Check a client against the policy of a domain. Exit status: pass 0, fail 1, usage 2, softfail 3, neutral 4, none 5, temperror 6, permerror 7; with --batch 0, or 1 where a line was no question."`
	Explain spfExplainCmd `cmd:"" help:"Show a check step by step: each term, what DNS said and how long it took."`
	Lint    spfLintCmd    `cmd:"" help:"List what is wrong with a domain's policy, errors first; exit status 1 if there are errors."`
	Tree    spfTreeCmd    `cmd:"" help:"Show the tree of a domain's records, with its lookups and the addresses it authorises."`
}

// spfDNS are the flags of every command that asks the DNS.
type spfDNS struct {
	DNS    []string `name:"dns" placeholder:"HOST:PORT" help:"The DNS servers to ask; default: the system's."`
	Record string   `placeholder:"TXT" help:"Take this as the domain's record: to try one before it is published."`
	JSON   bool     `name:"json" help:"Print JSON."`
}

// resolver asks the servers, or takes the domain's record from --record.
func (f spfDNS) resolver(domain string) spf.Resolver {
	r := spf.Resolver(resolve.New(resolve.Config{Servers: f.DNS}))
	if f.Record != "" {
		r = spflint.WithRecord(r, domain, f.Record)
	}
	return r
}

// spfClient are the flags that say who sends what.
type spfClient struct {
	IP         string `name:"ip" placeholder:"IP" help:"The address of the client."`
	From       string `placeholder:"ADDRESS" help:"The reverse-path; without it the HELO name is checked."`
	Helo       string `placeholder:"NAME" help:"The name in HELO or EHLO."`
	StrictVoid bool   `help:"Count hosts that have addresses of the other family only as void lookups."`
}

// client checks the flags: a line about what is missing, or "".
func (f spfClient) client() (ip netip.Addr, missing string) {
	ip, err := netip.ParseAddr(f.IP)
	switch {
	case err != nil:
		return ip, "--ip needs the client's IP address"
	case f.From == "" && f.Helo == "":
		return ip, "--from or --helo is needed"
	}
	return ip, ""
}

// domain is the domain that is checked.
func (f spfClient) domain() string {
	from := bare(f.From)
	return cmp.Or(from[strings.LastIndexByte(from, '@')+1:], f.Helo)
}

// bare takes the angle brackets off a path.
func bare(path string) string {
	if strings.HasPrefix(path, "<") && strings.HasSuffix(path, ">") {
		return path[1 : len(path)-1]
	}
	return path
}

// spfStatus is the exit status of check for each result; 2 is left to usage errors.
func spfStatus(r spf.Result) error {
	status, ok := map[spf.Result]exitStatus{
		spf.Fail: 1, spf.SoftFail: 3, spf.Neutral: 4, spf.None: 5, spf.TempError: 6, spf.PermError: 7}[r]
	if !ok {
		return nil
	}
	return status
}

type spfCheckCmd struct {
	spfClient
	spfDNS
	Batch bool `help:"Read lines of IP, HELO name and reverse-path with tabs between them; print a JSON object a line."`
}

func (cmd spfCheckCmd) Run(c console) error {
	if cmd.Batch {
		return cmd.batch(c)
	}
	ip, missing := cmd.client()
	if missing != "" {
		fmt.Fprintln(c.Err, "srsd:", missing)
		return exitStatus(exitUsage)
	}
	host, _ := os.Hostname()
	checker := spf.Checker{Resolver: cmd.resolver(cmd.domain()), StrictVoid: cmd.StrictVoid, Receiver: host}
	o := checker.Check(context.Background(), ip, cmd.Helo, bare(cmd.From))
	field := o.ReceivedSPF(host, ip, cmd.Helo, bare(cmd.From))
	if cmd.JSON {
		if err := printJSON(c.Out, newSPFOutcome(o, field)); err != nil {
			return err
		}
		return spfStatus(o.Result)
	}
	p := newPaint(c.Out)
	fmt.Fprintf(c.Out, "%s  %s\n", p.result(o.Result), o.Reason)
	if o.Explanation != "" {
		fmt.Fprintf(c.Out, "%s says: %s\n", o.Domain, o.Explanation)
	}
	fmt.Fprintf(c.Out, "Received-SPF: %s\n", strings.ReplaceAll(field, "\r\n", "\n"))
	return spfStatus(o.Result)
}

// spfOutcome is an outcome as JSON.
type spfOutcome struct {
	Result      spf.Result `json:"result"`
	Identity    string     `json:"identity"`
	Domain      string     `json:"domain"`
	Mechanism   string     `json:"mechanism"`
	Reason      string     `json:"reason"`
	Explanation string     `json:"explanation"`
	Lookups     int        `json:"lookups"`
	VoidLookups int        `json:"void_lookups"`
	TTL         int        `json:"ttl"` // seconds
	ReceivedSPF string     `json:"received_spf,omitempty"`
}

func newSPFOutcome(o spf.Outcome, field string) spfOutcome {
	return spfOutcome{o.Result, o.Identity, o.Domain, o.Mechanism, o.Reason, o.Explanation,
		o.Lookups, o.VoidLookups, int(o.TTL.Seconds()), strings.ReplaceAll(field, "\r\n\t", " ")}
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
