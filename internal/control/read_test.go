package control

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	for in, want := range map[string]string{
		`{"end":true}`:          "",
		"1\n2\n{\"end\":true}":  "1 2 ",
		`{"error":"no"}`:        "error no",
		"1\n{\"error\":\"no\"}": "1 error no",
		"":                      "cut",
		"1\n2\n":                "1 cut",
		"1\n{\"e":               "cut",
		"{}":                    "cut",
		"{\"end\":true}\n3\n":   `{"end":true} cut`,
	} {
		got := ""
		err := read(strings.NewReader(in), func(line json.RawMessage) error {
			got += string(line) + " "
			return nil
		})
		switch {
		case errors.Is(err, errCut):
			got += "cut"
		case err != nil:
			got += "error " + err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
