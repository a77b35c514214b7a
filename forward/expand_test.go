package forward

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"srsd/envelope"
)

// load loads a table of house's domains; files are pairs of name and text.
func load(t testing.TB, aliases string, files ...string) *Table {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "aliases", aliases)
	c := house(dir)
	for i := 0; i < len(files); i += 2 {
		write(t, dir, files[i], files[i+1])
		if strings.HasPrefix(files[i], "forward/") {
			c.Dir = filepath.Join(dir, "forward")
		}
	}
	table, err := Load(c)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// expanded is an expansion in words: targets with their ways, a reply, or an
// error.
func expanded(table *Table, rcpt string) string {
	e, err := table.Expand(envelope.MustParse(rcpt))
	switch {
	case errors.Is(err, ErrUnknown):
		return "unknown"
	case errors.Is(err, ErrLimit):
		return "limit"
	case errors.Is(err, ErrFile):
		return "file"
	case err != nil:
		return err.Error()
	case e.Discard:
		return "discard"
	case !e.Reply.IsZero():
		return e.Reply.String()
	}
	var targets []string
	for _, t := range e.Targets {
		s := t.Address.String()
		for _, via := range t.Via {
			s += " via " + via.String()
		}
		if !t.Owner.IsNull() {
			s += " owner " + t.Owner.String()
		}
		targets = append(targets, s)
	}
	return strings.Join(targets, ", ")
}

func TestExample(t *testing.T) {
	text, err := os.ReadFile("../aliases.example")
	if err != nil {
		t.Fatal(err)
	}
	// The one line that needs another file.
	aliases := strings.Replace(string(text), "# members@", "members@", 1)
	table := load(t, aliases, "include/members", "sam@home.example\nboard@alumni.example\n")
	if w := table.Warnings(); len(w) > 0 {
		t.Error(w)
	}
	for rcpt, want := range map[string]string{
		"jo@alumni.example":            "jo.public@provider.example",
		"JO@Alumni.Example":            "jo.public@provider.example",
		"jo+x@alumni.example":          "jo.public@provider.example",
		"ann@alumni.example":           "ann@provider.example, ann@home.example",
		"jo@club.example":              "secretary@provider.example",
		"info@alumni.example":          "office@provider.example",
		"sales@club.example":           "office@provider.example via info@club.example",
		"kim+lists@old.example":        "kim.lists@provider.example",
		"kim+x@old.example":            "kim@provider.example",
		`"kim public"@alumni.example`:  "kim@provider.example via kim@alumni.example",
		`"jo"@alumni.example`:          "jo.public@provider.example",
		"jo@old.example":               "jo.public@provider.example via jo@alumni.example",
		"nobody@old.example":           "unknown",
		"nobody@alumni.example":        "unknown",
		"class-of-1999@alumni.example": "class+1999@lists.example",
		"Class-Of-1999@alumni.example": "class+1999@lists.example",
		"class-of-99@alumni.example":   "unknown",
		"xclass-of-1999@old.example":   "unknown",
		"left@alumni.example":          "551 5.1.6 Lee has left; write to info@alumni.example",
		"moving@alumni.example":        "450 4.2.1 back on Monday",
		"noreply@alumni.example":       "discard",
		"postmaster@alumni.example":    "root@target.example",
		"postmaster@club.example":      "root@target.example",
		"postmaster":                   "root@target.example",
		"board@alumni.example": "jo.public@provider.example via jo@alumni.example, ann@provider.example via ann@alumni.example, " +
			"ann@home.example via ann@alumni.example, treasurer@bank.example",
		"choir@alumni.example": "jo.public@provider.example via jo@alumni.example owner owner-choir@alumni.example, " +
			"ann@provider.example via ann@alumni.example owner owner-choir@alumni.example, " +
			"ann@home.example via ann@alumni.example owner owner-choir@alumni.example, sam@home.example owner owner-choir@alumni.example",
		"members@alumni.example": "sam@home.example, jo.public@provider.example via board@alumni.example via jo@alumni.example, " +
			"ann@provider.example via board@alumni.example via ann@alumni.example, ann@home.example via board@alumni.example via ann@alumni.example, " +
			"treasurer@bank.example via board@alumni.example",
	} {
		if diff := cmp.Diff(want, expanded(table, rcpt)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", rcpt, diff)
		}
	}
}

// TestGuide loads the tables of the user's guide.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile("../docs/aliases.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```aliases\n")[1:]
	if len(blocks) != 2 {
		t.Errorf("%d tables", len(blocks))
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		load(t, block)
	}
	table := load(t, strings.Split(blocks[0], "```")[0])
	want := "jo@provider.example via jo.public@alumni.example owner owner-board@alumni.example, " +
		"ann@provider.example via ann.other@alumni.example owner owner-board@alumni.example, " +
		"ann@home.example via ann.other@alumni.example owner owner-board@alumni.example"
	if got := expanded(table, "board@alumni.example"); got != want {
		t.Error(got)
	}
}

// TestOrder takes away one entry after the other that would take an address, in
// the order of virtual(5).
func TestOrder(t *testing.T) {
	lines := []string{
		"jo+x@alumni.example: full-detail@t.example",
		"jo@alumni.example: full@t.example",
		"jo+x: detail@t.example",
		"jo: name@t.example",
		"/jo.*/: regexp@t.example",
		"/.*x.*/: second@t.example",
		"@alumni.example: catchall@t.example",
		"",
	}
	want := []string{"full-detail", "full", "detail", "name", "regexp", "second", "catchall"}
	for i := range lines {
		// The order of the lines does not matter, but for the regexps.
		rest := append([]string{}, lines[i:]...)
		rest = append(rest[len(rest)/2:], rest[:len(rest)/2]...)
		if i < 5 {
			rest = append([]string{lines[4]}, remove(rest, lines[4])...)
		}
		w := "unknown"
		if i < len(want) {
			w = want[i] + "@t.example"
		}
		if got := expanded(load(t, strings.Join(rest, "\n")+"\n"), "jo+x@alumni.example"); got != w {
			t.Errorf("%d: %s, want %s", i, got, w)
		}
	}
}

func remove(list []string, s string) (out []string) {
	for _, l := range list {
		if l != s {
			out = append(out, l)
		}
	}
	return out
}

func TestForms(t *testing.T) {
	for _, c := range []struct{ aliases, rcpt, want string }{
		{"\uFEFFjo: x@t.example\r\n# c\r\nann: a@t.example,\r\n  b@t.example\r\n", "ann@club.example", "a@t.example, b@t.example"},
		{"jo: x@t.example, \\\ny@t.example\nann: z@t.example\n", "jo@club.example", "x@t.example, y@t.example"},
		{"jo: x@t.example\n\n# between\n   # indented\n  , y@t.example\n", "jo@club.example", "x@t.example, y@t.example"},
		{"jo :x#1@t.example,#y@t.example #z\n", "jo@club.example", "x#1@t.example, #y@t.example"},
		{"a: x@T.example, X@t.EXAMPLE, b\nb: x@t.example, y@t.example\n", "a@club.example", "x@T.example, y@t.example via b@club.example"},
		{"a: b, c\nb: d\nc: d\nd: x@t.example\n", "a@club.example", "x@t.example via b@club.example via d@club.example"},
		{"a: gone, x@t.example\ngone: :fail:\n", "a@club.example", "x@t.example"},
		{"a: gone, hole\ngone: :fail:\nhole: :blackhole:\n", "a@club.example", "550 5.2.1 this address does not accept mail"},
		{"a: later, x@t.example\nlater: :defer:\n", "a@club.example", "450 4.2.1 this address does not accept mail at the moment"},
		{"a: error:550 5.1.6 moved\n", "a@club.example", "550 5.1.6 moved"},
		{"a: error:451 later,   alligator\n", "a@club.example", "451 4.2.1 later, alligator"},
		{"a: :FAIL: 5.7.1 not you\n", "a@club.example", "550 5.7.1 not you"},
		{"a@bücher.example: x@t.example\n", "a@xn--bcher-kva.example", "x@t.example"},
		{"jürgen: x@t.example\n", "JÜRGEN@club.example", "x@t.example"},
		{`"a@b": x@t.example` + "\n", `"a@b"@club.example`, "x@t.example"},
		{`"a@club.example": x@t.example` + "\n", "a@club.example", "unknown"},
		{`"|x": x@t.example` + "\n", `"|x"@club.example`, "x@t.example"},
		{"+jo: x@t.example\n", "+jo@club.example", "x@t.example"},
		{"jo: x@t.example\n", "+jo@club.example", "unknown"},
		{"@club.example: @t.example, x@t.example\n", `"a b"@club.example`, `"a b"@t.example, x@t.example`},
		{"@club.example: @t.example\n", "Mixed.Case+d@club.example", "Mixed.Case+d@t.example"},
		{"/^(.*)-(.*)@.*$/: $2.${1}x@t.example, cost$$@t.example\n", "a-b@club.example", "b.ax@t.example, cost$@t.example"},
		{"/^(.*)-x@.*$/: $1@t.example\n", `"a b-x"@club.example`, "unknown"},
		{"/^(.*)-x@.*$/: $1@t.example\n", "/etc/passwd-x@club.example", "unknown"},
		{"/^(.*)-x@.*$/: $1@t.example\n", "|sh-x@club.example", "unknown"},
		{"/^(.*)-x@.*$/: $1@t.example\n", "-x@club.example", "unknown"},
		{"/^(.*)-x@.*$/: $1\njo: x@t.example\n", "jo-x@club.example", "x@t.example via jo@club.example"},
		{"/^(.*)-x@.*$/: $1\njo: x@t.example\n", "ann-x@club.example", "unknown"},
		{"/^a(.*)@.*$/: a$1@club.example\n", "ab@club.example", "limit"},
		{"/^a(.*)@.*$/: aa$1\n", "ab@club.example", "limit"},
		{"/a|b@club.example/: x@t.example\n", "b@club.example", "x@t.example"},
		{"/a|b@club.example/: x@t.example\n", "bx@club.example", "unknown"},
		{"/.*/: x@t.example\n@club.example: x@t.example\n", "postmaster@club.example", "root@target.example"},
		{"postmaster: x@t.example\n", "postmaster@club.example", "x@t.example"},
		{"postmaster: x@t.example\n", "PostMaster", "x@t.example"},
		{"mailer-daemon: postmaster\n", "mailer-daemon@club.example", "root@target.example via postmaster@club.example"},
		{"l: a, b, x@t.example\nowner-l: :blackhole:\na: y@t.example\nb: z@t.example\nowner-b: :blackhole:\n", "l+d@club.example",
			"y@t.example via a@club.example owner owner-l@club.example, z@t.example via b@club.example owner owner-b@club.example, x@t.example owner owner-l@club.example"},
		{"l@club.example: x@t.example\nowner-l@alumni.example: :blackhole:\n", "l@club.example", "x@t.example"},
		{"club.example anything\njo@club.example x@t.example, kim\nkim\ty@t.example\n@old.example  @t.example\n/^r.*$/ z@t.example\n", "jo@club.example", "x@t.example, y@t.example via kim@club.example"},
		{"/^r-(.*)@.*$/ $1@t.example\n", "r-x@club.example", "x@t.example"},
		{"root: sys@t.example\nbin: root\n\"quoted name\": root\n", `"Quoted Name"@club.example`, "sys@t.example via root@club.example"},
	} {
		if diff := cmp.Diff(c.want, expanded(wide(t, c.aliases), c.rcpt)); diff != "" {
			t.Errorf("%q: %s (-want +got)\n%s", c.aliases, c.rcpt, diff)
		}
	}
}

// wide loads aliases for house's domains and one with a letter more than ASCII.
func wide(t *testing.T, aliases string) *Table {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "aliases", aliases)
	c := house(dir)
	c.Domains = append(c.Domains, "bücher.example")
	table, err := Load(c)
	if err != nil {
		t.Fatalf("%q: %v", aliases, err)
	}
	return table
}

func TestLimits(t *testing.T) {
	var targets []string
	for i := range 101 {
		targets = append(targets, fmt.Sprintf("f%d@t.example", i))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "hundred: %s\nmore: %s\ntwice: hundred, hundred2\nhundred2: %[1]s\n", strings.Join(targets[:100], ","), strings.Join(targets, ","))
	// 10^8 ways to one target.
	level := func(n int) string {
		var names []string
		for i := range 10 {
			names = append(names, fmt.Sprintf("n%d-%d", n, i))
		}
		return strings.Join(names, ", ")
	}
	fmt.Fprintf(&b, "wide: %s\n", level(0))
	for n := range 7 {
		for i := range 10 {
			fmt.Fprintf(&b, "n%d-%d: %s\n", n, i, level(n+1))
		}
	}
	for i := range 10 {
		fmt.Fprintf(&b, "n7-%d: end@t.example\n", i)
	}
	fmt.Fprintf(&b, "same: x@t.example%s\n", strings.Repeat(", x@t.example", 10*100*10))
	table := load(t, b.String())
	if n := len(table.Warnings()); n != 2 {
		t.Errorf("%d warnings, want two about more than 100 targets: %v", n, table.Warnings())
	}
	for rcpt, want := range map[string]int{"hundred": 100, "twice": 100, "wide": 1, "more": 0, "same": 0} {
		e, err := table.Expand(envelope.MustParse(rcpt + "@club.example"))
		if len(e.Targets) != want || (want == 0) != errors.Is(err, ErrLimit) {
			t.Errorf("%s: %d targets, %v", rcpt, len(e.Targets), err)
		}
	}
}

func TestAliasesOf(t *testing.T) {
	table := load(t, "jo@club.example: x@t.example, y@t.example\nboard@club.example: jo@club.example\nall: board@club.example\nother: z@t.example\nx: X@T.Example\nself@club.example: all\n/r/: x@t.example\n@old.example: x@t.example\n")
	var got []string
	for _, a := range table.AliasesOf(envelope.MustParse("X@t.example")) {
		got = append(got, a.String())
	}
	want := []string{
		"jo@club.example", "x@alumni.example", "x@club.example", "x@new.example", "x@old.example",
		"board@club.example",
		"all@alumni.example", "all@club.example", "all@new.example", "all@old.example",
		"self@club.example",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := table.AliasesOf(envelope.MustParse("nobody@t.example")); len(got) != 0 {
		t.Error(got)
	}
}

func TestTargetDomains(t *testing.T) {
	table := load(t, "# one\njo: x@T.example, y@u.example\nann: z@t.example\n@old.example: @v.example, @new.example\n@new.example: :blackhole:\n")
	got := map[string]int{}
	for domain, at := range table.TargetDomains() {
		got[domain] = at.Line
	}
	if diff := cmp.Diff(map[string]int{"t.example": 2, "u.example": 2, "v.example": 4}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPostmasterIsAnAlias(t *testing.T) {
	for aliases, want := range map[string]string{
		"root: root@target.example\n":                       "",
		"other: root@target.example\n":                      "forward.postmaster: error: root@club.example must be an alias that leads to somebody\n",
		"root: postmaster\n":                                "forward.postmaster: error: root@club.example must be an alias that leads to somebody\n",
		"root: :blackhole:\n":                               "forward.postmaster: error: root@club.example must be an alias that leads to somebody\n",
		"root: x@target.example\npostmaster: :blackhole:\n": "",
	} {
		dir := t.TempDir()
		write(t, dir, "aliases", aliases)
		c := house(dir)
		c.Postmaster = envelope.MustParse("root@club.example")
		if got := said(t, c, dir); got != want {
			t.Errorf("%q: %s", aliases, got)
		}
		if want != "" {
			continue
		}
		table, err := Load(c)
		if err != nil {
			t.Fatal(err)
		}
		r := Router{Table: table, SRS: map[string]Rewriter{"srs.example": stub("srs.example")}, SRSDomain: func(string) string { return "srs.example" }}
		d := r.Route(t.Context(), Request{ReversePath: envelope.MustParse("ann@sender.example"), Recipient: envelope.MustParse("postmaster@alumni.example")})
		if d.Kind != Postmaster || len(d.Routes) != 1 || d.Routes[0].Target.Domain() != "target.example" {
			t.Errorf("%q: %s", aliases, decided(d))
		}
	}
}
