package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"srsd/spf"
)

// spfAnswer is a line of the answer of "spf check --batch".
type spfAnswer struct {
	Result      spf.Result `json:"result"` // "" where the line was no question
	Explanation string     `json:"explanation"`
	Error       string     `json:"error"` // why it is temperror or permerror
	Lookups     int        `json:"lookups"`
	VoidLookups int        `json:"void_lookups"`
}

// batch answers a question a line, at once: a program may wait for each answer.
func (cmd spfCheckCmd) batch(c console) error {
	resolver := cmd.spfDNS.resolver("")
	in := bufio.NewScanner(c.In)
	in.Buffer(nil, 1<<20)
	out := json.NewEncoder(c.Out)
	out.SetEscapeHTML(false)
	good := true
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSuffix(in.Text(), "\r")
		if line == "" {
			continue
		}
		a, err := cmd.answer(line, resolver)
		if err != nil {
			good, a.Error = false, fmt.Sprintf("line %d: %v", n, err)
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	if !good {
		return exitStatus(exitFailed)
	}
	return nil
}

func (cmd spfCheckCmd) answer(line string, r spf.Resolver) (spfAnswer, error) {
	fields := strings.Split(line, "\t")
	if len(fields) != 3 {
		return spfAnswer{}, fmt.Errorf("%d fields, not IP, HELO name and reverse-path with tabs between them", len(fields))
	}
	ip, err := netip.ParseAddr(fields[0])
	if err != nil {
		return spfAnswer{}, fmt.Errorf("%q is no IP address", fields[0])
	}
	helo, from := fields[1], bare(fields[2])
	if cmd.Record != "" {
		r = cmd.spfDNS.resolver(spfClient{From: from, Helo: helo}.domain())
	}
	checker := spf.Checker{Resolver: r, StrictVoid: cmd.StrictVoid}
	o := checker.Check(context.Background(), ip, helo, from)
	a := spfAnswer{Result: o.Result, Explanation: o.Explanation, Lookups: o.Lookups, VoidLookups: o.VoidLookups}
	if o.Result == spf.TempError || o.Result == spf.PermError {
		a.Error = o.Reason
	}
	return a, nil
}
