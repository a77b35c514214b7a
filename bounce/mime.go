package bounce

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"
)

// Limits of the reader of other people's reports: what goes beyond them is not
// parsed.
const (
	maxReport  = 512 << 10 // octets
	maxParts   = 100
	maxNesting = 6
	maxFields  = 2000     // in one header section
	maxField   = 64 << 10 // octets
)

// errUnparsable says that a report cannot be taken apart safely.
var errUnparsable = errors.New("bounce: the report cannot be parsed")

// A part is a MIME entity, RFC 2045: its header, and its content, which is text
// or more parts. Written again unchanged, it is the same octets.
type part struct {
	header   []field
	kind     string // media type, lower case: "text/plain"
	params   map[string]string
	gap      []byte  // the empty line behind the header; nil where there is none
	content  []byte  // as it stands, encoded; nil where there are parts
	preamble []byte  // of a multipart, with the delimiter of its first part
	children []child // of a multipart or message
}

// A child is a part in a multipart, and the delimiter and what else follows it.
type child struct {
	*part
	after []byte
}

// A field is one header field with its folding and its line end.
type field struct {
	name string // lower case
	raw  []byte
}

// value is the field's body, unfolded.
func (f field) value() string {
	_, v, _ := bytes.Cut(f.raw, []byte(":"))
	v = bytes.ReplaceAll(bytes.ReplaceAll(v, []byte("\r\n"), nil), []byte("\t"), []byte(" "))
	return strings.TrimSpace(string(v))
}

func (p *part) get(name string) string {
	for _, f := range p.header {
		if f.name == name {
			return f.value()
		}
	}
	return ""
}

// A mimeReader counts what it has taken apart.
type mimeReader struct{ parts int }

func parseMessage(text []byte) (*part, error) {
	var r mimeReader
	return r.parse(text, "text/plain", 0)
}

func (r *mimeReader) parse(text []byte, kind string, depth int) (*part, error) {
	if r.parts++; r.parts > maxParts || depth > maxNesting {
		return nil, errUnparsable
	}
	p := &part{kind: kind}
	rest, err := p.readHeader(text)
	if err != nil {
		return nil, err
	}
	if err := p.readType(); err != nil {
		return nil, err
	}
	encoding, err := p.encoding()
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasPrefix(p.kind, "multipart/"):
		return p, r.parseMultipart(p, rest, depth)
	case (p.kind == "message/rfc822" || p.kind == "message/global") && encoding == "":
		inner, err := r.parse(rest, "text/plain", depth+1)
		if err != nil {
			return nil, err
		}
		p.children = []child{{part: inner}}
	default:
		p.content = rest
	}
	return p, nil
}

// readType reads Content-Type, RFC 2045, section 5.
func (p *part) readType() error {
	v := p.get("content-type")
	if v == "" {
		return nil
	}
	kind, params, err := mime.ParseMediaType(v)
	if err != nil { // what it is can be said all the same; where it is to be cut cannot
		kind, _, _ = strings.Cut(strings.ToLower(v), ";")
		kind = strings.TrimSpace(kind)
	}
	p.kind, p.params = kind, params
	// UTF-7 hides what other charsets show, and is used by nobody any more.
	if strings.HasPrefix(kind, "multipart/") && err != nil || strings.EqualFold(params["charset"], "utf-7") {
		return errUnparsable
	}
	return nil
}

// readHeader takes the header off text.
func (p *part) readHeader(text []byte) (rest []byte, err error) {
	for len(text) > 0 {
		if bytes.HasPrefix(text, []byte("\r\n")) {
			p.gap = text[:2]
			return text[2:], nil
		}
		n := 0
		for {
			i := bytes.Index(text[n:], []byte("\r\n"))
			if i < 0 {
				n = len(text)
				break
			}
			n += i + 2
			if n == len(text) || text[n] != ' ' && text[n] != '\t' {
				break
			}
		}
		name, _, ok := bytes.Cut(text[:n], []byte(":"))
		if !ok || len(p.header) >= maxFields || n > maxField {
			return nil, errUnparsable
		}
		p.header = append(p.header, field{strings.ToLower(string(bytes.TrimSpace(name))), text[:n]})
		text = text[n:]
	}
	return nil, nil
}

func (r *mimeReader) parseMultipart(p *part, text []byte, depth int) error {
	boundary := p.params["boundary"]
	if boundary == "" {
		return errUnparsable
	}
	kind := "text/plain"
	if p.kind == "multipart/digest" {
		kind = "message/rfc822"
	}
	start, end, last := findDelimiter(text, boundary)
	if start < 0 || last {
		return errUnparsable
	}
	p.preamble, text = text[:end], text[end:]
	for !last {
		start, end, last = findDelimiter(text, boundary)
		if start < 0 { // cut off: the rest is the last part
			start, end, last = len(text), len(text), true
		}
		c, err := r.parse(text[:start], kind, depth+1)
		if err != nil {
			return err
		}
		after := text[start:end]
		text = text[end:]
		if last { // the epilogue
			after = append(after[:len(after):len(after)], text...)
		}
		p.children = append(p.children, child{part: c, after: after})
	}
	return nil
}

// findDelimiter finds the next delimiter line, RFC 2046, section 5.1.1: start is
// where it begins, with the line end before it, end is behind its own.
func findDelimiter(text []byte, boundary string) (start, end int, last bool) {
	mark := []byte("--" + boundary)
	for from := 0; ; {
		i := bytes.Index(text[from:], mark)
		if i < 0 {
			return -1, -1, false
		}
		i += from
		if i > 0 && (i < 2 || text[i-2] != '\r' || text[i-1] != '\n') {
			from = i + 1
			continue
		}
		rest := text[i+len(mark):]
		after, isLast := bytes.CutPrefix(rest, []byte("--"))
		line, _, _ := bytes.Cut(after, []byte("\r\n"))
		if len(bytes.Trim(line, " \t")) > 0 {
			from = i + 1
			continue
		}
		end = min(len(text), len(text)-len(after)+len(line)+2)
		return max(0, i-2), end, isLast
	}
}

// encoding is the Content-Transfer-Encoding where it changes the octets, else "".
func (p *part) encoding() (string, error) {
	e, _, _ := strings.Cut(strings.ToLower(p.get("content-transfer-encoding")), ";")
	switch e = strings.TrimSpace(e); e {
	case "base64", "quoted-printable":
		return e, nil
	case "", "7bit", "8bit", "binary":
		return "", nil
	}
	return "", errUnparsable
}

// decode is the content without its transfer encoding.
func (p *part) decode() ([]byte, error) {
	encoding, err := p.encoding()
	if err != nil {
		return nil, err
	}
	switch encoding {
	case "base64":
		clean := bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' || r == ' ' || r == '\t' {
				return -1
			}
			return r
		}, p.content)
		out := make([]byte, base64.StdEncoding.DecodedLen(len(clean)))
		n, err := base64.StdEncoding.Decode(out, clean)
		if err != nil {
			return nil, errUnparsable
		}
		return out[:n], nil
	case "quoted-printable":
		out, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(p.content)))
		if err != nil {
			return nil, errUnparsable
		}
		return out, nil
	default:
		return p.content, nil
	}
}

// encode makes text the content again, in the transfer encoding that the part has.
func (p *part) encode(text []byte) {
	var b bytes.Buffer
	switch encoding, _ := p.encoding(); encoding {
	case "base64":
		e := base64.StdEncoding.EncodeToString(text)
		for len(e) > 76 {
			b.WriteString(e[:76] + "\r\n")
			e = e[76:]
		}
		b.WriteString(e + "\r\n")
	case "quoted-printable":
		q := quotedprintable.NewWriter(&b)
		q.Write(text) // a bytes.Buffer takes all
		q.Close()
	default:
		b.Write(text)
	}
	p.content = b.Bytes()
}

// write puts the part together again.
func (p *part) write(b *bytes.Buffer) {
	for _, f := range p.header {
		b.Write(f.raw)
	}
	b.Write(p.gap)
	b.Write(p.preamble)
	b.Write(p.content)
	for _, c := range p.children {
		c.part.write(b)
		b.Write(c.after)
	}
}

// walk calls fn for the part and everything in it, outside first. returned says
// that a part belongs to the copy of the message that the report is about.
func (p *part) walk(fn func(p *part, returned bool) error) error {
	return p.walkIn(false, fn)
}

func (p *part) walkIn(returned bool, fn func(*part, bool) error) error {
	switch p.kind {
	case "text/rfc822-headers", "message/global-headers":
		returned = true
	}
	if err := fn(p, returned); err != nil {
		return err
	}
	for _, c := range p.children {
		if err := c.part.walkIn(returned || strings.HasPrefix(p.kind, "message/"), fn); err != nil {
			return err
		}
	}
	return nil
}
