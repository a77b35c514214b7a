package relay

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"srsd/internal/deliver"
)

const goodConfig = `hostname = "mx.alumni.example"

[receive]
listen = ["127.0.0.1:2525"]

[forward]
domains = ["alumni.example"]
aliases = ["aliases"]
postmaster = "root@target.example"

[srs]
domain = "srs.alumni.example"
secrets = "secrets"

[deliver]
budget = "2s"
retry = ["100ms", "1d12h"]
allow_networks = ["127.0.0.0/8", "::1"]
`

func load(t *testing.T, text string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "srsd.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadConfig(path)
}

func TestLoadConfig(t *testing.T) {
	c, err := load(t, goodConfig)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(c.File)
	if c.Forward.Aliases[0] != filepath.Join(dir, "aliases") || c.DataDir != filepath.Join(dir, "data") {
		t.Errorf("paths are not under %s: %q %q", dir, c.Forward.Aliases, c.DataDir)
	}
	want := []Duration{Duration(100 * time.Millisecond), Duration(36 * time.Hour)}
	if diff := cmp.Diff(want, c.Deliver.Retry); diff != "" {
		t.Error(diff)
	}
	if c.SPF.Fail != "reject" || c.Receive.MaxMessage != 50<<20 {
		t.Errorf("defaults are missing: %+v", c)
	}
	if fmt.Sprint(prefixes(c.Deliver.AllowNetworks)) != "[127.0.0.0/8 ::1/128]" {
		t.Errorf("networks: %v", prefixes(c.Deliver.AllowNetworks))
	}
}

// TestBadConfig shows the error for each mistake, from "srsd.toml" on.
func TestBadConfig(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`budget =`, `budgett =`, `srsd.toml:16: deliver.budgett: unknown key; docs/configuration.md lists the keys`},
		{`[deliver]`, `[delivery]`, `srsd.toml:15: delivery: unknown key; docs/configuration.md lists the keys`},
		{`"2s"`, `"soon"`, `srsd.toml:16: deliver.budget: "soon" is no duration; write 20s, 5m, 12h or 21d`},
		{`"2s"`, `"-2s"`, `srsd.toml:16: deliver.budget: "-2s" is negative`},
		{`"2s"`, `"0s"`, `srsd.toml:16: deliver.budget: must be more than zero`},
		{`["alumni.example"]`, `"alumni.example"`, `srsd.toml:7: forward.domains: the value is of type string, wanted is a list`},
		{`["alumni.example"]`, `["a b"]`, `srsd.toml:7: forward.domains: "a b" is no domain`},
		{`"srs.alumni.example"`, `"$mydomain"`, `srsd.toml:12: srs.domain: "$mydomain" is no domain`},
		{`"srs.alumni.example"`, `"alumni.example"`, `srsd.toml:12: srs.domain: "alumni.example" is in forward.domains too; SRS needs a domain of its own, as in "srs.alumni.example"`},
		{`domain = "srs.alumni.example"`, ``, `srsd.toml:11: srs.domain: is required: the domain of rewritten addresses, whose MX is this host`},
		{`"::1"`, `"127.0.0.0/99"`, `srsd.toml:18: deliver.allow_networks: "127.0.0.0/99" is no network; write 192.0.2.0/24 or 2001:db8::/32`},
		{`["127.0.0.1:2525"]`, `["127.0.0.1"]`, `srsd.toml:4: receive.listen: "127.0.0.1" is no address with a port; write "0.0.0.0:25"`},
		{`"mx.alumni.example"`, `"mx alumni\r\nx"`, `srsd.toml:1: hostname: "mx alumni\r\nx" is no host name`},
		{`hostname = "mx.alumni.example"`, ``, `srsd.toml: hostname: is required: the name of this host in the DNS, as in "mx.alumni.example"`},
		{`postmaster = "root@target.example"`, ``, `srsd.toml:6: forward.postmaster: is required: who reads the mail for postmaster`},
		{`[deliver]`, "[spf]\nfail = \"drop\"\n[deliver]", `srsd.toml:16: spf.fail: "drop" is none of "reject", "defer", "mark"`},
		{`[deliver]`, "[dns]\nservers = [\"not an address\"]\n[deliver]", `srsd.toml:16: dns.servers: "not an address" is no address with a port; write "127.0.0.1:53"`},
		{`[deliver]`, "[deliver", `srsd.toml:16: expected '.' or ']' to end table name, but got '\n' instead`},
	} {
		text := strings.Replace(goodConfig, c.old, c.new, 1)
		_, err := load(t, text)
		if err == nil {
			t.Errorf("%s → %s is taken", c.old, c.new)
			continue
		}
		if got := err.Error()[strings.Index(err.Error(), "srsd.toml"):]; got != c.want {
			t.Errorf("%s → %s\n got %s\nwant %s", c.old, c.new, got, c.want)
		}
	}
}

func TestFindConfig(t *testing.T) {
	t.Chdir(t.TempDir())
	if p, err := FindConfig("x.toml"); p != "x.toml" || err != nil {
		t.Errorf("%q %v", p, err)
	}
	if err := os.WriteFile("srsd.toml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := FindConfig(""); p != "srsd.toml" || err != nil {
		t.Errorf("%q %v", p, err)
	}
}

// TestConfigurationIsDocumented compares docs/configuration.md with the type.
func TestConfigurationIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, m[1])
	}
	var keys []string
	collect(reflect.TypeFor[Config](), "", &keys)
	slices.Sort(documented)
	slices.Sort(keys)
	if diff := cmp.Diff(keys, documented); diff != "" {
		t.Error("keys (-) and documentation (+):", diff)
	}
}

func collect(s reflect.Type, prefix string, keys *[]string) {
	for f := range s.Fields() {
		tag := f.Tag.Get("toml")
		switch {
		case tag == "-":
		case f.Type.Kind() == reflect.Struct && f.Type.NumField() > 0 && f.Type.PkgPath() == s.PkgPath() && f.Type.Name() != "Network":
			collect(f.Type, tag+".", keys)
		default:
			*keys = append(*keys, prefix+tag)
		}
	}
}

// TestSmarthostPassword shows that a password asks for a certificate, unless the
// configuration says otherwise.
func TestSmarthostPassword(t *testing.T) {
	const smarthost = "smarthost = \"relay.example:587\"\n"
	for _, c := range []struct {
		keys string
		want deliver.Security
	}{
		{smarthost, ""},
		{smarthost + "smarthost_user = \"srsd\"\nsmarthost_password_file = \"password\"\n", deliver.Verified},
		{smarthost + "smarthost_user = \"srsd\"\nsmarthost_password_file = \"password\"\ntls = { \"Relay.example\" = \"required\" }\n", deliver.Required},
	} {
		config, err := load(t, goodConfig+c.keys)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(config.File), "password"), []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := config.deliverPolicy(nil)
		if err != nil || p.TLS["relay.example:587"] != c.want {
			t.Errorf("%s: %q %v", c.keys, p.TLS["relay.example:587"], err)
		}
	}
}
