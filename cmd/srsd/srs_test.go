package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"srsd/srs"
)

// srsTime is 14 November 2023, day G3.
const srsTime = "--time=1700000000"

func srsRun(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(args, console{In: strings.NewReader(""), Out: &out, Err: &errs})
	return status, out.String(), errs.String()
}

func srsFlagsFor(t *testing.T) []string {
	t.Helper()
	secrets := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(secrets, []byte("srsd-keys 1\nk1 the-secret-of-the-tests\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--domain=srs.alumni.example", "--secrets", secrets, srsTime}
}

func TestSRSThereAndBack(t *testing.T) {
	flags := srsFlagsFor(t)
	for _, format := range []string{"--format=srsd", "--format=classic"} {
		status, out, stderr := srsRun(append([]string{"srs", "forward", "ann@sender.example", format}, flags...)...)
		if status != 0 || !strings.HasPrefix(out, "SRS0=") {
			t.Fatalf("%s: exit %d, %q, %q", format, status, out, stderr)
		}
		address := strings.TrimSpace(out)
		status, out, stderr = srsRun(append([]string{"srs", "reverse", address, format}, flags...)...)
		if status != 0 || out != "ann@sender.example\n" || stderr != "" {
			t.Errorf("%s: exit %d, %q, %q", format, status, out, stderr)
		}
		// Without --format, what either signed is taken.
		if status, out, _ = srsRun(append([]string{"srs", "reverse", address}, flags...)...); status != 0 {
			t.Errorf("no format: exit %d, %q", status, out)
		}
		forged := strings.Replace(address, "ann", "bob", 1)
		status, out, stderr = srsRun(append([]string{"srs", "reverse", forged, format}, flags...)...)
		if status != exitFailed || out != "" || stderr != "srsd: srs: hash mismatch: no key made it\n" {
			t.Errorf("%s, forged: exit %d, %q, %q", format, status, out, stderr)
		}
	}
}

func TestSRSWithConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"srsd.toml": `hostname = "mx.alumni.example"
[receive]
listen = ["127.0.0.1:2525"]
[forward]
domains = ["alumni.example"]
postmaster = "root@other.example"
[srs]
domain = "srs.alumni.example"
secrets = "secrets"
`,
		"secrets": "srsd-keys 1\nk1 the-secret-of-the-tests\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	status, out, stderr := srsRun("srs", "forward", "ann@sender.example", srsTime, "-c", filepath.Join(dir, "srsd.toml"))
	status2, out2, _ := srsRun(append([]string{"srs", "forward", "ann@sender.example"}, srsFlagsFor(t)...)...)
	if status != 0 || status2 != 0 || out != out2 {
		t.Errorf("configuration: %d %q %q; flags: %d %q", status, out, stderr, status2, out2)
	}
	status, out, stderr = srsRun("srs", "reverse", strings.TrimSpace(out), srsTime, "-c", filepath.Join(dir, "srsd.toml"))
	if status != 0 || out != "ann@sender.example\n" {
		t.Errorf("exit %d, %q, %q", status, out, stderr)
	}
}

func TestSRSExplain(t *testing.T) {
	flags := srsFlagsFor(t)
	_, out, _ := srsRun(append([]string{"srs", "forward", "ann@sender.example"}, flags...)...)
	address := strings.TrimSpace(out)

	flags[len(flags)-1] = "--time=1702678400" // 31 days later
	status, out, stderr := srsRun(append([]string{"srs", "explain", address}, flags...)...)
	want := `verdict              refused: srs: expired: 31 days old, 21 are allowed
kind                 SRS0
signed by            k1
format               srsd
hash                 ` + address[5:13] + `
timestamp            G3, 14 November 2023, 31 days old
sender's domain      sender.example
sender's local part  ann
leads to             ann@sender.example
next hop             sender.example
`
	if diff := cmp.Diff(want, out); diff != "" || status != 0 || stderr != "" {
		t.Errorf("exit %d, %q: %s", status, stderr, diff)
	}

	status, out, _ = srsRun(append([]string{"srs", "explain", "--json", address}, flags...)...)
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
		t.Fatalf("exit %d, %v: %s", status, err, out)
	}
	if diff := cmp.Diff(map[string]any{
		"kind": "SRS0", "format": "srsd", "key": "k1", "hash": address[5:13], "timestamp": "G3", "age_days": 31.0,
		"domain": "sender.example", "local": "ann", "valid": false, "error": "srs: expired: 31 days old, 21 are allowed",
		"reverse": "ann@sender.example", "next_hop": "sender.example",
	}, got); diff != "" {
		t.Error(diff)
	}
	// A terminal gets no escape sequence out of an address.
	if _, out, _ = srsRun(append([]string{"srs", "explain", "\"SRS0=AAAA=G3=a.example=\x1b[2J\"@srs.alumni.example"}, flags...)...); strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
}

func TestSRSJSON(t *testing.T) {
	flags := append(srsFlagsFor(t), "--json")
	for _, args := range [][]string{{"srs", "forward", "ann@sender.example"}, {"srs", "reverse", "ann@sender.example"}} {
		_, out, _ := srsRun(append(args, flags...)...)
		if !json.Valid([]byte(out)) {
			t.Errorf("%v: %s", args, out)
		}
	}
}

func TestSRSUsage(t *testing.T) {
	for _, args := range [][]string{{"srs"}, {"srs", "forward"}, {"srs", "forward", "a@b.example", "--format=modern"}, {"srs", "reverse", "a", "b"}} {
		if status, _, stderr := srsRun(args...); status != exitUsage || stderr == "" {
			t.Errorf("%v: exit %d, %q", args, status, stderr)
		}
	}
	if status, _, stderr := srsRun("srs", "forward", "a@b.example", "-c", "/nonexistent/srsd.toml"); status != exitFailed || stderr == "" {
		t.Errorf("no configuration: exit %d, %q", status, stderr)
	}
}

func TestSRSKeygen(t *testing.T) {
	_, first, _ := srsRun("srs", "keygen")
	_, second, _ := srsRun("srs", "keygen")
	if _, err := srs.ParseKeys([]byte(first)); err != nil || first == second {
		t.Errorf("%q, %q: %v", first, second, err)
	}
	_, line, _ := srsRun("srs", "keygen", "--id=new", "--line")
	keys, err := srs.ParseKeys([]byte(first + line))
	if err != nil || len(keys) != 2 || keys[1].ID != "new" {
		t.Errorf("%q: %v, %v", first+line, keys, err)
	}
	if status, _, _ := srsRun("srs", "keygen", "--id=two words"); status != exitFailed {
		t.Errorf("exit %d", status)
	}
}
