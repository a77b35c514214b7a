package main

import (
	"fmt"

	"srsd/internal/relay"
)

type checkCmd struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration; default srsd.toml, then /etc/srsd/srsd.toml."`
}

// Run reads everything that serve reads, opens nothing, and says what is wrong.
func (k checkCmd) Run(c console) error {
	path, err := relay.FindConfig(k.Config)
	if err != nil {
		return err
	}
	config, err := relay.LoadConfig(path)
	if err != nil {
		return err
	}
	summary, err := relay.Check(config)
	if err != nil {
		return err
	}
	for _, w := range summary.Warnings {
		fmt.Fprintln(c.Err, w)
	}
	fmt.Fprintf(c.Out, "%s is good: %s, %s, SRS domain %s\n", path, counted(summary.Aliases, "alias entry"), counted(summary.Keys, "key"), config.SRS.Domain)
	return nil
}
