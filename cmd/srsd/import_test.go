package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"srsd/internal/relay"
)

const shellForm = `# Default settings for PostSRSd
SRS_DOMAIN=alumni.example
SRS_EXCLUDE_DOMAINS=".example.com, example.org"
SRS_SEPARATOR==
SRS_SECRET=/etc/postsrsd.secret
SRS_HASHLENGTH=6   # was 4
export SRS_HASHMIN='4'
SRS_FORWARD_PORT=20001
RUN_AS=postsrsd
SRS_LISTEN_ADDR=127.0.0.1
CHROOT=/var/lib/postsrsd
SRS_EXTRA_OPTIONS="-A -t1800 -X.example.net"
`

const shellTOML = `hostname = "mx.alumni.example"
data_dir = "/var/lib/srsd"

[srs]
domain = "alumni.example"
secrets = "/etc/postsrsd.secret"
format = "classic"
separator = "="
hash_length = 6
hash_minimum = 4

[postfix]
sender_tcp = "127.0.0.1:20001"
recipient_tcp = "127.0.0.1:10002"
exclude = [".example.com", "example.org", ".example.net"]
`

const shellNotes = `note: the option -A has no counterpart
note: the option -t 1800 has no counterpart
note: RUN_AS=postsrsd: start srsd as this user, or set user, and let it read the secrets
note: CHROOT=/var/lib/postsrsd has no counterpart: systemd's RootDirectory or ProtectSystem does it
note: /etc/postsrsd.secret must be owned by root or by the user that runs srsd, with mode 0600 (0640 for root and a group)
note: PostSRSd 1 reverses SRS addresses at every domain; srsd does at alumni.example only: list other domains that addresses were signed with in srs.retired
note: "srsd check" reads the result; docs/postfix.md says how to change over, and how to let only bounces use SRS addresses
`

const confForm = `domains = { "example.com", ".example.net", # comment
  mail.example.org }
/* several
   lines */
srs-domain = "srs.example.com" // here
domains-file = "more.domains"
domains-file-watch = on
secrets-file = "postsrsd.secret"
socketmap = inet:localhost:10003
milter = "unix:/run/postsrsd/milter"
milter-rewrite-local = on
separator = "+"
hash-length = 8
hash-minimum = 2
original-envelope = database
envelope-database = "sqlite:./postsrsd.db"
keep-alive = 30
always-rewrite = off
`

const confTOML = `hostname = "mx.alumni.example"
data_dir = "/var/lib/srsd"

[srs]
domain = "srs.example.com"
secrets = "DIR/postsrsd.secret"
format = "classic"
separator = "+"
alphabet = "url"
hash_length = 8
hash_minimum = 4

[postfix]
socketmap = "inet:localhost:10003"
milter = "unix:/run/postsrsd/milter"
local_domains = ["example.com", ".example.net", "mail.example.org", "more.example"]
rewrite_local = true
`

const confNotes = `note: original-envelope = database: srsd keeps only what is too long for an address, in its data_dir; it cannot reverse addresses that PostSRSd keeps in sqlite:./postsrsd.db
note: keep-alive = 30 has no counterpart: doors wait 30 minutes for Postfix
note: domains-file-watch = on has no counterpart: the file was copied into local_domains
note: the minimal hash length is 4 instead of 2: srsd has 4 to 20
note: DIR/postsrsd.secret must be owned by root or by the user that runs srsd, with mode 0600 (0640 for root and a group)
note: "srsd check" reads the result; docs/postfix.md says how to change over, and how to let only bounces use SRS addresses
`

func importRun(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(append([]string{"import", "postsrsd", "--hostname=mx.alumni.example"}, args...), console{In: strings.NewReader(""), Out: &out, Err: &errs})
	return status, out.String(), errs.String()
}

func TestImportPostSRSd(t *testing.T) {
	for _, c := range []struct{ name, text, toml, notes string }{
		{"1.x", shellForm, shellTOML, shellNotes},
		{"2.x", confForm, confTOML, confNotes},
	} {
		dir := t.TempDir()
		file, target := filepath.Join(dir, "postsrsd"), filepath.Join(dir, "srsd.toml")
		for path, text := range map[string]string{file: c.text, filepath.Join(dir, "more.domains"): "# one\nmore.example # two\n"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		status, out, notes := importRun(file)
		if status != 0 {
			t.Fatalf("%s: exit %d, %s", c.name, status, notes)
		}
		want := "# srsd in the place of PostSRSd, from DIR/postsrsd\n" + c.toml
		if diff := cmp.Diff(want, strings.ReplaceAll(out, dir, "DIR")); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if diff := cmp.Diff(c.notes, strings.ReplaceAll(notes, dir, "DIR")); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if status, out, notes := importRun(file, "-o", target); status != 0 || out != "" {
			t.Fatalf("%s: exit %d, %q, %s", c.name, status, out, notes)
		}
		if _, err := relay.LoadConfig(target); err != nil {
			t.Errorf("%s: srsd does not take it: %v", c.name, err)
		}
		if status, _, notes := importRun(file, "-o", target); status != exitFailed || !strings.Contains(notes, "exists") {
			t.Errorf("%s: a file was overwritten: exit %d, %s", c.name, status, notes)
		}
	}
}

func TestImportPostSRSdRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"SRS_DOMAIN=a.example\nSRS_HASHLENGTH=x\n":                       `SRS_HASHLENGTH: "x" is no number`,
		"SRS_DOMAIN=a.example\nSRS_HASHLENGTH=4\nSRS_HASHMIN=6\n":        "the minimal hash length is 6, and hashes have only 4",
		"SRS_DOMAIN=a.example\nif true; then\n":                          `line 2: "if true; then" is no plain assignment`,
		"SRS_DOMAIN=\"a.example\n":                                       `line 1: "SRS_DOMAIN=\"a.example" is no plain assignment`,
		"SRS_DOMAIN=a.example\nSRS_EXTRA_OPTIONS=x\n":                    `SRS_EXTRA_OPTIONS: "x" is no option`,
		"domains = { \"a.example\"\n":                                    "the list of domains does not end",
		"domains\n":                                                      `"domains" stands alone, wanted is NAME = VALUE`,
		"srs-domain = \"a.example\n":                                     "a quote does not end",
		"srs-domain = a.example /* x":                                    "a comment does not end",
		"srs-domain = a.example\nsocketmap = \"\"\n":                     "has neither ports nor sockets",
		"srs-domain = a.example\nhash-length = \"\"\n":                   `hash-length: "" is no number`,
		"srs-domain = a.example\ndomains-file = \"/nonexistent/file\"\n": "open /nonexistent/file: no such file or directory",
	} {
		file := filepath.Join(t.TempDir(), "postsrsd")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		status, _, stderr := importRun(file)
		if status != exitFailed || stderr != "srsd: "+file+": "+want+"\n" {
			t.Errorf("%q: exit %d\n got %s\nwant srsd: FILE: %s", text, status, stderr, want)
		}
	}
	if status, _, stderr := importRun("/nonexistent/file"); status != exitFailed || !strings.Contains(stderr, "none of these exists: /nonexistent/file") {
		t.Errorf("no file: exit %d, %s", status, stderr)
	}
}

// FuzzImportPostSRSd reads anything without a panic.
func FuzzImportPostSRSd(f *testing.F) {
	f.Add(shellForm)
	f.Add(confForm)
	f.Fuzz(func(t *testing.T, text string) {
		shell, conf := migration{file: "x", domain: "a.example"}, migration{file: "x", domain: "a.example"}
		if shell.fromShell(text) == nil && shell.complete() == nil && shell.toml() == "" {
			t.Error("nothing was written")
		}
		if strings.Contains(text, "domains-file") {
			return // reads a file
		}
		if conf.fromConf(text) == nil && conf.complete() == nil && conf.toml() == "" {
			t.Error("nothing was written")
		}
	})
}
