package srs

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// sign makes an address with a right hash over whatever fields, as somebody
// who has the key, or a collision, could.
func sign(r *Rewriter, f Format, c claim) string {
	d := r.Keys[0].hasher.digest(f, c)
	least, _ := f.bounds()
	local := "SRS" + string([]byte{c.kind, c.sep}) + string(d[:least]) + "="
	if c.kind != kindSRS1 {
		local += c.day + "="
	}
	return local + c.host + "=" + c.user + "@" + c.domain
}

// signed is an address with fields of choice and a right hash.
func signed(f Format, kind byte, day, host, user string) string {
	return sign(base(f), f, claim{kind: kind, sep: '=', domain: "fwd.example", day: day, host: host, user: user})
}

// reasons has every check of Reverse, with a hash that is right wherever it
// comes to that.
var reasons = []struct {
	name, address string
	want          error
	says          string
}{
	{"ordinary", "alice@fwd.example", ErrNotSRS, ""},
	{"ordinary elsewhere", "alice@example.com", ErrNotSRS, ""},
	{"another tag", "SRS2=OOpg=G3=example.com=alice@fwd.example", ErrNotSRS, ""},
	{"no separator", "SRS0@fwd.example", ErrNotSRS, ""},
	{"empty", "", ErrNotSRS, ""},
	{"another's", "SRS0=OOpg=G3=example.com=alice@hop.example", ErrNotOurs, ""},
	{"no domain", "SRS0=OOpg=G3=example.com=alice", ErrNotOurs, ""},
	{"two @", "SRS0=OOpg=G3=example.com=alice@x@fwd.example", ErrSyntax, "more than one @"},
	{"open quote", `"SRS0=OOpg=G3=example.com=alice@fwd.example`, ErrSyntax, "quote"},
	{"text behind quote", `"SRS0=OOpg=G3=example.com=alice"x@fwd.example`, ErrSyntax, "text between"},
	{"no fields", "SRS0=@fwd.example", ErrSyntax, "no hash"},
	{"fields only", "SRS0=====@fwd.example", ErrSyntax, "no hash"},
	{"hash only", "SRS0=OOpg@fwd.example", ErrSyntax, "no hash"},
	{"odd hash", "SRS0=OO*g=G3=example.com=alice@fwd.example", ErrSyntax, "no hash, or one"},
	{"no domain field", "SRS0=OOpg=G3@fwd.example", ErrSyntax, "no domain behind"},
	{"no local field", "SRS0=OOpg=G3=example.com@fwd.example", ErrSyntax, "no local part behind"},
	{"short day", signed(FormatClassic, '0', "G", "example.com", "alice"), ErrSyntax, `timestamp "G"`},
	{"long day", signed(FormatClassic, '0', "AG3", "example.com", "alice"), ErrSyntax, `timestamp "AG3"`},
	{"odd day", signed(FormatClassic, '0', "G1", "example.com", "alice"), ErrSyntax, `timestamp "G1"`},
	{"bad label", signed(FormatSRSD, '0', "G3", "example..com", "alice"), ErrSyntax, "bad label"},
	{"bad domain", signed(FormatSRSD, '0', "G3", "exa!mple.com", "alice"), ErrSyntax, "'!' is not allowed"},
	{"bad literal", signed(FormatSRSD, '0', "G3", "[192.0.2]", "alice"), ErrSyntax, "literal"},
	{"control", signed(FormatSRSD, '0', "G3", "example.com", "ali\rce"), ErrSyntax, "control"},
	{"C1 control", signed(FormatSRSD, '0', "G3", "example.com", "ali\u0085ce"), ErrSyntax, "control"},
	{"no UTF-8", signed(FormatSRSD, '0', "G3", "example.com", "ali\xffce"), ErrSyntax, "UTF-8"},
	{"quote inside", signed(FormatSRSD, '0', "G3", "example.com", `ali"ce`), ErrSyntax, "quote inside"},
	{"one label", signed(FormatClassic, '0', "G3", "localhost", "alice"), ErrSyntax, "full domain name"},
	{"short top label", signed(FormatClassic, '0', "G3", "example.c", "alice"), ErrSyntax, "full domain name"},
	{"numeric top label", signed(FormatClassic, '0', "G3", "192.0.2.77", "alice"), ErrSyntax, "full domain name"},
	{"classic, no local part", signed(FormatClassic, '0', "G3", "example.com", ""), ErrSyntax, "local part is empty"},
	{"classic, separator first", signed(FormatClassic, '0', "G3", "example.com", "+x"), ErrSyntax, "begins with a separator"},
	{"srsd, quotes inside", signed(FormatSRSD, '0', "G3", "example.com", `"a b"`), ErrHash, "no key"},
	{"good classic, quotes inside", signed(FormatClassic, '0', "G3", "example.com", `"a b"`), nil, ""},
	{"SRS1, no SRS0 inside", signed(FormatSRSD, '1', "", "hop.example", "alice"), ErrSyntax, "inside SRS1"},
	{"SRS1, quote inside", signed(FormatSRSD, '1', "", "hop.example", `=HHHH=G3=a.example="b"`), ErrSyntax, "quote"},
	{"SRS1 to one label", signed(FormatClassic, '1', "", "localhost", "=HHHH=G3=a.example=b"), ErrSyntax, "full domain name"},
	{"short hash", "SRS0=OOp=G3=example.com=alice@fwd.example", ErrHash, "has 3 characters"},
	{"forged", "SRS0=AAAA=G3=example.com=alice@fwd.example", ErrHash, "no key"},
	{"forged and expired", "SRS0=AAAA=AA=example.com=alice@fwd.example", ErrHash, "no key"},
	{"old", signed(FormatSRSD, '0', "GF", "example.com", "alice"), ErrExpired, "22 days old, 21 are allowed"},
	{"ahead", signed(FormatSRSD, '0', "G5", "example.com", "alice"), ErrFuture, "2 days ahead, 1 are allowed"},
	{"SRS1, old inside", signed(FormatSRSD, '1', "", "hop.example", "=HHHH=GF=a.example=b"), ErrExpired, "22 days old"},
	{"SRS1, ahead inside", signed(FormatSRSD, '1', "", "hop.example", "=HHHH=G5=a.example=b"), ErrFuture, "2 days ahead"},
	{"good", signed(FormatSRSD, '0', "G3", "example.com", "alice"), nil, ""},
	{"good SRS1", signed(FormatSRSD, '1', "", "hop.example", "=HHHH=G3=a.example=b"), nil, ""},
	{"good classic", signed(FormatClassic, '0', "G3", "example.com", "alice"), nil, ""},
	{"good, oldest", signed(FormatSRSD, '0', "GG", "example.com", "alice"), nil, ""},
	{"good, ahead", signed(FormatSRSD, '0', "G4", "example.com", "alice"), nil, ""},
}

func TestReasons(t *testing.T) {
	for _, x := range reasons {
		r := base(FormatSRSD)
		r.Accept = []Format{FormatClassic}
		_, err := r.Reverse(x.address)
		if !errors.Is(err, x.want) || err != nil && !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: Reverse(%q): %v, want %v %q", x.name, x.address, err, x.want, x.says)
		}
		if e := r.Explain(x.address); e.Valid != (x.want == nil) || !errors.Is(e.Err, x.want) {
			t.Errorf("%s: Explain(%q): %+v", x.name, x.address, e)
		}
	}
}

// What an attacker makes of the classic address of alice@example.com, and of
// SRS1 addresses that a classic forwarder has signed for him.
func TestClassicHoles(t *testing.T) {
	r := base(FormatClassic)
	for _, a := range []string{
		"SRS0=OOpg=G3=e=xample.comalice@fwd.example",
		"SRS0=OOpg=G3=example.c=omalice@fwd.example",
		"SRS0=OOpg=G3=example.comalice=@fwd.example",
		"SRS0=OOpg=G3==example.comalice@fwd.example",
		"SRS0=OOpg=G3e=xample.com=alice@fwd.example",
		"SRS0=OOpg=G=3example.com=alice@fwd.example",
		"SRS0=OOpggarbage=G3=example.com=alice@fwd.example",
		"SRS0=OOpgs=G3=example.com=alice@fwd.example",
		"SRS0=OOp=G3=example.com=alice@fwd.example",
		"SRS1=OOpg=G3example.com=alice@fwd.example",
		"SRS1=OOpg=g3example.co=malice@fwd.example",
		"SRS0=3wcr=G3=victim.example==bob@fwd.example",
		"SRS1=V0kT=hop1.exampl=e=HHHH=TT=orig.example=alice@fwd.example",
		"SRS1=V0kT=hop1.example==HHHH=TT=orig.examplealice@fwd.example",
		"SRS1=V0kT=hop1.example==HHHH=TTorig.example=alice@fwd.example",
	} {
		if got, err := r.Reverse(a); err == nil {
			t.Errorf("Reverse(%s) = %s", a, got)
		}
	}
	// The one shift that nothing can tell: between two valid domain names. The
	// srsd format signs the boundary.
	if got, err := r.Reverse("SRS0=OOpg=G3=example.co=malice@fwd.example"); got != "malice@example.co" {
		t.Errorf("%s, %v: document that the format has become better than it can be", got, err)
	}
}

func TestForwardRefuses(t *testing.T) {
	long := strings.Repeat("x", 60) + "@example.com"
	for _, x := range []struct {
		format  Format
		address string
		want    error
	}{
		{FormatSRSD, "alice", ErrSyntax},
		{FormatSRSD, "alice@", ErrSyntax},
		{FormatSRSD, "@example.com", ErrSyntax},
		{FormatSRSD, "a@b@example.com", ErrSyntax},
		{FormatSRSD, "a b@example.com", ErrSyntax},
		{FormatSRSD, ".a@example.com", ErrSyntax},
		{FormatSRSD, "a..b@example.com", ErrSyntax},
		{FormatSRSD, "a@example..com", ErrSyntax},
		{FormatSRSD, "a@-example.com", ErrSyntax},
		{FormatSRSD, `"a@example.com`, ErrSyntax},
		{FormatSRSD, "a\r\n@example.com", ErrSyntax},
		{FormatSRSD, "\"a\x00\"@example.com", ErrSyntax},
		{FormatSRSD, "a\xff@example.com", ErrSyntax},
		{FormatSRSD, strings.Repeat("x", 100_000), ErrSyntax},
		{FormatSRSD, long, ErrTooLong},
		{FormatSRSD, "x@" + strings.Repeat("d.", 120) + "example", ErrTooLong},
		{FormatSRSD, `"` + strings.Repeat(`\"`, 30) + `"@example.com`, ErrTooLong},
		{FormatSRSD, `""@example.com`, nil},
		{FormatSRSD, "+x@example.com", nil},
		{FormatSRSD, "x@localhost", nil},
		{FormatClassic, `""@example.com`, ErrTooLong},
		{FormatClassic, "+x@example.com", ErrTooLong},
		{FormatClassic, "x@localhost", ErrTooLong},
	} {
		if _, err := base(x.format).Forward(x.address); !errors.Is(err, x.want) {
			t.Errorf("%v: Forward(%.80q): %v, want %v", x.format, x.address, err, x.want)
		}
	}
}

// 64 octets of local part and a long SRS domain are too much together.
func TestForwardRefusesLongAddress(t *testing.T) {
	r := base(FormatSRSD)
	const in = "a.local.part.of.some.length.xx@example.com"
	for labels, want := range map[int]error{31: nil, 32: ErrTooLong} {
		r.Domain = strings.Repeat("label.", labels) + "example"
		if out, err := r.Forward(in); !errors.Is(err, want) {
			t.Errorf("%d octets of domain: %s, %v", len(r.Domain), out, err)
		}
	}
}

// What is no longer good is not signed as SRS1, whose age nobody would see.
func TestStaleSRS0(t *testing.T) {
	const in = "SRS0=HHHH=AA=orig.example=alice@hop1.example"
	r := base(FormatSRSD)
	out, err := r.Forward(in)
	if err != nil || !strings.HasPrefix(out, "SRS0=") {
		t.Fatalf("%s, %v", out, err)
	}
	if back, err := r.Reverse(out); back != in || err != nil {
		t.Errorf("%s, %v", back, err)
	}
}

func TestHashLengths(t *testing.T) {
	r := base(FormatClassic)
	r.HashLength, r.HashMinimum, r.Accept = 10, 6, []Format{FormatSRSD}
	full, _ := r.Forward("alice@example.com")
	for n := 1; n <= 12; n++ {
		hash := full[5:15] + "xx"
		_, err := r.Reverse("SRS0=" + hash[:n] + full[15:])
		if (err == nil) != (6 <= n && n <= 10) {
			t.Errorf("%d characters: %v", n, err)
		}
	}
	r2 := base(FormatSRSD)
	r2.HashLength = 16
	long, _ := r2.Forward("alice@example.com")
	if _, err := r.Reverse(long); err != nil {
		t.Errorf("a longer hash of the other format: %v", err)
	}
	if _, err := r.Reverse(long[:5+7] + long[5+16:]); !errors.Is(err, ErrHash) {
		t.Errorf("seven characters of srsd: %v", err)
	}
	r.Accept = nil
	if _, err := r.Reverse(long); !errors.Is(err, ErrHash) {
		t.Errorf("not accepted: %v", err)
	}
}

func TestValidate(t *testing.T) {
	if err := base(FormatSRSD).Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Rewriter){
		"format":       func(r *Rewriter) { r.Format = 2 },
		"keys":         func(r *Rewriter) { r.Keys = nil },
		"separator":    func(r *Rewriter) { r.Separator = '#' },
		"short":        func(r *Rewriter) { r.HashLength = 7 },
		"long":         func(r *Rewriter) { r.HashLength = 33 },
		"minimum":      func(r *Rewriter) { r.HashMinimum = 9 },
		"low minimum":  func(r *Rewriter) { r.HashMinimum = 3 },
		"age":          func(r *Rewriter) { r.MaxAge = -1 },
		"great age":    func(r *Rewriter) { r.MaxAge = 600 * day },
		"domain":       func(r *Rewriter) { r.Domain = "" },
		"no domain":    func(r *Rewriter) { r.Domain = "$mydomain" },
		"sign and end": func(r *Rewriter) { r.Keys[0].SignUntil = time.Unix(1, 0) },
	} {
		r := base(FormatSRSD)
		change(r)
		_, err := r.Forward("alice@example.com")
		_, err2 := r.Token([]byte{1})
		if !errors.Is(err, ErrConfig) || !errors.Is(err2, ErrConfig) {
			t.Errorf("%s: %v, %v", name, err, err2)
		}
	}
}

func TestFutureAndAge(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for _, x := range []struct {
		maxAge, future time.Duration
		days           int // how old the address is
		want           error
	}{
		{0, 0, 21, nil}, {0, 0, 22, ErrExpired}, {0, 0, -1, nil}, {0, 0, -2, ErrFuture},
		{7 * day, 3 * day, 7, nil}, {7 * day, 3 * day, 8, ErrExpired}, {7 * day, 3 * day, -3, nil}, {7 * day, 3 * day, -4, ErrFuture},
		{0, -1, 0, nil}, {0, -1, -1, ErrFuture}, {0, 0, 511, ErrExpired}, {0, 0, -512, ErrFuture}, {0, 0, 1024, nil},
	} {
		r := base(FormatSRSD)
		r.MaxAge, r.Future = x.maxAge, x.future
		r.Now = func() time.Time { return now.Add(-time.Duration(x.days) * day) }
		out, err := r.Forward("alice@example.com")
		if err != nil {
			t.Fatal(err)
		}
		r.Now = func() time.Time { return now }
		if _, err := r.Reverse(out); !errors.Is(err, x.want) {
			t.Errorf("%+v: %v", x, err)
		}
	}
}

func TestDayNumber(t *testing.T) {
	for unix, want := range map[int64]string{
		0: "AA", 86399: "AA", 86400: "AB", 88387200: "77", 88473600: "AA", 1700000000: "G3", 4102444800: "L2", -1: "77",
	} {
		if got := stamp(dayNumber(time.Unix(unix, 0))); string(got[:]) != want {
			t.Errorf("%d: %s, want %s", unix, got, want)
		}
	}
}

func TestExplain(t *testing.T) {
	r := base(FormatSRSD)
	r.Accept = []Format{FormatClassic}
	token, err := r.Token([]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]Explanation{
		"SRS0=OOpg=G3=example.com=alice@fwd.example": {
			Kind: "SRS0", Format: "classic", Key: "k1", Hash: "OOpg", Timestamp: "G3", Domain: "example.com", Local: "alice",
			Valid: true, Reverse: "alice@example.com", NextHop: "example.com",
		},
		"SRS1=SWS2Y634=hop1.example==HHHH=G3=orig.example=alice@fwd.example": {
			Kind: "SRS1", Format: "srsd", Key: "k1", Hash: "SWS2Y634", Timestamp: "G3", Domain: "hop1.example", Local: "=HHHH=G3=orig.example=alice",
			Valid: true, Reverse: "SRS0=HHHH=G3=orig.example=alice@hop1.example", NextHop: "hop1.example",
		},
		token: {Kind: "token", Format: "srsd", Key: "k1", Hash: "LQ6GTOZL", Timestamp: "G3", Local: "AEBAG", Valid: true},
		"SRS0=abcd=G2=example.com=alice@hop.example": {
			Kind: "SRS0", Hash: "abcd", Timestamp: "G2", AgeDays: 1, Domain: "example.com", Local: "alice",
			Error: "srs: not at an SRS domain of ours", Reverse: "alice@example.com", NextHop: "example.com",
		},
		"SRS0=abcd=G22=example.com=alice@fwd.example": {
			Kind: "SRS0", Hash: "abcd", Timestamp: "G22", Error: `srs: syntax: timestamp "G22" is not two characters of base32`,
		},
		"alice@example.com": {Error: "srs: not an SRS address"},
		"a@b@c":             {Error: "srs: syntax: more than one @ outside quotes"},
	} {
		got := r.Explain(address)
		got.Err = nil
		if got != want {
			t.Errorf("Explain(%s):\n%+v, want\n%+v", address, got, want)
		}
	}
	if e := new(Rewriter).Explain("alice@example.com"); !errors.Is(e.Err, ErrConfig) {
		t.Errorf("%+v", e)
	}
}
