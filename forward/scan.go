package forward

import (
	"strings"
	"unicode/utf8"
)

// A scanner walks through one file. It knows what a logical line is: a line
// and the lines behind it that begin with white space; empty lines and comments
// between them do not count. In a list (an included file, a .forward) the whole
// file is one logical line, and an end of line separates as a comma does.
type scanner struct {
	file    int    // its number in the parser's names
	text    string // the whole file
	pos     int
	line    int   // of pos, from 1
	list    bool  // the file is a list of items, without names
	ended   bool  // the logical line is at its end
	comment place // of the last comment behind a text, if there is one
	crossed bool  // more has passed an end of line since it was last set to false
}

// A place is somewhere in a file.
type place struct {
	s    *scanner
	pos  int
	line int
}

func (s *scanner) here() place { return place{s, s.pos, s.line} }

// col counts characters from the start of the line, from 1.
func (p place) col() int {
	text := p.s.text[:min(p.pos, len(p.s.text))]
	return utf8.RuneCountInString(text[strings.LastIndexByte(text, '\n')+1:]) + 1
}

// peek is the octet at pos, a line end for CRLF, 0 at the end of the file.
func (s *scanner) peek() byte {
	if s.pos >= len(s.text) {
		return 0
	}
	if c := s.text[s.pos]; c != '\r' || s.pos+1 < len(s.text) && s.text[s.pos+1] != '\n' {
		return c
	}
	return '\n'
}

// blanks passes spaces, tabs and a comment, on one line. It reports whether it
// passed anything.
func (s *scanner) blanks() bool {
	from := s.pos
	for s.pos < len(s.text) && (s.text[s.pos] == ' ' || s.text[s.pos] == '\t') {
		s.pos++
	}
	lineStart := from == 0 || s.text[from-1] == '\n'
	if s.peek() == '#' && (s.pos > from || lineStart) {
		if !lineStart {
			s.comment = s.here()
		}
		s.restOfLine()
	}
	return s.pos > from
}

// restOfLine passes everything up to the end of the line and returns it.
func (s *scanner) restOfLine() string {
	rest := s.text[s.pos:]
	if i := strings.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	s.pos += len(rest)
	if strings.HasSuffix(rest, "\r") {
		s.pos--
		rest = rest[:len(rest)-1]
	}
	return rest
}

// newline passes an end of line.
func (s *scanner) newline() {
	if s.text[s.pos] == '\r' {
		s.pos++
	}
	if s.pos < len(s.text) {
		s.pos++
	}
	s.line++
	s.crossed = true
}

// more goes to the next text of the logical line and says whether there is one.
func (s *scanner) more() bool {
	for !s.ended {
		s.blanks()
		switch c := s.peek(); {
		case s.pos >= len(s.text):
			s.ended = true
		case c == '\\' && s.lineEndsAt(s.pos+1):
			// sendmail joins the next line, whatever it begins with.
			s.pos++
			s.newline()
		case c != '\n':
			return true
		default:
			s.ended = !s.continues()
		}
	}
	return false
}

func (s *scanner) lineEndsAt(pos int) bool {
	return strings.HasPrefix(s.text[pos:], "\n") || strings.HasPrefix(s.text[pos:], "\r\n")
}

// continues passes the end of a line and what is empty behind it. It says
// whether the line that follows belongs to the same logical line.
func (s *scanner) continues() bool {
	for s.pos < len(s.text) {
		s.newline()
		from := s.pos
		s.blanks()
		if s.pos < len(s.text) && s.peek() != '\n' {
			indented := s.pos > from
			if !indented && !s.list {
				s.pos = from
			}
			return indented || s.list
		}
	}
	return false
}

// nextEntry goes to the first text of the next logical line; false at the end
// of the file. What is left of the present one is passed over.
func (s *scanner) nextEntry() bool {
	for s.more() {
		s.restOfLine()
	}
	s.ended = false
	for s.pos < len(s.text) {
		from := s.pos
		s.blanks()
		if s.pos >= len(s.text) {
			return false
		}
		if s.peek() != '\n' {
			s.pos = from
			return true
		}
		s.newline()
	}
	return false
}

// word takes everything up to white space, a comma, or one of the octets in
// stop. Between quotes nothing ends it but the end of the line, which makes it
// incomplete.
func (s *scanner) word(stop byte) (w string, complete bool) {
	from, quoted := s.pos, false
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		if c == '\n' || c == '\r' {
			break
		}
		if quoted && c == '\\' && s.pos+1 < len(s.text) && s.text[s.pos+1] != '\n' {
			s.pos++
		} else if c == '"' {
			quoted = !quoted
		} else if !quoted && (c == ' ' || c == '\t' || c == ',' || c == stop) {
			break
		}
		s.pos++
	}
	return s.text[from:s.pos], !quoted
}
