package forward

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"srsd/envelope"
)

// FuzzParse loads any text as an alias file. What loads must hold to its word:
// every name expands within bounds to valid addresses outside of the table, and
// what does not load says where.
func FuzzParse(f *testing.F) {
	seeds, _ := filepath.Glob("testdata/errors/*.txtar")
	for _, path := range seeds {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, line := range strings.SplitAfter(string(a.Files[0].Data), "\n") {
			f.Add(line)
		}
		f.Add(string(a.Files[0].Data))
	}
	example, err := os.ReadFile("../aliases.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Fuzz(func(t *testing.T, text string) {
		c := Config{Domains: []string{"alumni.example", "club.example"}, SRSDomains: []string{"srs.alumni.example"}, MaxTargets: 5, MaxDepth: 3}
		table, err := loadText(text, c)
		list, _ := err.(ErrorList)
		for _, e := range list {
			if e.File != "aliases" || e.Line < 1 || e.Line > strings.Count(text, "\n")+1 || e.Col < 1 || e.Text == "" {
				t.Fatalf("%q: %+v", text, e)
			}
		}
		if err != nil {
			return
		}
		for e := range table.entries() {
			for domain := range table.domains {
				expandKey(t, table, e.key, domain)
			}
		}
	})
}

func expandKey(t *testing.T, table *Table, key, domain string) {
	local, own := cutKey(key)
	if own != "" {
		domain = own
	}
	if local == "" {
		local = "anyone"
	}
	rcpt, err := envelope.NewAddress(local, domain)
	if err != nil {
		return // a name may be too long for one of the domains
	}
	e, err := table.Expand(rcpt)
	if err != nil {
		// Only a regexp or a catch-all can lead where Load has not been.
		if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrLimit) {
			t.Fatalf("%v: %v", rcpt, err)
		}
		return
	}
	for _, target := range e.Targets {
		again, err := envelope.ParseAddress(target.Address.String())
		if err != nil || again != target.Address || table.Owns(target.Address.Domain()) {
			t.Fatalf("%v: target %v: %v", rcpt, target.Address, err)
		}
	}
	if !e.Reply.IsZero() && (e.Reply.Code < 400 || e.Reply.Code > 559 || strings.ContainsAny(e.Reply.Text, "\r\n")) {
		t.Fatalf("%v: %v", rcpt, e.Reply)
	}
}

// FuzzForwardFile parses any text as a forward file.
func FuzzForwardFile(f *testing.F) {
	f.Add("jo@t.example, ann@t.example # both\nkim\n")
	f.Add(":fail: 550 no, never\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseForward(text)
		if (len(list) == 0) != (err != nil) {
			t.Fatalf("%q: %v, %v", text, list, err)
		}
	})
}
