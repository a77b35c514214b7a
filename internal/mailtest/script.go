package mailtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A script says what an MX answers; MX.Script describes its text. The zero
// script leaves everything to the server's good nature.
type script struct {
	lines map[moment][]action
	turn  map[moment]int
}

// A moment is a stage of a session; at mail and rcpt perhaps for one address
// only, in lower case.
type moment struct{ stage, address string }

// An action is what happens at a moment. The zero action is friendly.
type action struct {
	delay time.Duration
	drop  bool
	hang  bool
	reply string // lines separated by \n, the code on the first
}

func stages() []string {
	return []string{"banner", "ehlo", "starttls", "handshake", "mail", "rcpt", "data", "dot", "rset", "quit"}
}

func parseScript(text string) (script, error) {
	s := script{lines: map[moment][]action{}, turn: map[moment]int{}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		m, a, err := parseLine(line)
		if err != nil {
			return script{}, fmt.Errorf("mailtest: line %d of the script: %w: %s", n, err, line)
		}
		s.lines[m] = append(s.lines[m], a)
	}
	return s, nil
}

func parseLine(line string) (m moment, a action, err error) {
	m.stage, line = cutWord(line)
	if !slices.Contains(stages(), m.stage) {
		return m, a, fmt.Errorf("no stage is called %q", m.stage)
	}
	word, rest := cutWord(line)
	if (m.stage == "mail" || m.stage == "rcpt") && (strings.Contains(word, "@") || word == "<>") {
		m.address = strings.ToLower(strings.Trim(word, "<>"))
		if word == "<>" {
			m.address = "<>"
		}
		line = rest
		word, rest = cutWord(line)
	}
	if word == "wait" {
		word, line = cutWord(rest)
		if a.delay, err = time.ParseDuration(word); err != nil {
			return m, a, err
		}
		word, _ = cutWord(line)
	}
	code, _ := strconv.Atoi(word)
	switch {
	case word == "drop":
		a.drop = true
	case word == "hang":
		a.hang = true
	case word == "" && a.delay > 0:
	case len(word) == 3 && code >= 200 && code < 600:
		a.reply = strings.ReplaceAll(line, `\n`, "\n")
	default:
		return m, a, fmt.Errorf("neither a reply nor drop, hang or wait")
	}
	return m, a, nil
}

func cutWord(s string) (word, rest string) {
	word, rest, _ = strings.Cut(strings.TrimSpace(s), " ")
	return word, strings.TrimSpace(rest)
}

// next is the action for a moment: its lines in turn, the last one for ever.
func (s *script) next(stage, address string) action {
	address = strings.ToLower(address)
	if stage == "mail" && address == "" {
		address = "<>"
	}
	for _, m := range []moment{{stage, address}, {stage, ""}} {
		if lines := s.lines[m]; len(lines) > 0 {
			i := min(s.turn[m], len(lines)-1)
			s.turn[m]++
			return lines[i]
		}
	}
	return action{}
}
