package forward

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"srsd/envelope"
)

func TestForwardFiles(t *testing.T) {
	table := load(t, "ann@club.example: ann@t.example\nlist: jo@club.example, ann@club.example\nowner-jo: ann@club.example\n@club.example: rest@t.example\n",
		"forward/club.example/jo", "jo@home.example\njo@work.example, \"jo public\"@t.example # a comment\n\n",
		"forward/club.example/kim+lists", "lists@t.example",
		"forward/club.example/kim", "kim@t.example\r\n",
		"forward/club.example/ann", "ignored@t.example",
		"forward/club.example/gone", ":fail: 551 5.1.6 moved, to another town\n",
		"forward/club.example/inner", "ann@club.example, jo",
		"forward/club.example/empty", "",
		"forward/club.example/blank", "# nobody\n\n",
		"forward/club.example/typo", "x@@t.example\n",
		"forward/club.example/cut", "x@t.example,\n",
		"forward/club.example/shell", "|/bin/sh\n",
		"forward/club.example/mbox", "/var/mail/mbox\n",
		"forward/club.example/inc", ":include:members\n",
		"forward/club.example/self", "self\n",
		"forward/club.example/ping", "pong@club.example\n",
		"forward/club.example/pong", "x@t.example\nping@club.example\n",
		"forward/club.example/lost", "x@t.example\nnobody@alumni.example\n",
		"forward/club.example/huge", strings.Repeat("x@t.example\n", 4097/12+1),
		"forward/club.example/most", strings.Repeat("x@t.example\n", 4096/12),
		"forward/club.example/octets", "x\x01@t.example\n",
		"forward/club.example/latin", "x\xff@t.example\n",
		"forward/club.example/writable", "x@t.example\n",
		"forward/club.example/secret", "x@t.example\n",
		"forward/club.example/.hidden", "x@t.example\n",
		"forward/club.example/sub/x", "x@t.example\n",
		"outside", "x@t.example\n",
		"forward/alumni.example/link-target", "x@t.example\n",
	)
	dir := filepath.Join(table.dir, "club.example")
	for _, err := range []error{
		os.Chmod(filepath.Join(dir, "writable"), 0o664),
		os.Symlink("../alumni.example/link-target", filepath.Join(dir, "inside")),
		os.Symlink("../../outside", filepath.Join(dir, "escape")),
		os.Symlink("nowhere", filepath.Join(dir, "dangling")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for rcpt, want := range map[string]string{
		"jo@club.example":              `jo@home.example owner owner-jo@club.example, jo@work.example owner owner-jo@club.example, "jo public"@t.example owner owner-jo@club.example`,
		"Jo+x@Club.Example":            `jo@home.example owner owner-jo@club.example, jo@work.example owner owner-jo@club.example, "jo public"@t.example owner owner-jo@club.example`,
		"kim+lists@club.example":       "lists@t.example",
		"kim+other@club.example":       "kim@t.example",
		"ann@club.example":             "ann@t.example", // the table's own name comes first
		"gone@club.example":            "551 5.1.6 moved, to another town",
		"inside@club.example":          "x@t.example",
		"most@club.example":            "x@t.example",
		"nobody@club.example":          "rest@t.example",
		"nobody@alumni.example":        "unknown",
		".hidden@club.example":         "rest@t.example",
		"../outside@club.example":      "rest@t.example",
		"sub/x@club.example":           "rest@t.example",
		`"../../outside"@club.example`: "rest@t.example",
		"empty@club.example":           "file",
		"blank@club.example":           "file",
		"typo@club.example":            "file",
		"cut@club.example":             "file",
		"shell@club.example":           "file",
		"mbox@club.example":            "file",
		"inc@club.example":             "file",
		"self@club.example":            "limit",
		"ping@club.example":            "limit",
		"lost@club.example":            "file",
		"huge@club.example":            "file",
		"octets@club.example":          "file",
		"latin@club.example":           "file",
		"writable@club.example":        "file",
		"escape@club.example":          "file",
		"dangling@club.example":        "file",
		"sub@club.example":             "file",
		"inner@club.example": `ann@t.example via ann@club.example, jo@home.example via jo@club.example owner owner-jo@club.example, ` +
			`jo@work.example via jo@club.example owner owner-jo@club.example, "jo public"@t.example via jo@club.example owner owner-jo@club.example`,
	} {
		if rcpt == ".hidden@club.example" || strings.HasPrefix(rcpt, "..") {
			rcpt = `"` + strings.Replace(rcpt, "@", `"@`, 1)
		}
		if got := expanded(table, rcpt); got != want {
			t.Errorf("%s: %s, want %s", rcpt, got, want)
		}
	}
}

func TestForwardFileChanges(t *testing.T) {
	table := load(t, "", "forward/club.example/jo", "one@t.example\n")
	path := filepath.Join(table.dir, "club.example", "jo")
	for _, text := range []string{"two@t.example\n", "six@t.example\n"} { // of one size, within one tick of the clock
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := expanded(table, "jo@club.example"); got+"\n" != text {
			t.Errorf("%s, want %s", got, text)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := expanded(table, "jo@club.example"); got != "unknown" {
		t.Error(got)
	}
}

// TestForwardFileSystemGone: a file system that is not mounted must not look
// like a house where nobody lives.
func TestForwardFileSystemGone(t *testing.T) {
	table := load(t, "ann: ann@t.example\n", "forward/club.example/jo", "one@t.example\n")
	if err := os.RemoveAll(table.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Expand(envelope.MustParse("jo@club.example")); !errors.Is(err, ErrFile) {
		t.Error(err)
	}
	if got := expanded(table, "ann@club.example"); got != "ann@t.example" {
		t.Error(got)
	}
}

// TestForwardFileChain: what Load cannot see is bounded when mail comes.
func TestForwardFileChain(t *testing.T) {
	var files []string
	for i := range 11 {
		files = append(files, fmt.Sprintf("forward/club.example/c%d", i), fmt.Sprintf("c%d", i+1))
	}
	files[len(files)-1] = "end@t.example"
	table := load(t, "", files...)
	if got := expanded(table, "c0@club.example"); got != "limit" {
		t.Errorf("11 in a row: %s", got)
	}
	if got := expanded(table, "c1@club.example"); !strings.HasPrefix(got, "end@t.example via c2@club.example") {
		t.Errorf("10 in a row: %s", got)
	}
}
