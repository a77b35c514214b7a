package postfix

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// serveSocketmap speaks socketmap_table(5).
func (s *Server) serveSocketmap(c *conn) error {
	var reply []byte
	for {
		query, err := readNetstring(c.r)
		if errors.Is(err, errMalformed) {
			writeNetstring(c.w, []byte("PERM invalid query"))
		}
		if err != nil {
			return err
		}
		name, key, _ := strings.Cut(string(query), " ")
		r, known := s.rules.Load().mapped(s, name, key)
		if !known {
			s.log.Warn("no such map", "map", fmt.Sprintf("%.40q", name))
		}
		s.logResult(key, r)
		reply = appendMapReply(reply[:0], r, known)
		writeNetstring(c.w, reply)
	}
}

// mapped looks a key up in the map of that name; known is false where there is
// none.
func (r *rules) mapped(s *Server, name, key string) (_ result, known bool) {
	name, at, with := strings.Cut(name, "@")
	switch {
	case name == "forward", name == "srsencoder" && !with:
		return r.sender(s.ctx, key, strings.ToLower(at)), true
	case with:
		return result{}, false
	case name == "reverse", name == "srsdecoder":
		return r.recipient(s.ctx, key), true
	case name == "aliases":
		return r.aliases(s.ctx, key), true
	}
	return result{}, false
}

func appendMapReply(b []byte, r result, known bool) []byte {
	switch {
	case !known: // a mistake in main.cf, which PERM makes Postfix log
		return append(b, "PERM no such map; there are forward, forward@DOMAIN, reverse and aliases"...)
	case r.status == found:
		return append(append(b, "OK "...), r.text...)
	case r.status == absent:
		return append(b, "NOTFOUND "...)
	}
	return append(b, "TEMP temporary failure"...)
}

// readNetstring reads one netstring; the octets are valid until the next read.
func readNetstring(r *bufio.Reader) ([]byte, error) {
	n := 0
	for i := 0; ; i++ {
		b, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		if b == ':' && n > 0 {
			break
		}
		// A length has no leading zero, so nothing begins with 0: an empty
		// query is none.
		if b < '0' || b > '9' || i == 0 && b == '0' || n >= maxRequest {
			return nil, fmt.Errorf("%w: %q in the length of a netstring", errMalformed, b)
		}
		n = 10*n + int(b-'0')
	}
	if n >= maxRequest {
		return nil, fmt.Errorf("%w: a netstring of %d octets", errMalformed, n)
	}
	text, err := r.Peek(n + 1)
	if err != nil {
		return nil, err
	}
	if text[n] != ',' {
		return nil, fmt.Errorf("%w: no comma behind a netstring", errMalformed)
	}
	_, _ = r.Discard(n + 1) // has just been peeked at
	return text[:n], nil
}

// writeNetstring leaves its errors to the next read, which flushes.
func writeNetstring(w *bufio.Writer, text []byte) {
	_, _ = w.Write(strconv.AppendInt(w.AvailableBuffer(), int64(len(text)), 10))
	_ = w.WriteByte(':')
	_, _ = w.Write(text)
	_ = w.WriteByte(',')
}
