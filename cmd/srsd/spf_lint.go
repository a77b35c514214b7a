package main

import (
	"context"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"srsd/spf/spflint"
)

// inspectTime is how long lint and tree may take.
const inspectTime = time.Minute

type spfLintCmd struct {
	Domain string `arg:"" help:"The domain whose policy is read."`
	spfDNS
}

func (cmd spfLintCmd) Run(c console) error {
	rep := inspect(cmd.Domain, cmd.spfDNS)
	if cmd.JSON {
		if rep.Findings == nil {
			rep.Findings = []spflint.Finding{}
		}
		if err := printJSON(c.Out, rep); err != nil {
			return err
		}
	} else {
		printFindings(c.Out, rep)
	}
	if rep.Errors() > 0 {
		return exitStatus(exitFailed)
	}
	return nil
}

func inspect(domain string, f spfDNS) spflint.Report {
	ctx, cancel := context.WithTimeout(context.Background(), inspectTime)
	defer cancel()
	domain = strings.TrimSuffix(domain, ".")
	return spflint.Inspect(ctx, spfDNS{DNS: f.DNS}.resolver(domain), domain, f.Record)
}

func printFindings(w io.Writer, rep spflint.Report) {
	p := newPaint(w)
	for _, f := range rep.Findings {
		colour := yellow
		if f.Severity == spflint.Error {
			colour = red
		}
		where := visible(f.Domain)
		if f.Term != "" {
			where += ": " + visible(f.Term)
		}
		section := ""
		if f.Section != "" {
			section = p.in(faint, "  [RFC 7208, "+f.Section+"]")
		}
		fmt.Fprintf(w, "%s  %s: %s%s\n", p.in(colour, fmt.Sprintf("%-7s", f.Severity)), where, visible(f.Text), section)
	}
	n := rep.Errors()
	fmt.Fprintf(w, "%s: %s, %s; %d of 10 lookups, %d of 2 void\n", visible(rep.Domain),
		plural(n, "error"), plural(len(rep.Findings)-n, "warning"), rep.Lookups, rep.VoidLookups)
}

type spfTreeCmd struct {
	Domain string `arg:"" help:"The domain whose policy is read."`
	spfDNS
}

func (cmd spfTreeCmd) Run(c console) error {
	rep := inspect(cmd.Domain, cmd.spfDNS)
	if cmd.JSON {
		return printJSON(c.Out, rep)
	}
	p := newPaint(c.Out)
	fmt.Fprintf(c.Out, "%s%s\n", visible(rep.Domain), details(p, rep.Tree))
	branches(c.Out, p, rep.Tree, "")
	verdict := p.in(green, "within the limit")
	switch {
	case rep.Lookups > 10:
		verdict = p.in(red, "over the limit")
	case rep.Lookups >= 8:
		verdict = p.in(yellow, "close to the limit")
	}
	fmt.Fprintf(c.Out, "\nlookups    %d of 10 in the worst case, %s\nvoid       %d of 2\n", rep.Lookups, verdict, rep.VoidLookups)
	if rep.Everybody {
		fmt.Fprintf(c.Out, "authorised %s\n", p.in(red, "everybody"))
	} else {
		fmt.Fprintf(c.Out, "authorised %s: %s IPv4 and %s IPv6 addresses\n", plural(rep.Networks, "network"), grouped(rep.Addresses4), grouped(rep.Addresses6))
	}
	if rep.Tree.Record == "" {
		return exitStatus(exitFailed)
	}
	return nil
}

func branches(w io.Writer, p paint, n *spflint.Node, indent string) {
	for i, c := range n.Children {
		branch, below := "├─ ", "│  "
		if i == len(n.Children)-1 {
			branch, below = "└─ ", "   "
		}
		fmt.Fprintf(w, "%s%s%s%s\n", indent, branch, visible(c.Term), details(p, c))
		branches(w, p, c, indent+below)
	}
}

// details are what stands behind a node's name.
func details(p paint, n *spflint.Node) string {
	var parts []string
	if n.Lookups > 0 {
		parts = append(parts, plural(n.Lookups, "lookup"))
	}
	if len(n.Networks) > 0 {
		parts = append(parts, plural(len(n.Networks), "network"))
	}
	if n.Domain == "" {
		parts = append(parts, "depends on the message")
	}
	if n.Problem != "" {
		parts = append(parts, p.in(red, n.Problem))
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, ", ")
}

// grouped is a number with commas, or as a power of two where it is too long.
func grouped(n *big.Int) string {
	s := n.String()
	if len(s) > 15 {
		return fmt.Sprintf("about 2^%d", n.BitLen()-1)
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
