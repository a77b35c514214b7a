package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/relay"
	"srsd/internal/resolve"
	"srsd/srs"
)

type aliasCmd struct {
	Resolve aliasResolveCmd `cmd:"" help:"Show what the relay does with a recipient."`
	Lint    aliasLintCmd    `cmd:"" help:"Show every mistake in alias files as FILE:LINE:COLUMN."`

	Suspended aliasSuspendedCmd `cmd:"" help:"List the targets of the running relay that are suspended because their mailboxes are gone, with the last reply."`
	Resume    aliasResumeCmd    `cmd:"" help:"End the suspension of a target, or of all targets of an alias."`
}

type aliasResolveCmd struct {
	Address string  `arg:"" help:"The recipient."`
	Config  string  `short:"c" placeholder:"FILE" help:"Configuration; default srsd.toml, then /etc/srsd/srsd.toml."`
	From    *string `placeholder:"REVERSE-PATH" help:"The reverse-path of the mail, <> for the null one; default sender@example.org, and <> to an SRS address."`
	SPF     string  `name:"spf" default:"pass" placeholder:"RESULT" help:"The SPF result for the reverse-path."`
	JSON    bool    `name:"json" help:"Write one JSON object."`
}

// A resolved recipient, as --json shows it.
type resolved struct {
	Recipient string          `json:"recipient"`
	Kind      forward.Kind    `json:"kind"`
	Reply     string          `json:"reply"`
	Cause     string          `json:"cause,omitempty"`
	Routes    []resolvedRoute `json:"routes"`
}

type resolvedRoute struct {
	Target      string   `json:"target"`
	ReversePath string   `json:"reverse_path"`
	Via         []string `json:"via"`
}

// Run asks a router made of the configuration, which is what the relay asks.
func (r aliasResolveCmd) Run(c console) error {
	path, err := relay.FindConfig(r.Config)
	if err != nil {
		return err
	}
	config, err := relay.LoadConfig(path)
	if err != nil {
		return err
	}
	router, err := relay.NewRouter(config)
	if err != nil {
		return err
	}
	request, err := r.request()
	if err != nil {
		return err
	}
	decision := router.Route(context.Background(), request)
	show := newResolved(r.Address, decision)
	if r.JSON {
		err = json.NewEncoder(c.Out).Encode(show)
	} else {
		show.write(c.Out)
	}
	if err == nil && decision.Kind == forward.Refused {
		return exitStatus(exitFailed)
	}
	return err
}

// request is a RCPT such as strangers send, or a bounce to an SRS address.
func (r aliasResolveCmd) request() (forward.Request, error) {
	rcpt, err := envelope.ParseAddress(strings.Trim(r.Address, "<>"))
	if err != nil {
		return forward.Request{}, err
	}
	from := "sender@example.org"
	switch {
	case r.From != nil:
		from = strings.Trim(*r.From, "<>")
	case srs.IsSRS(rcpt.Local()):
		from = ""
	}
	request := forward.Request{Recipient: rcpt, SPF: r.SPF}
	if from != "" {
		request.ReversePath, err = envelope.ParseAddress(from)
	}
	return request, err
}

func newResolved(recipient string, d forward.Decision) resolved {
	show := resolved{Recipient: recipient, Kind: d.Kind, Reply: "250 2.1.5 OK", Routes: []resolvedRoute{}}
	if d.Kind == forward.Refused {
		show.Reply = d.Reply.String()
	}
	if d.Err != nil {
		show.Cause = d.Err.Error()
	}
	for _, route := range d.Routes {
		via := []string{}
		for _, a := range route.Via {
			via = append(via, a.String())
		}
		show.Routes = append(show.Routes, resolvedRoute{route.Target.String(), route.ReversePath.String(), via})
	}
	return show
}

// write shows every step of every route on a line of its own.
func (r resolved) write(w io.Writer) {
	fmt.Fprintf(w, "%s is %s: %s\n", r.Recipient, kindWords[r.Kind], r.Reply)
	if r.Cause != "" {
		fmt.Fprintf(w, "  because: %s\n", r.Cause)
	}
	for _, route := range r.Routes {
		steps := append(append([]string{r.Recipient}, route.Via...), route.Target)
		fmt.Fprintf(w, "  %s\n      from <%s>\n", strings.Join(steps, " → "), route.ReversePath)
	}
}

var kindWords = map[forward.Kind]string{
	forward.Alias:      "an alias",
	forward.SRS:        "an SRS address of ours",
	forward.Postmaster: "the postmaster",
	forward.Discard:    "a black hole, mail to it is accepted and dropped",
	forward.Refused:    "refused",
}

type aliasLintCmd struct {
	Files      []string `arg:"" optional:"" help:"Alias files; default those of the configuration."`
	Config     string   `short:"c" placeholder:"FILE" help:"Take domains, include_dir and limits from this configuration; without it, every domain that the files name is ours."`
	IncludeDir string   `placeholder:"DIR" help:"Where :include: may read."`
	Postfix    bool     `help:"Warn where Postfix reads the files in another way."`
	DNS        bool     `name:"dns" help:"Ask the DNS whether the targets' domains take mail."`
}

// Run loads the files as the relay does, and shows all that it has to say.
func (l aliasLintCmd) Run(c console) error {
	config, load, err := l.settings()
	if err != nil {
		return err
	}
	table, err := forward.Load(load)
	var list forward.ErrorList
	switch {
	case err == nil:
		list = table.Warnings()
	case !errors.As(err, &list):
		return err
	}
	if l.DNS && table != nil {
		resolver := resolve.New(resolve.Config{Servers: config.DNS.Servers, Timeout: time.Duration(config.DNS.Timeout)})
		list = append(list, lintDNS(context.Background(), resolver, table, config.Hostname)...)
	}
	for _, e := range list {
		fmt.Fprintln(c.Out, e.Error())
	}
	if list.Fatal() {
		return exitStatus(exitFailed)
	}
	return nil
}

// settings are what the flags say, and the configuration where there is one.
func (l aliasLintCmd) settings() (config relay.Config, load forward.Config, err error) {
	if l.Config != "" || len(l.Files) == 0 {
		path, err := relay.FindConfig(l.Config)
		if err != nil {
			return config, load, err
		}
		if config, err = relay.LoadConfig(path); err != nil {
			return config, load, err
		}
		load = config.TableConfig()
	}
	if len(l.Files) > 0 {
		load.Files = l.Files
	}
	if l.IncludeDir != "" {
		load.IncludeDir = l.IncludeDir
	}
	load.Postfix = l.Postfix
	return config, load, nil
}

// lintDNS asks for the mail exchangers of every domain that is a target's.
func lintDNS(ctx context.Context, r *resolve.Resolver, t *forward.Table, hostname string) forward.ErrorList {
	var list forward.ErrorList
	for domain, at := range t.TargetDomains() {
		if strings.HasPrefix(domain, "[") {
			continue
		}
		if at.Text, at.Warning = lintDomain(ctx, r, domain, hostname); at.Text != "" {
			list = append(list, at)
		}
	}
	return list
}

// lintDomain says why a domain takes no mail from us, "" where it does.
func lintDomain(ctx context.Context, r *resolve.Resolver, domain, hostname string) (text string, warning bool) {
	hosts, meta, err := r.MX(ctx, domain)
	switch {
	case err != nil:
		return fmt.Sprintf("%s: the DNS gives no answer: %v", domain, err), true
	case meta.NXDomain:
		return domain + " does not exist", false
	case len(hosts) == 1 && (hosts[0].Host == "" || hosts[0].Host == "."):
		return domain + " takes no mail: it has a null MX", false // RFC 7505
	}
	for _, h := range hosts {
		if strings.EqualFold(strings.TrimSuffix(h.Host, "."), hostname) {
			return domain + " has this host as its MX, and is not in forward.domains: mail to it would go round", false
		}
	}
	if len(hosts) > 0 {
		return "", false
	}
	for _, v6 := range []bool{false, true} {
		if addrs, _, err := r.Addr(ctx, domain, v6); err != nil || len(addrs) > 0 {
			return domain + " has no MX: its address stands in for one", true // RFC 5321, section 5.1
		}
	}
	return domain + " has neither an MX nor an address", false
}
