package bounce

import (
	"bytes"
	"regexp"
)

// leaks says whether a target can still be read out of text: as it stands,
// across folds, line ends and blanks, quoted-printable, percent or xtext
// encoded, in pieces (RFC 2047, RFC 2231), as HTML, or in base64 from any
// offset. It decodes without regard to what the text says of itself, so it
// finds too much rather than too little.
func (f *finder) leaks(text []byte) bool {
	// find reads encoded characters itself; the forms put together what is torn.
	forms := []func([]byte) []byte{
		func(t []byte) []byte { return t },
		joined,
		inOneLine,
		wide,
		untagged,
		pieces,
		frombase64,
	}
	if bytes.Contains(text, []byte("=\r\n")) {
		forms = append(forms, unbroken)
	}
	for _, form := range forms {
		if _, found := f.find(form(text), 0, false); found {
			return true
		}
	}
	return false
}

// unbroken is text without the soft line ends of quoted-printable.
func unbroken(text []byte) []byte {
	return bytes.ReplaceAll(text, []byte("=\r\n"), nil)
}

// joined is text without folds (RFC 5322, section 2.2.3).
func joined(text []byte) []byte {
	out := make([]byte, 0, len(text))
	text = unbroken(text)
	for i := 0; i < len(text); i++ {
		if text[i] != '\r' && text[i] != '\n' {
			out = append(out, text[i])
			continue
		}
		for i+1 < len(text) && bytes.IndexByte([]byte("\r\n \t"), text[i+1]) >= 0 {
			i++
		}
	}
	return out
}

// inOneLine is text without line ends and blanks.
func inOneLine(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, c := range unbroken(text) {
		if c != '\r' && c != '\n' && c != ' ' && c != '\t' && c != 0 {
			out = append(out, c)
		}
	}
	return out
}

// wide is text without the encoded NULs of UTF-16.
func wide(text []byte) []byte {
	if !bytes.Contains(text, []byte("=00")) && !bytes.Contains(text, []byte("%00")) {
		return nil
	}
	return unpair(inOneLine(text))
}

// unpair decodes the pairs of hexadecimal digits behind "=", "%" and "+", and
// leaves out NULs, which UTF-16 has everywhere.
func unpair(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		c, width := text[i], 1
		if c == '=' || c == '%' || c == '+' {
			c, width = decodeAt(text, i)
		}
		if i += width; c != 0 {
			out = append(out, c)
		}
	}
	return out
}

// untagged is text without HTML tags and with its character references decoded.
func untagged(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] == '<' {
			if end := bytes.IndexByte(text[i:min(len(text), i+200)], '>'); end > 0 && bytes.IndexByte(text[i:i+end], '@') < 0 {
				i += end + 1
				continue
			}
		}
		c, width := text[i], 1
		if c == '&' {
			c, width = decodeAt(text, i)
		}
		if i += width; c != 0 {
			out = append(out, c)
		}
	}
	return out
}

// seams are where encoded words (RFC 2047, section 2) and the pieces of a
// parameter (RFC 2231, section 3) meet.
var seams = regexp.MustCompile(`\?=[ \t\r\n]*=\?[^?\s]{1,40}\?[QqBb]\?|"?;[ \t\r\n]*[A-Za-z-]{1,20}\*[0-9]{1,3}\*?="?`)

// pieces is text with the pieces of words and parameters joined. The headers
// are at the beginning and in the parts; most texts have no such thing at all.
func pieces(text []byte) []byte {
	if !bytes.Contains(text, []byte("?=")) && !bytes.Contains(text, []byte("*=")) && !bytes.Contains(text, []byte("*0=")) && !bytes.Contains(text, []byte("*1")) {
		return nil
	}
	return unpair(seams.ReplaceAllLiteral(text, nil))
}

// frombase64 is what every run of base64 characters decodes to, from each of
// its four possible beginnings. Line ends and blanks do not end a run.
func frombase64(text []byte) []byte {
	var out []byte
	var run []byte
	flush := func() {
		for skip := 0; skip < min(4, len(run)) && len(run) >= 8; skip++ {
			for s := run[skip:]; len(s) >= 2; s = s[min(4, len(s)):] {
				group := [4]byte{}
				n := copy(group[:], s)
				bits := uint32(group[0])<<18 | uint32(group[1])<<12 | uint32(group[2])<<6 | uint32(group[3])
				for shift := 16; shift >= 24-8*(n-1) && n > 1; shift -= 8 {
					if c := byte(bits >> shift); c != 0 {
						out = append(out, c)
					}
				}
			}
			out = append(out, '\n')
		}
		run = run[:0]
	}
	for _, c := range text {
		if v := sextets[c]; v >= 0 {
			run = append(run, byte(v))
		} else if c != '\r' && c != '\n' && c != ' ' && c != '\t' {
			flush()
		}
	}
	flush()
	return out
}

// sextets is what each base64 character stands for, of RFC 4648, section 4 and
// 5; -1 for all others.
var sextets = func() (table [256]int8) {
	for i := range table {
		table[i] = -1
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		table[c] = int8(i)
	}
	table['-'], table['_'] = 62, 63
	return table
}()
