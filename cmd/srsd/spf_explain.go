package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"srsd/spf"
)

type spfExplainCmd struct {
	Domain string `arg:"" optional:"" help:"The domain, where there is no --from."`
	spfClient
	spfDNS
}

// nobody is the client that explain takes where none is given: an address for
// documentation, which no sane record lists.
const nobody = "192.0.2.1"

func (cmd spfExplainCmd) Run(c console) error {
	cmd.IP = cmp.Or(cmd.IP, nobody)
	if cmd.From == "" && cmd.Domain != "" {
		cmd.From = "postmaster@" + cmd.Domain
	}
	ip, missing := cmd.client()
	if missing != "" {
		fmt.Fprintln(c.Err, "srsd:", missing)
		return exitStatus(exitUsage)
	}
	e := explainer{out: c.Out, paint: newPaint(c.Out)}
	host, _ := os.Hostname()
	checker := spf.Checker{Resolver: cmd.resolver(cmd.domain()), StrictVoid: cmd.StrictVoid, Receiver: host, Trace: e.step}
	if cmd.JSON {
		steps := []spfStep{}
		checker.Trace = func(ev spf.Event) { steps = append(steps, newSPFStep(ev)) }
		o := checker.Check(context.Background(), ip, cmd.Helo, bare(cmd.From))
		return printJSON(c.Out, struct {
			Outcome spfOutcome `json:"outcome"`
			Steps   []spfStep  `json:"steps"`
		}{newSPFOutcome(o, ""), steps})
	}
	fmt.Fprintf(c.Out, "client %s, HELO %s, reverse-path <%s>\n\n", ip, cmp.Or(visible(cmd.Helo), "unknown"), visible(bare(cmd.From)))
	start := time.Now()
	o := checker.Check(context.Background(), ip, cmd.Helo, bare(cmd.From))
	e.end(o, time.Since(start))
	return nil
}

// An explainer prints the steps of a check as they happen.
type explainer struct {
	out     io.Writer
	paint   paint
	term    string    // looked at, not yet printed
	inTerm  [128]bool // by depth: queries belong to a term, not to the record
	queries int
}

func (e *explainer) line(indent int, format string, args ...any) {
	fmt.Fprintf(e.out, "%*s%s\n", indent, "", fmt.Sprintf(format, args...))
}

func (e *explainer) step(ev spf.Event) {
	depth := min(ev.Depth, len(e.inTerm)-1)
	indent := 4 * depth
	if e.term != "" && ev.Step != spf.StepMatch {
		above := indent
		if !e.inTerm[depth] {
			above -= 4 // the first step of an included record
		}
		e.line(above+2, "%s", e.term)
		e.term = ""
	}
	switch ev.Step {
	case spf.StepRecord:
		e.line(indent, "%s", visible(ev.Answer[0]))
	case spf.StepTerm:
		e.term = visible(ev.Term)
		if ev.Target != "" && !strings.HasSuffix(ev.Term, ":"+ev.Target) && !strings.HasSuffix(ev.Term, "="+ev.Target) {
			e.term += " → " + ev.Target
		}
		e.inTerm[depth] = true
	case spf.StepQuery:
		if e.inTerm[depth] {
			indent += 4
		}
		e.queries++
		e.line(indent, "%s", e.paint.in(faint, query(ev)))
	case spf.StepMatch:
		e.match(indent, ev)
		e.inTerm[depth] = false
	case spf.StepResult:
		e.inTerm[depth] = false
		if depth > 0 {
			e.line(indent, "%s: %s", visible(ev.Domain), e.paint.result(spf.Result(ev.Verdict)))
		}
	}
}

func (e *explainer) match(indent int, ev spf.Event) {
	verdict := ev.Verdict
	if ev.Verdict != "no match" {
		verdict = e.paint.result(spf.Result(ev.Verdict))
	}
	if e.term != "" {
		e.line(indent+2, "%s: %s", e.term, verdict)
		e.term = ""
		return
	}
	e.line(indent+2, "%s: %s  (DNS terms %d of 10, void lookups %d of 2)", visible(ev.Term), verdict, ev.Lookups, ev.VoidLookups)
}

func query(ev spf.Event) string {
	s := "no records"
	switch {
	case ev.Err != nil:
		s = visible(ev.Err.Error())
	case ev.Type == "TXT" && !ev.Void:
		s = plural(len(ev.Answer), "record")
	case !ev.Void:
		s = visible(strings.Join(ev.Answer, ", "))
	case ev.NXDomain:
		s = "no such name"
	}
	return fmt.Sprintf("%s %s: %s  %s", ev.Type, visible(ev.Name), s, took(ev.Took))
}

func took(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

func (e *explainer) end(o spf.Outcome, d time.Duration) {
	fmt.Fprintf(e.out, "\n%s  %s\n", e.paint.result(o.Result), o.Reason)
	if o.Explanation != "" {
		fmt.Fprintf(e.out, "%s says: %s\n", o.Domain, o.Explanation)
	}
	fmt.Fprintf(e.out, "DNS terms %d of 10, void lookups %d of 2, queries %d, %s\n", o.Lookups, o.VoidLookups, e.queries, took(d))
}

// spfStep is an event as JSON.
type spfStep struct {
	Step        string   `json:"step"`
	Depth       int      `json:"depth"`
	Domain      string   `json:"domain,omitempty"`
	Term        string   `json:"term,omitempty"`
	Target      string   `json:"target,omitempty"`
	Type        string   `json:"type,omitempty"`
	Name        string   `json:"name,omitempty"`
	Answer      []string `json:"answer,omitempty"`
	NXDomain    bool     `json:"nxdomain,omitempty"`
	Void        bool     `json:"void,omitempty"`
	Error       string   `json:"error,omitempty"`
	Micros      int64    `json:"microseconds,omitempty"`
	Verdict     string   `json:"verdict,omitempty"`
	Reason      string   `json:"reason,omitempty"`
	Lookups     int      `json:"lookups"`
	VoidLookups int      `json:"void_lookups"`
}

func newSPFStep(ev spf.Event) spfStep {
	s := spfStep{ev.Step, ev.Depth, ev.Domain, ev.Term, ev.Target, ev.Type, ev.Name, nil, ev.NXDomain, ev.Void,
		"", ev.Took.Microseconds(), ev.Verdict, ev.Reason, ev.Lookups, ev.VoidLookups}
	for _, a := range ev.Answer {
		s.Answer = append(s.Answer, visible(a))
	}
	if ev.Err != nil {
		s.Error = ev.Err.Error()
	}
	return s
}
