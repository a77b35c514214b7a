package relay

import (
	"errors"
	"fmt"
	"regexp"
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

// typeError is the form of the decoder's message about a value of the wrong type.
var typeError = regexp.MustCompile(`^toml: line (\d+) \(last key "([^"]*)"\): (.*)$`)

// decodeError names file, line and key of what the decoder did not like.
func decodeError(path string, data []byte, err error) error {
	if m := typeError.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s:%s: %s: %s", path, m[1], m[2], goTypes.Replace(m[3]))
	}
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return fmt.Errorf("%s: %s", path, goTypes.Replace(err.Error()))
	}
	text := goTypes.Replace(pe.Message)
	// The last key is the one at fault only where it stands in the line at fault.
	if pe.LastKey != "" && keyLine(string(data), pe.LastKey) == pe.Position.Line {
		text = pe.LastKey + ": " + text
	}
	return fmt.Errorf("%s:%d: %s", path, pe.Position.Line, text)
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
