package forward

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// How long an alias file must have been left alone before it is read, and how
// long that is waited for. An editor that writes in place first cuts the file
// to nothing, and a table read at that moment would be empty, and believed.
const (
	quiet    = 50 * time.Millisecond
	patience = time.Second // where the text looks as if something were missing
	maxQuiet = 3 * time.Second
)

// maxFiles bounds the alias files together, so that a place in the book, which
// may be some times their size, is a number of 32 bits.
const maxFiles = 1 << 30

// files reads the alias files.
func (p *parser) files(names []string) {
	texts := make([]string, len(names))
	total, lines := 0, 0
	for i, name := range names {
		text, err := readFile(name)
		if err != nil {
			p.errs = append(p.errs, Error{File: name, Line: 1, Col: 1, Text: reason(err)})
			continue
		}
		texts[i] = text
		total += len(text)
		lines += strings.Count(text, "\n")
	}
	if total > maxFiles {
		p.errs = append(p.errs, Error{File: names[0], Text: "the alias files have more than 1 GiB together"})
		return
	}
	// What an entry loses on its way from the file to the book, it gains in
	// numbers, and a few octets more.
	p.out.Grow(total + 6*lines)
	p.t.book.reserve(lines)
	for i, text := range texts {
		if s := p.open(names[i], text, false); s != nil {
			p.file(s)
		}
		texts[i] = ""
	}
	p.table()
}

// table gives what has been read to the table.
func (p *parser) table() { p.t.book.text = p.out.String() }

// open starts a scanner; nil where the octets of the text cannot be a table.
func (p *parser) open(name, text string, list bool) *scanner {
	p.t.files = append(p.t.files, name)
	s := &scanner{file: len(p.t.files), text: strings.TrimPrefix(text, "\uFEFF"), line: 1, list: list, ended: !list}
	lines, ok := p.octets(s)
	if !utf8.ValidString(s.text) {
		p.fail(invalidUTF8(s), "invalid UTF-8")
		ok = false
	}
	if !ok {
		return nil
	}
	if !list && s.text != "" && !strings.HasSuffix(s.text, "\n") {
		p.warn(place{s, len(s.text), lines}, "the last line does not end: is the file complete?")
	}
	return s
}

// octets looks for control characters, and counts the lines.
func (p *parser) octets(s *scanner) (lines int, ok bool) {
	lines, ok = 1, true
	for i := 0; i < len(s.text) && len(p.errs) < maxErrors; i++ {
		switch c := s.text[i]; {
		case c >= ' ' && c != 0x7f || c == '\t':
		case c == '\n':
			lines++
		case c == '\r' && (i+1 == len(s.text) || s.text[i+1] == '\n'):
		default:
			p.fail(place{s, i, lines}, "control character %#02x", c)
			ok = false
		}
	}
	return lines, ok
}

func invalidUTF8(s *scanner) place {
	line := 1
	for i, r := range s.text {
		if r == '\n' {
			line++
		}
		if r == utf8.RuneError && !strings.HasPrefix(s.text[i:], "\uFFFD") {
			return place{s, i, line}
		}
	}
	return place{s, len(s.text), line}
}

// errChanging says that a file was written to while it was read.
var errChanging = errors.New("is being written to")

// reason is an error of the file system without the name that stands in front
// of every mistake anyway.
func reason(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return "cannot be read: " + pe.Err.Error()
	}
	return err.Error()
}

// readFile reads a whole file, one state of it.
func readFile(name string) (string, error) {
	info, err := os.Stat(name)
	for end := time.Now().Add(maxQuiet); err == nil && time.Now().Before(end); {
		if !info.Mode().IsRegular() {
			return "", errors.New("is no regular file")
		}
		if !settling(info, quiet) {
			text, err := readState(name, info)
			complete := strings.HasSuffix(text, "\n")
			if err != errChanging && (err != nil || complete || !settling(info, patience)) {
				return text, err
			}
		}
		time.Sleep(quiet / 5)
		info, err = os.Stat(name)
	}
	if err != nil {
		return "", err
	}
	return "", errChanging
}

// settling says whether a file was written to less than a while ago. A time in
// the future is another clock's.
func settling(info fs.FileInfo, while time.Duration) bool {
	age := time.Since(info.ModTime())
	return age >= 0 && age < while
}

// readState reads a file that is as info says before and after.
func readState(name string, info fs.FileInfo) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b strings.Builder
	b.Grow(int(info.Size()) + 512) // room for io.Copy to see the end
	if _, err = io.Copy(&b, f); err != nil {
		return "", err
	}
	after, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !os.SameFile(info, after) || int64(b.Len()) != info.Size() || after.Size() != info.Size() || !after.ModTime().Equal(info.ModTime()) {
		return "", errChanging
	}
	return b.String(), nil
}
