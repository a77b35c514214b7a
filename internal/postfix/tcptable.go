package postfix

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
)

// errMalformed ends a connection: whoever is there does not speak our language.
var errMalformed = errors.New("postfix: malformed request")

func (s *Server) serveSender(c *conn) error {
	return s.serveTable(c, func(key string) result { return s.rules.Load().sender(s.ctx, key, "") })
}

func (s *Server) serveRecipient(c *conn) error {
	return s.serveTable(c, func(key string) result { return s.rules.Load().recipient(s.ctx, key) })
}

// serveTable speaks tcp_table(5).
func (s *Server) serveTable(c *conn, lookup func(key string) result) error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		key, ok := tableKey(line)
		if err != nil || !ok {
			_, _ = c.w.WriteString("500 invalid request\n")
			return fmt.Errorf("%w: %.40q", errMalformed, line)
		}
		address := string(key)
		r := lookup(address)
		s.logResult(address, r)
		_, _ = c.w.Write(appendTableReply(c.w.AvailableBuffer(), r)) // its error comes back with the next read
	}
}

// logResult tells the operator what the client is only told to wait for, and at
// level debug every rewritten address.
func (s *Server) logResult(key string, r result) {
	switch {
	case r.status == trouble:
		s.log.Error("lookup failed", "address", key, "error", r.text)
	case r.status == found && s.log.Enabled(s.ctx, slog.LevelDebug):
		s.log.Debug("looked up", "address", key, "answer", r.text)
	}
}

// tableKey is the key of a request, decoded in place.
func tableKey(line []byte) ([]byte, bool) {
	key, ok := bytes.CutPrefix(line, []byte("get "))
	if !ok {
		return nil, false
	}
	key, ok = bytes.CutSuffix(key, []byte("\n"))
	if !ok {
		return nil, false
	}
	key = bytes.TrimSuffix(key, []byte("\r"))
	out := key[:0]
	for i := 0; i < len(key); i++ {
		if key[i] != '%' {
			out = append(out, key[i])
			continue
		}
		if i+2 >= len(key) {
			return nil, false
		}
		high, low := hexDigit(key[i+1]), hexDigit(key[i+2])
		if high < 0 || low < 0 {
			return nil, false
		}
		out = append(out, byte(high<<4|low))
		i += 2
	}
	return out, true
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func appendTableReply(b []byte, r result) []byte {
	switch r.status {
	case found:
		b = append(b, "200 "...)
		b = appendEncoded(b, r.text)
	case absent:
		b = append(b, "500 not found"...)
	default:
		b = append(b, "400 temporary failure"...)
	}
	return append(b, '\n')
}

// appendEncoded writes what is no printable ASCII, white space and % in
// hexadecimal.
func appendEncoded(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '%' {
			b = append(b, '%', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}
