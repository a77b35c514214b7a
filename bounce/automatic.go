package bounce

import (
	"strings"

	"srsd/envelope"
)

// IsAutomatic says whether a message is an automatic reply or the like: whether
// it has an Auto-Submitted field that does not say "no" (RFC 3834, section 5).
func IsAutomatic(body envelope.Body) bool {
	text, err := beginning(body)
	if err != nil {
		return false
	}
	var p part
	_, _ = p.readHeader(text) // the fields before a broken line count
	for _, f := range p.header {
		if f.name == "auto-submitted" {
			keyword, _, _ := strings.Cut(strings.ToLower(f.value()), ";")
			keyword, _, _ = strings.Cut(keyword, "(")
			return strings.TrimSpace(keyword) != "no"
		}
	}
	return false
}
