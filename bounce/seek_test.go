package bounce

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// seek is the tests' own search for a secret, which shares nothing with leaks:
// it returns the forms in which it can be read out of a text.
func seek(text []byte, secret string) (forms []string) {
	raw := string(text)
	for form, s := range map[string]string{
		"raw":              raw,
		"folded":           regexp.MustCompile(`\r\n[ \t]+`).ReplaceAllString(raw, ""),
		"lines joined":     strings.NewReplacer("\r", "", "\n", "", " ", "", "\t", "").Replace(raw),
		"quoted-printable": seekQP(raw),
		"percent":          seekPairs(raw, `%`),
		"xtext":            seekPairs(raw, `\+`),
		"html":             seekHTML(raw),
		"encoded words":    seekWords(raw),
		"parameter pieces": regexp.MustCompile(`"?;\s*[a-z]+\*\d+\*?="?`).ReplaceAllString(seekPairs(raw, `%`), ""),
		"base64":           seekBase64(raw),
		"base64 of UTF-16": strings.ReplaceAll(seekBase64(raw), "\x00", ""),
	} {
		if strings.Contains(strings.ToLower(s), strings.ToLower(secret)) {
			forms = append(forms, form)
		}
	}
	return forms
}

func seekQP(s string) string {
	s = regexp.MustCompile(`=[ \t]*\r\n`).ReplaceAllString(s, "")
	return seekPairs(s, "=")
}

func seekPairs(s, sign string) string {
	return regexp.MustCompile(sign+`[0-9A-Fa-f]{2}`).ReplaceAllStringFunc(s, func(x string) string {
		u, err := url.PathUnescape("%" + x[1:])
		if err != nil {
			return x
		}
		return u
	})
}

func seekHTML(s string) string {
	s = regexp.MustCompile(`</?(b|i|span|a|wbr)( [^>]*)?>`).ReplaceAllString(s, "")
	return regexp.MustCompile(`&#(x[0-9A-Fa-f]+|[0-9]+);`).ReplaceAllStringFunc(s, func(x string) string {
		var n rune
		if fmt.Sscanf(x, "&#x%x;", &n); n == 0 {
			fmt.Sscanf(x, "&#%d;", &n)
		}
		return string(n)
	})
}

func seekWords(s string) string {
	d := mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}
	var out strings.Builder
	for _, line := range strings.Split(regexp.MustCompile(`\r\n[ \t]+`).ReplaceAllString(s, " "), "\r\n") {
		if plain, err := d.DecodeHeader(line); err == nil {
			out.WriteString(plain + "\n")
		}
	}
	return out.String()
}

func seekBase64(s string) string {
	var out strings.Builder
	for _, run := range regexp.MustCompile(`[A-Za-z0-9+/]{8,}={0,2}(\r\n[A-Za-z0-9+/]+={0,2})*`).FindAllString(s, -1) {
		run = strings.NewReplacer("\r", "", "\n", "", "=", "").Replace(run)
		for skip := range min(4, len(run)) {
			part := run[skip:]
			part = part[:len(part)-len(part)%4]
			if d, err := base64.StdEncoding.DecodeString(part); err == nil {
				out.Write(append(d, '\n'))
			}
		}
		if d, err := base64.RawStdEncoding.DecodeString(run); err == nil {
			out.Write(append(d, '\n'))
		}
	}
	return out.String()
}

// TestSeek is the test of the test.
func TestSeek(t *testing.T) {
	const secret = "jo.private@target.example"
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	io.WriteString(w, strings.Repeat("x", 60)+" "+secret)
	w.Close()
	wide := ""
	for _, c := range secret {
		wide += string(c) + "\x00"
	}
	for form, text := range map[string]string{
		"raw":              "<JO.private@TARGET.example>",
		"folded":           "X: jo.private@\r\n target.example",
		"lines joined":     "jo.private\r\n@ target.example",
		"quoted-printable": qp.String(),
		"percent":          "jo.private%40target.example",
		"xtext":            "jo.private+40target.example",
		"html":             "jo.private<b>&#64;</b>target&#x2e;example",
		"encoded words":    "Subject: =?iso-8859-1?q?jo.private?= =?iso-8859-1?b?QHRhcmdldC5leGFtcGxl?=",
		"parameter pieces": "name*0=\"jo.pri\"; name*1=\"vate@target.example\"",
		"base64":           base64.StdEncoding.EncodeToString([]byte("some more: " + secret + " and more")),
		"base64 of UTF-16": base64.StdEncoding.EncodeToString([]byte(wide)),
	} {
		if got := strings.Join(seek([]byte(text), secret), ", "); !strings.Contains(got, form) {
			t.Errorf("%s: found in %q", form, got)
		}
	}
	if got := seek([]byte("jo.public@target.example"), secret); got != nil {
		t.Errorf("%v", got)
	}
}
