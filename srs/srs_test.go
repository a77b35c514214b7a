package srs

import (
	"errors"
	"sync"
	"testing"
	"time"
)

// base is the Rewriter of most tests: 14 November 2023, day G3.
func base(f Format) *Rewriter {
	return &Rewriter{
		Domain: "fwd.example", Format: f,
		Keys: Keys{NewKey("k1", []byte("tops3cret"))},
		Now:  func() time.Time { return time.Unix(1700000000, 0) },
	}
}

func TestThereAndBack(t *testing.T) {
	for _, f := range []Format{FormatSRSD, FormatClassic} {
		for in, want := range map[string]string{
			"alice@example.com":                            "alice@example.com",
			`"a b"@example.com`:                            `"a b"@example.com`,
			`"a@b"@example.com`:                            `"a@b"@example.com`,
			`"alice"@example.com`:                          "alice@example.com",
			`"a\"\\b"@example.com`:                         `"a\"\\b"@example.com`,
			"jörg@exämple.com":                             "jörg@exämple.com",
			"u=t+a-g/x@example.com":                        "u=t+a-g/x@example.com",
			"alice@[192.0.2.1]":                            "alice@[192.0.2.1]",
			"SRS0=HHHH=G3=orig.example=alice@hop1.example": "SRS0=HHHH=G3=orig.example=alice@hop1.example",
			"SRS1=GGGG=hop1.example=+HHHH=G3=orig.example=bob@hop2.example": "SRS0+HHHH=G3=orig.example=bob@hop1.example",
		} {
			r := base(f)
			srs, err := r.Forward(in)
			if err != nil {
				t.Errorf("%v: Forward(%s): %v", f, in, err)
				continue
			}
			got, err := r.Reverse(srs)
			if got != want || err != nil {
				t.Errorf("%v: Reverse(%s) = %s, %v, want %s", f, srs, got, err, want)
			}
			r.Domain = "other.example"
			if _, err := r.Reverse(srs); !errors.Is(err, ErrNotOurs) {
				t.Errorf("%v: elsewhere: %v", f, err)
			}
		}
	}
}

// One Rewriter serves many sessions at once; the race detector watches.
func TestConcurrentUse(t *testing.T) {
	r := base(FormatSRSD)
	r.Accept = []Format{FormatClassic}
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			in := "user" + string(rune('0'+i)) + "@example.com"
			for range 200 {
				out, err := r.Forward(in)
				if err != nil {
					t.Error(err)
				}
				if back, err := r.Reverse(out); back != in || err != nil {
					t.Errorf("Reverse(%s) = %s, %v", out, back, err)
				}
				r.Reverse("SRS0=AAAA=G3=example.com=alice@fwd.example")
			}
		})
	}
	group.Wait()
}

func TestAllocations(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector empties pools")
	}
	for _, f := range []Format{FormatSRSD, FormatClassic} {
		r := base(f)
		for _, in := range []string{"alice@example.com", "SRS0=HHHH=G3=orig.example=alice@hop1.example"} {
			out, err := r.Forward(in)
			if err != nil {
				t.Fatal(err)
			}
			if n := testing.AllocsPerRun(200, func() { r.Forward(in) }); n > 2 {
				t.Errorf("%v: Forward(%s): %v allocations", f, in, n)
			}
			if n := testing.AllocsPerRun(200, func() { r.Reverse(out) }); n > 2 {
				t.Errorf("%v: Reverse(%s): %v allocations", f, out, n)
			}
		}
	}
}

func BenchmarkForward(b *testing.B) {
	r := base(FormatSRSD)
	b.ReportAllocs()
	for b.Loop() {
		r.Forward("alice@example.com")
	}
}

func BenchmarkReverse(b *testing.B) {
	r := base(FormatSRSD)
	a, _ := r.Forward("alice@example.com")
	b.ReportAllocs()
	for b.Loop() {
		r.Reverse(a)
	}
}
