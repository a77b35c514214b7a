// Srsd is an SRS-capable mail forwarding relay. "srsd help" lists its commands.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// commands is the command line; each command has a file of its own.
type commands struct {
	Serve  serveCmd  `cmd:"" help:"Run the relay."`
	Check  checkCmd  `cmd:"" help:"Check configuration, aliases and secrets, without starting anything."`
	Demo   demoCmd   `cmd:"" help:"Show the whole story on loopback in ten seconds: pass, forgery, deferral, bounce."`
	SRS    srsCmd    `cmd:"" name:"srs" help:"Rewrite, reverse and explain SRS addresses."`
	SPF    spfCmd    `cmd:"" name:"spf" help:"Check, explain and lint SPF records."`
	Alias  aliasCmd  `cmd:"" help:"Resolve and lint aliases."`
	Queue  queueCmd  `cmd:"" help:"List and edit the queue of the running relay."`
	Import importCmd `cmd:"" help:"Write an srsd configuration from another program's."`
	Help   helpCmd   `cmd:"" help:"Explain a command."`
}

// A console is where a command reads and writes: results to Out, errors and
// logs to Err.
type console struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// exitStatus is an error that ends the program with a status and says nothing
// more: the command has said what there is to say.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Exit statuses of every command.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(os.Args[1:], console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// run is the whole program: it returns the exit status.
func run(args []string, c console) (status int) {
	var cmds commands
	ended := false
	parser, err := kong.New(&cmds, kong.Name("srsd"), kong.Bind(c), kong.Writers(c.Out, c.Err),
		kong.Description("An SRS-capable mail forwarding relay."),
		kong.Exit(func(n int) { ended, status = true, n }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(c.Err, "srsd:", err)
		return exitUsage
	}
	ctx, err := parser.Parse(args)
	if ended {
		return status
	}
	if err != nil {
		fmt.Fprintf(c.Err, "srsd: %v\nsrsd: \"srsd help\" lists the commands and their flags\n", err)
		return exitUsage
	}
	err = ctx.Run(c)
	var code exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	default:
		fmt.Fprintln(c.Err, "srsd:", err)
		return exitFailed
	}
}

// helpCmd is "srsd help [COMMAND…]", the same as "srsd COMMAND --help".
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command to explain."`
}

func (h helpCmd) Run(c console) error {
	if status := run(append(h.Command, "--help"), c); status != 0 {
		return exitStatus(status)
	}
	return nil
}
