package bounce

import (
	"bytes"
	"testing"
)

func TestIsAutomatic(t *testing.T) {
	for text, want := range map[string]bool{
		"Subject: away\r\nAuto-Submitted: auto-replied\r\n\r\nx": true,
		"AUTO-SUBMITTED:\r\n auto-generated; type=x\r\n\r\n":     true,
		"Auto-Submitted: no\r\n\r\n":                             false,
		"Auto-Submitted: NO (really)\r\n\r\n":                    false,
		"Subject: x\r\n\r\nAuto-Submitted: auto-replied\r\n":     false,
		"":                                   false,
		"broken\r\nAuto-Submitted: auto\r\n": false,
	} {
		if got := IsAutomatic(bytes.NewReader([]byte(text))); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
