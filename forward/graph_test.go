package forward

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"srsd/envelope"
)

// A graph is an alias table as a mathematician sees it: what each name leads to.
// Names without an entry are targets.
type graph map[string][]string

// reach adds all targets of a name, and returns the length of the longest chain
// of aliases from it on; -1 where one goes round.
func (g graph) reach(name string, path []string, targets map[string]bool) int {
	if _, alias := g[name]; !alias {
		targets[name] = true
		return 0
	}
	if slices.Contains(path, name) {
		return -1
	}
	longest := 0
	for _, next := range g[name] {
		n := g.reach(next, append(path, name), targets)
		if n < 0 {
			return -1
		}
		longest = max(longest, n)
	}
	return longest + 1
}

func (g graph) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(g)) {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(g[name], ", "))
	}
	return b.String()
}

// TestGraphs compares Load and Expand with the plainest walk over any table of a
// few names: what goes round or is too deep does not load, all else leads to
// exactly the targets that can be reached.
func TestGraphs(t *testing.T) {
	const depth = 4
	rapid.Check(t, func(t *rapid.T) {
		g := graph{}
		n := rapid.IntRange(1, 8).Draw(t, "aliases")
		for i := range n {
			// Mostly downhill, or hardly any table would load.
			var list []string
			for range rapid.IntRange(1, 3).Draw(t, "targets") {
				to := rapid.IntRange(i+1, n+4).Draw(t, "target")
				if rapid.IntRange(0, 30).Draw(t, "uphill") == 0 {
					to = rapid.IntRange(0, n-1).Draw(t, "any")
				}
				list = append(list, nodeName(to, n))
			}
			g[nodeName(i, n)] = list
		}
		table, err := loadText(g.String(), Config{Domains: []string{"a.example"}, MaxDepth: depth})
		sound := true
		for name := range g {
			chain := g.reach(name, nil, map[string]bool{})
			sound = sound && 0 < chain && chain <= depth
		}
		if sound != (err == nil) {
			t.Fatalf("%vloads: %v", g, err)
		}
		if err != nil {
			return
		}
		back := map[string]map[string]bool{} // target to the names that lead there
		for name := range g {
			want := map[string]bool{}
			g.reach(name, nil, want)
			e, err := table.Expand(envelope.MustParse(name))
			got := map[string]bool{}
			for _, target := range e.Targets {
				to := target.Address.String()
				got[to] = true
				if back[to] == nil {
					back[to] = map[string]bool{}
				}
				back[to][name] = true
				if len(target.Via) >= depth {
					t.Fatalf("%v%s via %v", g, name, target.Via)
				}
			}
			if err != nil || !maps.Equal(want, got) || len(got) != len(e.Targets) {
				t.Fatalf("%v%s: %v, %v", g, name, e.Targets, err)
			}
		}
		for to, want := range back {
			got := map[string]bool{}
			for _, a := range table.AliasesOf(envelope.MustParse(to)) {
				got[a.String()] = true
			}
			if !maps.Equal(want, got) {
				t.Fatalf("%valiases of %s: %v", g, to, got)
			}
		}
	})
}

func nodeName(i, aliases int) string {
	if i < aliases {
		return fmt.Sprintf("a%d@a.example", i)
	}
	return fmt.Sprintf("t%d@t.example", i)
}

// loadText loads a table from a text.
func loadText(text string, c Config) (*Table, error) {
	t := newTable(c)
	p := newParser(t, c)
	p.out.Grow(2 * len(text))
	if s := p.open("aliases", text, false); s != nil {
		p.file(s)
	}
	p.table()
	p.check()
	if p.errs.Fatal() {
		return nil, p.errs
	}
	return t, nil
}

// TestAnyRegexpStaysInBounds lets a catch-all and regexps lead anywhere at all:
// whatever comes back comes back soon, and is an address somewhere else.
func TestAnyRegexpStaysInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		for i := range rapid.IntRange(1, 6).Draw(t, "regexps") {
			fmt.Fprintf(&b, "/%s%d?/: %s\n", rapid.SampledFrom([]string{"(.*)@.*", "(a+)(.*)@a.*", "(.)(.*)@(.*)"}).Draw(t, "regexp"), i,
				rapid.SampledFrom([]string{"$1", "a$1, b$1", "$1$1@a.example", "x$1@t.example", "$1@b.example, a$1", "$1+a@b.example"}).Draw(t, "to"))
		}
		b.WriteString("@b.example: @a.example\n")
		table, err := loadText(b.String(), Config{Domains: []string{"a.example", "b.example"}, MaxTargets: 10, MaxDepth: 5})
		if err != nil {
			return // the same regexp twice, or the catch-all back to itself
		}
		e, err := table.Expand(envelope.MustParse(rapid.SampledFrom([]string{"a@a.example", "aaa@b.example", "zzz@b.example"}).Draw(t, "rcpt")))
		if err != nil && !errors.Is(err, ErrLimit) && !errors.Is(err, ErrUnknown) {
			t.Fatalf("%s%v", &b, err)
		}
		if len(e.Targets) > 10 {
			t.Fatalf("%s%d targets", &b, len(e.Targets))
		}
		for _, target := range e.Targets {
			if table.Owns(target.Address.Domain()) {
				t.Fatalf("%s%v", &b, target)
			}
		}
	})
}
