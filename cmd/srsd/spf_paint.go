package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"srsd/spf"
)

// A paint colours text, if a person looks at it.
type paint bool

// newPaint says whether w is a terminal that may be written to in colour
// (no-color.org).
func newPaint(w io.Writer) paint {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return paint(err == nil && info.Mode()&os.ModeCharDevice != 0)
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
)

func (p paint) in(colour, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (p paint) result(r spf.Result) string {
	switch r {
	case spf.Pass:
		return p.in(green, string(r))
	case spf.Fail, spf.PermError:
		return p.in(red, string(r))
	case spf.SoftFail, spf.TempError:
		return p.in(yellow, string(r))
	}
	return string(r)
}

// visible is text from the DNS as a terminal may show it.
func visible(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' {
			fmt.Fprintf(&b, "\\%03d", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// plural is "1 network", "2 networks".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
