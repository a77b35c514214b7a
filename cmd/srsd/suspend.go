package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/internal/suspend"
)

type aliasSuspendedCmd struct {
	queueRelay
	JSON bool `name:"json" help:"Write a JSON array."`
}

// Run lists what the running relay has suspended.
func (a aliasSuspendedCmd) Run(c console) error {
	records, err := a.ask("suspend/list", struct{}{})
	if err != nil {
		return err
	}
	if a.JSON {
		return json.NewEncoder(c.Out).Encode(records)
	}
	for _, r := range records {
		fmt.Fprintf(c.Out, "%s  suspended %s\n  mail for %s\n  the last of %s: %s\n", r.Target, r.Since.Local().Format(time.DateTime),
			list(r.Aliases), counted(max(r.Refused.Count, r.Reported.Count), "bounce"), r.Reason)
	}
	_, err = fmt.Fprintln(c.Out, counted(len(records), "suspended target"))
	return err
}

// ask asks the running relay for records.
func (q queueRelay) ask(verb string, args any) ([]suspend.Record, error) {
	client, err := q.dial()
	if err != nil {
		return nil, err
	}
	records := []suspend.Record{}
	err = client.Do(context.Background(), verb, args, func(line json.RawMessage) error {
		var r suspend.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		records = append(records, r)
		return nil
	})
	return records, err
}

func list(addresses []envelope.Address) string {
	var names []string
	for _, a := range addresses {
		names = append(names, a.String())
	}
	return strings.Join(names, ", ")
}

type aliasResumeCmd struct {
	Address string `arg:"" help:"The alias or the target."`
	queueRelay
	JSON bool `name:"json" help:"Write what was resumed as a JSON array."`
}

// Run ends suspensions; status 1 where there are none for the address.
func (a aliasResumeCmd) Run(c console) error {
	address, err := envelope.ParseAddress(strings.Trim(a.Address, "<>"))
	if err != nil {
		fmt.Fprintf(c.Err, "srsd: %s: %v\n", a.Address, err)
		return exitStatus(exitUsage)
	}
	records, err := a.ask("suspend/resume", address)
	if err != nil {
		return err
	}
	if a.JSON {
		return json.NewEncoder(c.Out).Encode(records)
	}
	for _, r := range records {
		fmt.Fprintf(c.Out, "%s takes mail for %s again\n", r.Target, list(r.Aliases))
	}
	return nil
}
