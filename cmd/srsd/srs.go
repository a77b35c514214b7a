package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"srsd/internal/relay"
	"srsd/srs"
)

type srsCmd struct {
	Forward srsForwardCmd `cmd:"" help:"Rewrite a reverse-path as forwarded mail carries it."`
	Reverse srsReverseCmd `cmd:"" help:"Verify an SRS address and print where it leads; exit 1 with the reason where it is forged, expired or malformed."`
	Explain srsExplainCmd `cmd:"" help:"Show every field of an SRS address, its age, the key that signed it, and the check that refuses it."`
	Keygen  srsKeygenCmd  `cmd:"" help:"Print a new secrets file."`
}

// srsFlags choose the rewriter: the flags alone where they name domain and
// secrets, else the configuration, with the flags on top.
type srsFlags struct {
	Address string `arg:"" help:"The address, as SMTP writes it."`
	Config  string `short:"c" placeholder:"FILE" help:"The configuration, where --domain and --secrets do not say it all."`
	Domain  string `placeholder:"D" help:"The SRS domain."`
	Secrets string `placeholder:"FILE" help:"The secrets file."`
	Format  string `enum:"srsd,classic," default:"" placeholder:"FORMAT" help:"How addresses are signed: srsd or classic; by default srsd, and reverse takes both."`
	Time    *int64 `placeholder:"UNIX" help:"The time in seconds since 1970, instead of now."`
	JSON    bool   `help:"Print one JSON object."`
}

// rewriter is the one that address belongs to.
func (f srsFlags) rewriter() (*srs.Rewriter, error) {
	r, err := f.configured()
	if err != nil {
		return nil, err
	}
	if f.Format != "" {
		if err := r.Format.UnmarshalText([]byte(f.Format)); err != nil {
			return nil, err
		}
		r.Accept = nil
	}
	return r, r.Validate()
}

func (f srsFlags) now() time.Time {
	if f.Time != nil {
		return time.Unix(*f.Time, 0)
	}
	return time.Now()
}

func (f srsFlags) configured() (*srs.Rewriter, error) {
	if f.Domain != "" && f.Secrets != "" && f.Config == "" {
		keys, err := srs.LoadKeys(f.Secrets)
		return &srs.Rewriter{Domain: f.Domain, Keys: keys, Accept: []srs.Format{srs.FormatClassic}, Now: f.now}, err
	}
	path, err := relay.FindConfig(f.Config)
	if err != nil {
		return nil, fmt.Errorf("%w, or name --domain and --secrets", err)
	}
	cfg, err := relay.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	if f.Secrets != "" {
		cfg.SRS.Secrets = f.Secrets
	}
	rewriters, err := cfg.Rewriters(f.now)
	if err != nil {
		return nil, err
	}
	domain := f.Domain
	if domain == "" {
		domain = f.Address[strings.LastIndexByte(f.Address, '@')+1:]
	}
	if r, ok := rewriters[strings.ToLower(domain)]; ok {
		return r, nil
	}
	r := rewriters[strings.ToLower(cfg.SRS.Domain)]
	if f.Domain != "" {
		r.Domain = f.Domain
	}
	return r, nil
}

type srsForwardCmd struct{ srsFlags }

func (cmd srsForwardCmd) Run(c console) error {
	r, err := cmd.rewriter()
	if err != nil {
		return err
	}
	out, err := r.Forward(cmd.Address)
	return cmd.answer(c, "forward", out, err)
}

type srsReverseCmd struct{ srsFlags }

func (cmd srsReverseCmd) Run(c console) error {
	r, err := cmd.rewriter()
	if err != nil {
		return err
	}
	out, err := r.Reverse(cmd.Address)
	return cmd.answer(c, "reverse", out, err)
}

// answer prints a result; an error goes to stderr, and with --json into the
// object too.
func (f srsFlags) answer(c console, key, out string, err error) error {
	if !f.JSON {
		if err == nil {
			fmt.Fprintln(c.Out, out)
		}
		return err
	}
	object := map[string]string{"address": f.Address, key: out}
	if err != nil {
		object["error"] = err.Error()
	}
	if e := printJSON(c.Out, object); e != nil {
		return e
	}
	return err
}

type srsExplainCmd struct{ srsFlags }

func (cmd srsExplainCmd) Run(c console) error {
	r, err := cmd.rewriter()
	if err != nil {
		return err
	}
	e := r.Explain(cmd.Address)
	if cmd.JSON {
		return printJSON(c.Out, e)
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	for _, row := range explainRows(e, cmd.now()) {
		if row[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
		}
	}
	return w.Flush()
}

// explainRows are an explanation for people. Remote text in it is quoted where
// a terminal could mind.
func explainRows(e srs.Explanation, now time.Time) [][2]string {
	verdict := "valid"
	if !e.Valid {
		verdict = "refused: " + e.Error
	}
	host, local := "sender's domain", "sender's local part"
	switch e.Kind {
	case "SRS1":
		host, local = "first forwarder", "inner text"
	case "token":
		host, local = "", "id"
	}
	age := ""
	if e.Timestamp != "" {
		written := now.UTC().AddDate(0, 0, -e.AgeDays)
		age = fmt.Sprintf("%s, %s, %s", printable(e.Timestamp), written.Format("2 January 2006"), days(e.AgeDays))
	}
	leads := ""
	if e.Reverse != "" {
		leads = printable(e.Reverse)
	}
	return [][2]string{
		{"verdict", verdict},
		{"kind", e.Kind},
		{"signed by", e.Key},
		{"format", e.Format},
		{"hash", printable(e.Hash)},
		{"timestamp", age},
		{host, printable(e.Domain)},
		{local, printable(e.Local)},
		{"leads to", leads},
		{"next hop", printable(e.NextHop)},
	}
}

func days(n int) string {
	switch {
	case n == 0:
		return "today"
	case n == 1:
		return "yesterday"
	case n == -1:
		return "one day ahead"
	case n < 0:
		return fmt.Sprintf("%d days ahead", -n)
	}
	return fmt.Sprintf("%d days old", n)
}

// printable is s, as a Go string where it holds what a terminal could mind.
func printable(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

type srsKeygenCmd struct {
	ID   string `placeholder:"ID" help:"The key's id; by default the day, as in k20260131."`
	Line bool   `help:"Print the key's line only, to be put on top of the keys of a file that exists."`
}

func (cmd srsKeygenCmd) Run(c console) error {
	id := cmd.ID
	if id == "" {
		id = time.Now().UTC().Format("k20060102")
	}
	const header = "srsd-keys 1\n"
	line := id + " " + rand.Text() + rand.Text() + "\n"
	if _, err := srs.ParseKeys([]byte(header + line)); err != nil {
		return err
	}
	if !cmd.Line {
		line = header + line
	}
	_, err := io.WriteString(c.Out, line)
	return err
}
