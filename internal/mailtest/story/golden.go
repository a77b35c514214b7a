package story

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"srsd/internal/mailtest"
)

// A taken is a message that a mail server took, as text.
type taken struct{ host, text string }

// fresh returns the messages that were not told yet, in order of arrival at
// each host.
func (w *world) fresh() []taken {
	all := slices.Clone(w.gone)
	for host, m := range w.mx {
		if m != nil {
			all = append(all, takenBy(host, m)...)
		}
	}
	told := map[taken]int{}
	return slices.DeleteFunc(all, func(x taken) bool {
		told[x]++
		return told[x] <= w.seen[x]
	})
}

func takenBy(host string, m *mailtest.MX) []taken {
	var out []taken
	for _, x := range m.Messages() {
		var b strings.Builder
		b.WriteString("at " + host)
		if x.TLS {
			b.WriteString(" over TLS")
		}
		fmt.Fprintf(&b, "\n%s\n%s\n", x.Mail, strings.Join(x.Rcpts, "\n"))
		for line := range strings.SplitSeq(strings.TrimSuffix(string(x.Data), "\r\n"), "\r\n") {
			b.WriteString(strings.TrimRight("| "+visible(line), " ") + "\n")
		}
		out = append(out, taken{host, b.String()})
	}
	return out
}

// visible spells out what would not survive in a text file.
func visible(line string) string {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f || c == '\ufffd' {
			q := strconv.Quote(line)
			return q[1 : len(q)-1]
		}
	}
	return line
}

// render is the text of a delivered section.
func (w *world) render(messages []taken) string {
	texts := make([]string, len(messages))
	for i, x := range messages {
		texts[i] = w.stable(x.text)
	}
	slices.Sort(texts) // servers work at the same time: there is no order between them
	return strings.Join(texts, "\n")
}

// stable gives fixed names to what is new in every run.
func (w *world) stable(text string) string {
	days := `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), `
	for pattern, name := range map[string]string{
		days + `[ 0-9]?\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}(?: \(\w+\))?`: "DATE",
		`\bSIZE=\d+`: "SIZE=N",
		`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)`: "DATE",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, name)
	}
	text = learn(text, `(?i)\bid ([0-9A-Za-z]{8,16})\b`, "ID")
	text = learn(text, `(?i)\bboundary="?([^"\s;]+)`, "BOUNDARY")
	text = regexp.MustCompile(`(?m)^(\| Message-ID: <)[^@>]*(@mx\.alumni\.example>)`).ReplaceAllString(text, "${1}ID$2")
	for _, addr := range []string{w.relay.Addr(), w.dns.Addr()} {
		_, port, _ := strings.Cut(addr, ":")
		text = wholeNumber(text, port)
	}
	text = wholeNumber(text, strconv.Itoa(w.port))
	return stableSRS(strings.ReplaceAll(text, w.net+".", "NET."))
}

func wholeNumber(text, number string) string {
	return regexp.MustCompile(`\b`+number+`\b`).ReplaceAllString(text, "PORT")
}

// learn finds what a pattern's group matches, if there is a digit in it, and
// gives it a name wherever it stands: "ID", the next one "ID2".
func learn(text, pattern, name string) string {
	n := 0
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		if !strings.ContainsAny(m[1], "0123456789") || !strings.Contains(text, m[1]) || strings.HasPrefix(m[1], name) {
			continue
		}
		n++
		as := name
		if n > 1 {
			as += strconv.Itoa(n)
		}
		text = strings.ReplaceAll(text, m[1], as)
	}
	return text
}

var (
	srs0     = regexp.MustCompile(`(?i)\b(SRS0[=+-])[0-9A-Za-z+/_-]+=[0-9A-Za-z]{2}=`)
	srs1     = regexp.MustCompile(`(?i)\b(SRS1[=+-])[0-9A-Za-z+/_-]+=`)
	stableID = regexp.MustCompile(`\bSRS[01][=+-]HASH=[^\s<>@]+@[0-9A-Za-z.-]+`)
)

func stableSRS(text string) string {
	return srs1.ReplaceAllString(srs0.ReplaceAllString(text, "${1}HASH=TT="), "${1}HASH=")
}

// actual puts the addresses of this run where a dialogue has their fixed names.
func (w *world) actual(text string) (string, error) {
	known := map[string]string{}
	for _, m := range w.mx {
		if m != nil {
			for _, x := range m.Messages() {
				known[stableSRS(x.From())] = x.From()
			}
		}
	}
	var err error
	text = stableID.ReplaceAllStringFunc(text, func(name string) string {
		address, ok := known[name]
		if !ok {
			err = fmt.Errorf("nothing was delivered from %s", name)
		}
		return address
	})
	return w.expand(text), err
}
