package bounce

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strconv"
	"strings"
)

var (
	encodedRun = regexp.MustCompile(`[A-Za-z0-9+/_-]{8,}(?:\r?\n[ \t]*[A-Za-z0-9+/_-]+)*`)
	hexPair    = regexp.MustCompile(`[=%+][0-9A-Fa-f]{2}`)
	htmlCode   = regexp.MustCompile(`&#x?[0-9A-Fa-f]{1,6};`)
)

// leaks says whether one of the secrets (lower case) can be read out of text:
// as it stands, across folds and line ends, quoted-printable, percent or xtext
// encoded, as HTML, or in base64 from any offset. It decodes without regard to
// what the text says of itself, so it finds too much rather than too little.
func leaks(text []byte, secrets []string) bool {
	joined := strings.NewReplacer("=\r\n", "", "\r\n", "", " ", "", "\t", "").Replace(string(text))
	soft := strings.ReplaceAll(string(text), "=\r\n", "")
	forms := []string{
		string(text), joined, unpair(soft), unpair(joined),
		htmlCode.ReplaceAllStringFunc(string(text), uncode),
		frombase64(text),
	}
	for _, form := range forms {
		form = strings.ToLower(form)
		for _, secret := range secrets {
			if strings.Contains(form, secret) {
				return true
			}
		}
	}
	return false
}

func unpair(s string) string {
	return hexPair.ReplaceAllStringFunc(s, func(pair string) string {
		n, err := strconv.ParseUint(pair[1:], 16, 8)
		if err != nil {
			return pair
		}
		return string([]byte{byte(n)})
	})
}

func uncode(entity string) string {
	digits, base := strings.Trim(entity, "&#;"), 10
	if digits[0] == 'x' || digits[0] == 'X' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseInt(digits, base, 32)
	if err != nil {
		return entity
	}
	return string(rune(n))
}

// frombase64 is what every run of base64 characters decodes to, from each of
// its four possible beginnings.
func frombase64(text []byte) string {
	var out bytes.Buffer
	clean := strings.NewReplacer("\r", "", "\n", "", " ", "", "\t", "", "-", "+", "_", "/")
	for _, run := range encodedRun.FindAll(text, -1) {
		s := clean.Replace(string(run))
		for skip := range 4 {
			if skip > len(s) {
				break
			}
			whole := s[skip:]
			whole = whole[:len(whole)-len(whole)%4]
			if d, err := base64.StdEncoding.DecodeString(whole); err == nil {
				out.Write(d)
			}
			if rest := s[skip:]; len(rest)%4 != 1 { // a last group without padding
				if d, err := base64.RawStdEncoding.DecodeString(rest); err == nil {
					out.Write(d)
				}
			}
			out.WriteByte('\n')
		}
	}
	return out.String()
}
