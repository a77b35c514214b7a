package srs

import (
	"bufio"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A vector is one input and output of a program of the classic family, run for
// real: PostSRSd 1.10 and 2.4.0, Mail::SRS 0.31, libsrs2.
type vector struct {
	Impl, Op, Domain, Input, Output, Error, Note string
	Secret                                       oneOrMore
	Time                                         int64
	Options                                      json.RawMessage
}

type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(data []byte) error {
	*o = make([]string, 1)
	if data[0] == '"' {
		return json.Unmarshal(data, &(*o)[0])
	}
	return json.Unmarshal(data, (*[]string)(o))
}

var (
	lengthOption    = regexp.MustCompile(`(?:-n|hash-length = |"HashLength": |"-l", ")(\d+)`)
	minimumOption   = regexp.MustCompile(`(?:-N|hash-minimum = |"HashMin": )(\d+)`)
	separatorOption = regexp.MustCompile(`(?:-a|separator = \\"|"Separator": "|"-e", ")([+-])`)
)

// rewriter is set up as the program was.
func (v vector) rewriter() *Rewriter {
	r := &Rewriter{
		Domain: v.Domain, Format: FormatClassic, HashMinimum: 4, Future: -1,
		Now: func() time.Time { return time.Unix(v.Time, 0) },
	}
	for i, s := range v.Secret {
		r.Keys = append(r.Keys, NewKey(strconv.Itoa(i), []byte(s)))
	}
	if v.Impl == "postsrsd-2.4.0" {
		r.Alphabet = AlphabetURL
	}
	if !strings.HasPrefix(v.Impl, "postsrsd") {
		r.HashMinimum = 0 // PostSRSd accepts four characters of a longer hash, the others want all
	}
	if m := lengthOption.FindSubmatch(v.Options); m != nil {
		r.HashLength, _ = strconv.Atoi(string(m[1]))
	}
	if m := minimumOption.FindSubmatch(v.Options); m != nil {
		r.HashMinimum, _ = strconv.Atoi(string(m[1]))
	}
	if m := separatorOption.FindSubmatch(v.Options); m != nil {
		r.Separator = m[1][0]
	}
	return r
}

func vectors(t testing.TB) (vs []vector) {
	f, err := os.Open("testdata/classic.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		vs = append(vs, v)
	}
	return vs
}

// A difference is where srsd must not do as one of the classics does.
type difference struct {
	op, input string // the vectors it is about
	impl      string // the beginning of their impl; "" for all
	options   string // part of their options
	want      string // what srsd returns; "" for an error, null for an empty result
	reason    string
}

func (d difference) covers(v vector) bool {
	return d.op == v.Op && d.input == v.Input && strings.HasPrefix(v.Impl, d.impl) && strings.Contains(string(v.Options), d.options)
}

func (d difference) allows(got string, err error) bool {
	if d.want == null {
		return got == "" && err == nil
	}
	return got == d.want && (err != nil) == (d.want == "")
}

// Every vector is reproduced, but for the differences, and those are needed.
func TestVectors(t *testing.T) {
	used := make([]bool, len(differences))
	reproduced, differing := 0, 0
	for _, v := range vectors(t) {
		op := v.rewriter().Forward
		if v.Op == "reverse" {
			op = v.rewriter().Reverse
		}
		got, err := op(v.Input)
		if got == v.Output && (err != nil) == (v.Error != "") {
			reproduced++
			continue
		}
		known := false
		for i, d := range differences {
			if d.covers(v) && d.allows(got, err) {
				used[i], known = true, true
			}
		}
		differing++
		if !known {
			t.Errorf("%s %s %s: %s(%q) = %q, %v; want %q %s (%s)", v.Impl, v.Options, v.Secret, v.Op, v.Input, got, err, v.Output, v.Error, v.Note)
		}
	}
	for i, d := range differences {
		if !used[i] {
			t.Errorf("no vector needs the difference %+v", d)
		}
	}
	t.Logf("%d reproduced, %d differ as listed", reproduced, differing)
}
