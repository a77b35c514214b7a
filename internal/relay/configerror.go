package relay

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// A badKey is what check finds wrong with one key.
type badKey struct {
	key  string // "deliver.mode"
	text string
}

func (b badKey) Error() string { return b.key + ": " + b.text }

func bad(key, format string, args ...any) error {
	return badKey{key: key, text: fmt.Sprintf(format, args...)}
}

// goTypes are the words of Go in the decoder's messages, and ours for them.
var goTypes = strings.NewReplacer(
	"incompatible types: ", "", "TOML value has type ", "the value is of type ",
	"; destination has type ", ", wanted is ", "slice", "a list", "integer", "a number",
	"[]string", "a list of strings", "relay.Duration", "a duration in quotes", "relay.Size", "a size in quotes",
	"relay.Network", "a network in quotes", "map[string]string", "a table", "toml: ", "",
)

// atLine is the form of the decoder's messages that say where.
var atLine = regexp.MustCompile(`^toml: line (\d+) \(last key "([^"]*)"\): (.*)$`)

// decodeError names file, line and key of what the decoder did not like.
func decodeError(path string, data []byte, err error) error {
	line, key, text := 0, "", err.Error()
	var pe toml.ParseError
	if m := atLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		key, text = m[2], m[3]
	} else if errors.As(err, &pe) {
		line, key, text = pe.Position.Line, pe.LastKey, pe.Message
	}
	text = goTypes.Replace(text)
	switch {
	case line == 0:
		return fmt.Errorf("%s: %s", path, text)
	case keyLine(string(data), key) == line: // the last key is not always the one at fault
		return fmt.Errorf("%s:%d: %s: %s", path, line, key, text)
	default:
		return fmt.Errorf("%s:%d: %s", path, line, text)
	}
}

// keyError names the line where a key stands, or where its section begins when
// the key itself is missing.
func keyError(path string, data []byte, key, text string) error {
	if line := keyLine(string(data), key); line > 0 {
		return fmt.Errorf("%s:%d: %s: %s", path, line, key, text)
	}
	return fmt.Errorf("%s: %s: %s", path, key, text)
}

// keyLine is the number of the line that sets "section.key", else of the line
// that opens the section, else 0.
func keyLine(data, key string) int {
	section, name := "", key
	if i := strings.IndexByte(key, '.'); i >= 0 {
		section, name = key[:i], key[i+1:]
	}
	name, _, _ = strings.Cut(name, ".")
	header := regexp.MustCompile(`^\s*\[\s*([A-Za-z0-9_."-]+)\s*\]`)
	sets := regexp.MustCompile(`^\s*"?` + regexp.QuoteMeta(name) + `"?\s*[.=]`)
	dotted := regexp.MustCompile(`^\s*` + regexp.QuoteMeta(key) + `\s*=`)
	current, opened := "", 0
	for i, line := range strings.Split(data, "\n") {
		if m := header.FindStringSubmatch(line); m != nil {
			if current = m[1]; current == section || current == key {
				opened = i + 1
			}
			continue
		}
		if current == section && sets.MatchString(line) || current == "" && dotted.MatchString(line) {
			return i + 1
		}
	}
	return opened
}
