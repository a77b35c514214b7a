package srs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// genLabel, genDomain and genLocal make valid addresses, the odd ones often.
var (
	genLabel  = rapid.StringMatching(`[a-zA-Z0-9_ü]([a-zA-Z0-9-]{0,4}[a-zA-Z0-9])?`)
	genTLD    = rapid.StringMatching(`[a-zA-Z]{2,4}`)
	genAtext  = rapid.StringMatching("[a-zA-Z0-9!#$%&'*+/=?^_`{|}~ü-]{1,6}")
	genQuoted = rapid.StringMatching(`[ -~ü]{0,10}`)
	genStamp  = rapid.StringMatching(`[A-Za-z2-7]{2}`)
	genSep    = rapid.SampledFrom([]byte("=+-"))
)

func drawDomain(t *rapid.T) string {
	if rapid.IntRange(0, 9).Draw(t, "literal") == 0 {
		return rapid.SampledFrom([]string{"[192.0.2.1]", "[IPv6:2001:db8::1]"}).Draw(t, "domain")
	}
	return strings.Join(rapid.SliceOfN(genLabel, 1, 2).Draw(t, "labels"), ".") + "." + genTLD.Draw(t, "tld")
}

// drawLocal is a local part without quotes.
func drawLocal(t *rapid.T) string {
	if rapid.Bool().Draw(t, "quoted") {
		return genQuoted.Draw(t, "local")
	}
	return strings.Join(rapid.SliceOfN(genAtext, 1, 3).Draw(t, "atoms"), ".")
}

// drawAddress is an ordinary address, or one that another forwarder wrote.
func drawAddress(t *rapid.T) string {
	local, host := drawLocal(t), drawDomain(t)
	if rapid.IntRange(0, 2).Draw(t, "srs") == 0 {
		sep := string(genSep.Draw(t, "sep"))
		local = "SRS0" + sep + "abcd=" + genStamp.Draw(t, "stamp") + "=" + host + "=" + local
		host = drawDomain(t)
	}
	return string(appendMailbox(nil, []byte(local), host))
}

func drawRewriter(t *rapid.T) *Rewriter {
	r := base(rapid.SampledFrom([]Format{FormatSRSD, FormatClassic}).Draw(t, "format"))
	r.Separator = genSep.Draw(t, "separator")
	r.Alphabet = rapid.SampledFrom([]Alphabet{AlphabetStandard, AlphabetURL}).Draw(t, "alphabet")
	least, most := r.Format.bounds()
	r.HashLength = rapid.IntRange(least, most).Draw(t, "length")
	r.Keys = append(r.Keys, NewKey("k2", []byte("another")))
	at := rapid.Int64Range(0, 1<<33).Draw(t, "time")
	r.Now = func() time.Time { return time.Unix(at, 0) }
	return r
}

// forward skips what does not fit.
func forward(t *rapid.T, r *Rewriter, in string) string {
	out, err := r.Forward(in)
	if errors.Is(err, ErrTooLong) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("Forward(%q): %v", in, err)
	}
	return out
}

func TestReverseOfForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, in := drawRewriter(t), drawAddress(t)
		out := forward(t, r, in)
		if a, err := split(out); err != nil || a.check() != nil || len(out) > maxAddress || strings.LastIndexByte(out, '@') > maxLocal {
			t.Fatalf("Forward(%q) = %q is no address", in, out)
		}
		if got, err := r.Reverse(out); got != in || err != nil {
			t.Fatalf("Reverse(%q) = %q, %v; want %q", out, got, err, in)
		}
		// Folded, it still comes home, apart from what folding takes away.
		if got, err := r.Reverse(string(appendLower(nil, out))); err != nil || !equalFold(got, in) {
			t.Fatalf("folded: Reverse(%q) = %q, %v", out, got, err)
		}
	})
}

// A forged address is refused: no character of a signed one can be changed,
// removed or added, but for the case of ASCII, and in classic the separator
// behind the tag and the two alphabets. The hash is long enough that a lucky
// hit is no concern here.
func TestNothingCanBeChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, in := drawRewriter(t), drawAddress(t)
		r.HashLength = 0
		if r.Format == FormatClassic {
			r.HashLength = maxHashClassic
		}
		r.Retired = []string{"old.example"}
		out := forward(t, r, in)
		i := rapid.IntRange(0, len(out)-1).Draw(t, "position")
		c := rapid.Byte().Draw(t, "octet")
		refuse(t, r, out[:i]+out[i+1:])
		refuse(t, r, out[:i]+string([]byte{c})+out[i:])
		if r.Format == FormatClassic && i == strings.IndexAny(out, "=+-") {
			t.Skip("the separator")
		}
		refuse(t, r, out[:i]+string([]byte{c})+out[i+1:])
	})
}

// refuse wants an error, or the same address in another spelling: an escape
// that changes nothing, as in "a" for a (RFC 5321, section 4.1.2).
func refuse(t *rapid.T, r *Rewriter, forged string) {
	got, err := r.Reverse(forged)
	if err != nil {
		return
	}
	if out, err := r.Forward(got); err == nil {
		a, _ := split(out)
		b, _ := split(forged)
		if sameHash(a.local, b.local) && equalFold(a.domain, b.domain) {
			return
		}
	}
	t.Fatalf("Reverse(%q) = %q", forged, got)
}

func sameHash(a, b string) bool {
	folded := func(s string) string {
		hash, rest, _ := strings.Cut(s[min(5, len(s)):], "=")
		hash = strings.NewReplacer("-", "+", "_", "/").Replace(hash)
		return s[:min(5, len(s))] + hash + "=" + rest
	}
	return equalFold(folded(a), folded(b))
}

func TestNoBoundaryCanBeMoved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := base(FormatSRSD)
		r.Retired = []string{"old.example"}
		out := forward(t, r, drawAddress(t))
		a, _ := split(out)
		// Take the separators out and put as many in elsewhere.
		fields := strings.SplitN(a.local[5:], "=", 4)
		text := []byte(strings.Join(fields[1:], ""))
		first := rapid.IntRange(0, len(text)).Draw(t, "first")
		second := rapid.IntRange(first, len(text)).Draw(t, "second")
		moved := string(text[:first]) + "=" + string(text[first:second]) + "=" + string(text[second:])
		for _, tag := range []string{"SRS0", "SRS1"} {
			for _, sep := range "=+-" {
				for _, domain := range []string{"fwd.example", "old.example"} {
					local := tag + string(sep) + fields[0] + "=" + moved
					if local == a.local && domain == a.domain {
						continue
					}
					if got, err := r.Reverse(string(appendMailbox(nil, []byte(local), domain))); err == nil {
						t.Fatalf("%s@%s leads to %s", local, domain, got)
					}
				}
			}
		}
	})
}

func TestNoDomainCanBeSwapped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := base(FormatSRSD)
		r.Retired = []string{"old.example"}
		out := forward(t, r, drawAddress(t))
		swapped := strings.TrimSuffix(out, "fwd.example") + "old.example"
		if _, err := r.Reverse(swapped); !errors.Is(err, ErrHash) {
			t.Fatalf("Reverse(%q): %v", swapped, err)
		}
		r.Domain, r.Retired = "old.example", []string{"fwd.example"}
		if _, err := r.Reverse(out); err != nil {
			t.Fatalf("at a retired domain: %v", err)
		}
	})
}

func TestTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRewriter(t)
		id := rapid.SliceOfN(rapid.Byte(), 1, maxTokenID).Draw(t, "id")
		out, err := r.Token(id)
		if err != nil || strings.IndexByte(out, '@') > 30 || !IsSRS(out) {
			t.Fatalf("Token(%x) = %q, %v", id, out, err)
		}
		for _, in := range []string{out, strings.ToLower(out)} {
			if got, err := r.ParseToken(in); string(got) != string(id) || err != nil {
				t.Fatalf("ParseToken(%q) = %x, %v; want %x", in, got, err, id)
			}
			if _, err := r.Reverse(in); !errors.Is(err, ErrToken) {
				t.Fatalf("Reverse(%q): %v", in, err)
			}
		}
		i := rapid.IntRange(0, len(out)-1).Draw(t, "position")
		c := rapid.Byte().Draw(t, "octet")
		if forged := out[:i] + string([]byte{c}) + out[i+1:]; !equalFold(forged, out) {
			if got, err := r.ParseToken(forged); err == nil {
				t.Fatalf("ParseToken(%q) = %x", forged, got)
			}
		}
		// Another forwarder takes it for an SRS0 and brings it back.
		r2 := base(FormatSRSD)
		r2.Domain, r2.Now = "second.example", r.Now
		there, err := r2.Forward(out)
		if err != nil || !strings.HasPrefix(there, "SRS1") {
			t.Fatalf("Forward(%q) = %q, %v", out, there, err)
		}
		if back, err := r2.Reverse(there); back != out || err != nil {
			t.Fatalf("Reverse(%q) = %q, %v", there, back, err)
		}
	})
}

// SRS1 takes no field more from hop to hop, and leads to the first one.
func TestHops(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRewriter(t)
		var hops []string
		address := "ann@sender.example"
		for i := range 4 {
			r.Domain = "h" + string(rune('1'+i)) + ".example"
			address = forward(t, r, address)
			hops = append(hops, address)
		}
		if len(hops[3]) != len(hops[1]) || !strings.Contains(hops[3], "=h1.example=") {
			t.Fatalf("%q", hops)
		}
		if back, err := r.Reverse(hops[3]); back != hops[0] || err != nil {
			t.Fatalf("Reverse(%q) = %q, %v; want %q", hops[3], back, err, hops[0])
		}
	})
}
