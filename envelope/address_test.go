package envelope

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseAddress(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	for _, c := range []struct{ in, local, domain string }{
		{"jo@alumni.example", "jo", "alumni.example"},
		{"Jo.Doe+tag@Alumni.Example", "Jo.Doe+tag", "Alumni.Example"},
		{"SRS0=hash=tt=sender.example=ann@srs.alumni.example", "SRS0=hash=tt=sender.example=ann", "srs.alumni.example"},
		{`"a b"@alumni.example`, "a b", "alumni.example"},
		{`"a@b"@alumni.example`, "a@b", "alumni.example"},
		{`"a\"\\b"@alumni.example`, `a"\b`, "alumni.example"},
		{`"x> NOTIFY=NEVER"@alumni.example`, "x> NOTIFY=NEVER", "alumni.example"},
		{`"jo"@alumni.example`, "jo", "alumni.example"},
		{"postmaster", "postmaster", ""},
		{"Postmaster", "Postmaster", ""},
		{"jörg@bücher.example", "jörg", "bücher.example"},
		{"u@[192.0.2.1]", "u", "[192.0.2.1]"},
		{"u@[IPv6:2001:db8::1]", "u", "[IPv6:2001:db8::1]"},
		{"u@_spf.a-b.example", "u", "_spf.a-b.example"},
		{long(64) + "@alumni.example", long(64), "alumni.example"},
		{"u@" + long(63) + ".example", "u", long(63) + ".example"},
	} {
		a, err := ParseAddress(c.in)
		if err != nil || a.Local() != c.local || a.Domain() != c.domain {
			t.Errorf("%q: %q at %q, %v", c.in, a.Local(), a.Domain(), err)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	for _, in := range []string{
		"", "jo", "jo@", "@alumni.example", "jo@a@b.example", "a..b@x.example", ".a@x.example", "a.@x.example",
		"a b@x.example", "a\rb@x.example", "a\nb@x.example", "a\x00b@x.example", "a\x7fb@x.example", `"a@x.example`,
		`"a"b@x.example`, "\"a\rb\"@x.example", "u@x..example", "u@.example", "u@example.", "u@-x.example", "u@x-.example",
		"u@x y.example", "u@x:y", "u@x<y.example", "u@[junk]", "u@[192.0.2.1", "u@[192.0.2.256]", "u@[2001:db8::1]",
		"u@[IPv6:192.0.2.1]", "u@[IPv6:fe80::1%eth0]", "\xff@x.example", "u@x\xff.example", "u\u0085@x.example",
		"<u@x.example>", "u@x.example ", " u@x.example", "(c)u@x.example",
	} {
		if a, err := ParseAddress(in); err == nil {
			t.Errorf("%q is taken as %v", in, a)
		}
	}
	for _, in := range []string{
		long(65) + "@x.example", "u@" + long(64) + ".example",
		"u@" + strings.Repeat(long(49)+".", 5) + "example",
	} {
		if _, err := ParseAddress(in); !errors.Is(err, ErrTooLong) {
			t.Errorf("%d octets: %v", len(in), err)
		}
	}
}

func TestAddressString(t *testing.T) {
	for in, want := range map[string]string{
		`"jo"@x.example`:               "jo@x.example",
		`"a b"@x.example`:              `"a b"@x.example`,
		`"a\"b"@x.example`:             `"a\"b"@x.example`,
		`"a..b"@x.example`:             `"a..b"@x.example`,
		`"u> NOTIFY=NEVER "@x.example`: `"u> NOTIFY=NEVER "@x.example`,
	} {
		if got := MustParse(in).String(); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	var null Address
	if null.String() != "" || null.Path() != "<>" || !null.IsNull() {
		t.Errorf("null reverse-path: %q %q", null.String(), null.Path())
	}
	if MustParse("Jo@X.example").Key() != "jo@x.example" {
		t.Error("the key does not fold case")
	}
	empty, err := NewAddress("", "x.example")
	if err != nil || empty.String() != `""@x.example` {
		t.Errorf("empty local part: %q %v", empty, err)
	}
}

func TestAddressASCII(t *testing.T) {
	for in, want := range map[string]bool{"jo@x.example": true, "jörg@x.example": false, "jo@bücher.example": false} {
		if got := MustParse(in).IsASCII(); got != want {
			t.Errorf("%s: %v", in, got)
		}
	}
}

func TestAddressJSON(t *testing.T) {
	in := []Address{{}, MustParse(`"a b"@x.example`)}
	text, err := json.Marshal(in)
	if err != nil || string(text) != `["","\"a b\"@x.example"]` {
		t.Fatalf("%s %v", text, err)
	}
	var out []Address
	if err := json.Unmarshal(text, &out); err != nil || out[0] != in[0] || out[1] != in[1] {
		t.Fatalf("%v %v", out, err)
	}
	if json.Unmarshal([]byte(`["a b@x"]`), &out) == nil {
		t.Error("a bad address in JSON is taken")
	}
}

func TestAddressRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringMatching(`[ -~ä€]{0,20}`).Draw(t, "local")
		domain := rapid.StringMatching(`([a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?\.){1,3}[a-z]{2,5}`).Draw(t, "domain")
		a, err := NewAddress(local, domain)
		if err != nil {
			t.Fatalf("%q at %q: %v", local, domain, err)
		}
		b, err := ParseAddress(a.String())
		if err != nil || a != b {
			t.Fatalf("%q became %q: %v", a, b, err)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"jo@x.example", `"a b"@x.example`, `"a\"@x`, "postmaster", "u@[IPv6:::1]", "ä@ö.example", "a@b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if len(a.String()) > MaxAddress || strings.ContainsAny(a.String(), "\r\n\x00") {
			t.Errorf("%q became %q", s, a)
		}
		if b, err := ParseAddress(a.String()); err != nil || a != b {
			t.Errorf("%q: %q is read as %q, %v", s, a, b, err)
		}
	})
}
