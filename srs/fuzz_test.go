package srs

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var sentinels = []error{ErrNotSRS, ErrNotOurs, ErrSyntax, ErrHash, ErrExpired, ErrFuture, ErrTooLong, ErrToken, ErrConfig}

func known(err error) bool {
	n := 0
	for _, s := range sentinels {
		if errors.Is(err, s) {
			n++
		}
	}
	return n == 1
}

// inputs are those of the vectors, each once.
func inputs(t testing.TB, op string) (out []string) {
	seen := map[string]bool{}
	for _, v := range vectors(t) {
		if v.Op == op && !seen[v.Input] {
			seen[v.Input] = true
			out = append(out, v.Input)
		}
	}
	return out
}

// FuzzForward: what Forward makes comes back, and is an address.
func FuzzForward(f *testing.F) {
	for _, a := range append(inputs(f, "forward"), awkward...) {
		f.Add(a, false)
		f.Add(a, true)
	}
	f.Fuzz(func(t *testing.T, in string, classic bool) {
		r := base(FormatSRSD)
		if classic {
			r = base(FormatClassic)
		}
		out, err := r.Forward(in)
		if err != nil {
			if !known(err) {
				t.Fatalf("Forward(%q): %v wraps none or several of the sentinels", in, err)
			}
			return
		}
		a, _ := split(in) // the null reverse-path has no parts
		if out == "" || out == in {
			if in != "" && in != `""` && !equalFold(a.domain, r.Domain) {
				t.Fatalf("Forward(%q) = %q", in, out)
			}
			return
		}
		want := string(appendMailbox(nil, []byte(a.local), a.domain))
		if b, err := split(out); err != nil || b.check() != nil {
			t.Fatalf("Forward(%q) = %q is no address", in, out)
		}
		back, err := r.Reverse(out)
		if strings.HasPrefix(out[strings.IndexByte(out, 'S'):], "SRS1") {
			want = back // the first forwarder's address; TestHops holds it
		}
		if back != want || err != nil {
			t.Fatalf("Forward(%q) = %q, Reverse = %q, %v", in, out, back, err)
		}
	})
}

// FuzzReverse: whatever comes in, an answer or an error of ours.
func FuzzReverse(f *testing.F) {
	for _, a := range append(inputs(f, "reverse"), awkward...) {
		f.Add(a)
	}
	for _, a := range []string{
		"SRS0=VLDHWE7N=G3=example.com=alice@fwd.example", "SRS0=LQ6GTOZL=G3==AEBAG@fwd.example",
		"SRS1=SWS2Y634=hop1.example==HHHH=G3=orig.example=alice@fwd.example",
		`"SRS0=OOpg=G3=example.com=a\"b"@fwd.example`, "SRS0=====@fwd.example",
	} {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, in string) {
		r := base(FormatSRSD)
		r.Accept = []Format{FormatClassic}
		out, err := r.Reverse(in)
		e := r.Explain(in)
		if err != nil && !known(err) {
			t.Fatalf("Reverse(%q): %v", in, err)
		}
		if e.Valid != (err == nil || errors.Is(err, ErrToken)) || err == nil && e.Reverse != out {
			t.Fatalf("Reverse(%q) = %q, %v; Explain %+v", in, out, err, e)
		}
		if _, err := r.ParseToken(in); err != nil && !known(err) {
			t.Fatalf("ParseToken(%q): %v", in, err)
		}
	})
}

// FuzzSigned: behind a right hash, too, only addresses come out.
func FuzzSigned(f *testing.F) {
	f.Add(false, "G3", "example.com", "alice")
	f.Add(false, "G3", "example.com", `"a b"`)
	f.Add(false, "G3", "[192.0.2.1]", "a=b")
	f.Add(true, "", "hop.example", "=HHHH=G3=example.com=alice")
	f.Fuzz(func(t *testing.T, srs1 bool, day, host, user string) {
		c := claim{kind: kindSRS0, sep: '=', domain: "fwd.example", day: day, host: host, user: user}
		if srs1 {
			c.kind, c.day = kindSRS1, ""
		}
		for _, format := range []Format{FormatSRSD, FormatClassic} {
			r := base(format)
			in := sign(r, format, c)
			for _, in := range []string{in, `"` + strings.TrimSuffix(in, "@fwd.example") + `"@fwd.example`} {
				out, err := r.Reverse(in)
				if err != nil {
					continue
				}
				a, err := split(out)
				if err != nil || a.check() != nil {
					t.Fatalf("%v: Reverse(%q) = %q is no address", format, in, out)
				}
				if format == FormatClassic && !isFullName(a.domain) {
					t.Fatalf("Reverse(%q) = %q", in, out)
				}
			}
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("srsd-keys 1\nk1 the-secret-of-the-tests sign-until=2030-01-01 accept-until=2030-02-01 # why\n"))
	f.Add([]byte("srsd-keys 1\nk1 \"the secret\\tof the tests\"\n"))
	f.Add([]byte("one plain secret here\r\nanother-plain-secret\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseKeys(data)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%v, %v", keys, err)
		}
		for _, k := range keys {
			if len(k.hasher.secret) < minSecret || k.ID == "" {
				t.Fatalf("%v", k)
			}
		}
	})
}

// Hostile input costs no more than its length.
func TestLinear(t *testing.T) {
	r := base(FormatSRSD)
	r.Accept = []Format{FormatClassic}
	start := time.Now()
	for _, unit := range []string{"=", "@", `"`, `\`, "a", "SRS0=", ".", "é", "=+-", "[", "\n", "SRS1=a=", "AAAA=G3="} {
		long := strings.Repeat(unit, 100_000/len(unit))
		for _, in := range []string{
			long, "SRS0=" + long, "SRS1=" + long, `"SRS0=` + long, "SRS0=" + long + "@fwd.example", "SRS1=AAAA=" + long + "@fwd.example",
			`"` + long + `"@fwd.example`, "SRS0=AAAA=G3=" + long + "=a@fwd.example", "a@" + long,
		} {
			for range 10 {
				r.Reverse(in)
				r.Forward(in)
				r.Explain(in)
				r.ParseToken(in)
			}
		}
		ParseKeys([]byte(long))
		ParseKeys([]byte("srsd-keys 1\n" + long))
		ParseKeys([]byte("srsd-keys 1\nk1 " + long))
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}
