package bounce

import (
	"bytes"
	"io"
	"mime"
	"strings"
)

// A rewriter puts aliases in the place of targets in a report's parts.
type rewriter struct {
	*finder
	trace int  // fields on top of the message that stay as they are
	found bool // a target stands where decoding shows it and replacing does not reach
	began bool
}

// part replaces in the header and the content of one part. A local part alone
// is replaced in what the mail system has written; the message that the sender
// gets back may have the same word by chance.
func (w *rewriter) part(p *part, returned bool) error {
	from := 0
	if !w.began {
		w.began, from = true, w.trace
	}
	w.fields(p.header[from:], returned)
	if p.content == nil {
		return nil
	}
	text, err := p.decode()
	if err != nil {
		return err
	}
	replaced := w.content(p, text, returned)
	if !bytes.Equal(replaced, text) {
		p.encode(replaced)
	}
	if encoding, _ := p.encoding(); encoding != "" && w.leaks(replaced) {
		w.found = true
	}
	return nil
}

func (w *rewriter) content(p *part, text []byte, returned bool) []byte {
	switch {
	case p.kind == "text/rfc822-headers" || p.kind == "message/global-headers":
		return w.headerText(text)
	case !returned && strings.HasPrefix(p.kind, "text/"):
		note, _ := cutCopy(text)
		copied := text[len(note):]
		note = w.replace(note, true)
		return append(note[:len(note):len(note)], w.replace(copied, false)...)
	case !returned && strings.HasSuffix(p.kind, "delivery-status"):
		return w.replace(text, true)
	}
	return w.replace(text, false)
}

// headerText replaces in a header section that is the content of a part.
func (w *rewriter) headerText(text []byte) []byte {
	var h part
	rest, err := h.readHeader(text)
	if err != nil {
		return w.replace(text, false)
	}
	w.fields(h.header, true)
	var b bytes.Buffer
	h.write(&b)
	b.Write(w.replace(rest, false))
	return b.Bytes()
}

// authors are the fields that the sender of a message writes, and therefore
// knows: a local part alone says nothing in them.
var authors = map[string]bool{
	"from": true, "to": true, "cc": true, "bcc": true, "reply-to": true, "sender": true, "subject": true, "date": true,
	"message-id": true, "in-reply-to": true, "references": true, "comments": true, "keywords": true,
	"mime-version": true, "content-type": true, "content-transfer-encoding": true, "content-disposition": true,
	"content-description": true, "content-id": true, "dkim-signature": true,
}

func (w *rewriter) fields(fields []field, returned bool) {
	for i, f := range fields {
		fields[i].raw = w.field(f, !returned || !authors[f.name])
	}
}

// field replaces in a header field, also where it is folded or in encoded
// words (RFC 2047).
func (w *rewriter) field(f field, words bool) []byte {
	replaced := w.replace(f.raw, words)
	plain := decodeWords(f.value())
	clean := w.replace([]byte(plain), words)
	if bytes.Equal(clean, []byte(plain)) {
		return replaced
	}
	after := field{f.name, replaced}.value()
	if now := decodeWords(after); bytes.Equal(w.replace([]byte(now), words), []byte(now)) {
		return replaced // it stood there plainly, and is gone
	}
	name, _, _ := bytes.Cut(f.raw, []byte(":"))
	return []byte(string(name) + ": " + fold(mime.QEncoding.Encode("utf-8", string(clean))) + "\r\n")
}

// decodeWords decodes encoded words; the octets of a charset stay as they are,
// because addresses are ASCII in all of them.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	decoder := mime.WordDecoder{CharsetReader: func(_ string, in io.Reader) (io.Reader, error) { return in, nil }}
	plain, err := decoder.DecodeHeader(s)
	if err != nil {
		return s
	}
	return plain
}
