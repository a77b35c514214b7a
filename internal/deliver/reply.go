package deliver

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"srsd/envelope"
)

// replyBudget bounds one reply in octets. RFC 5321, section 4.5.3.1.5, allows
// 512 a line; no honest reply has more than a hundred lines.
const replyBudget = 64 << 10

var errReply = errors.New("deliver: the server's reply is not SMTP")

// readReply reads one reply of one or many lines, RFC 5321, section 4.2. Lines
// may end in a bare LF. Whatever is no reply is errReply, also one that has no
// end within the budget.
func readReply(r *bufio.Reader) (envelope.Reply, error) {
	var reply envelope.Reply
	var text strings.Builder
	for n := 0; ; {
		line, err := readLine(r, replyBudget-n)
		if err != nil {
			return envelope.Reply{}, err
		}
		n += len(line) + 2
		code, more, rest, ok := splitLine(line)
		if !ok || reply.Code != 0 && code != reply.Code {
			return envelope.Reply{}, fmt.Errorf("%w: %.80q", errReply, line)
		}
		if enhanced, after, ok := cutEnhanced(rest, code); ok {
			rest = after
			if reply.Code == 0 {
				reply.Enhanced = enhanced
			}
		}
		if reply.Code != 0 {
			text.WriteByte('\n')
		}
		reply.Code = code
		if !more && text.Len() == 0 {
			reply.Text = string(rest)
			return reply, nil
		}
		text.Write(rest)
		if !more {
			reply.Text = text.String()
			return reply, nil
		}
	}
}

// readLine returns a line without its end; it is valid until the next read.
func readLine(r *bufio.Reader, budget int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		line, err = longLine(r, line, budget)
	}
	if err != nil {
		return nil, err
	}
	if len(line) > budget {
		return nil, fmt.Errorf("%w: it has no end", errReply)
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

// longLine reads on where the line is longer than the reader's buffer.
func longLine(r *bufio.Reader, begin []byte, budget int) ([]byte, error) {
	line := append([]byte(nil), begin...)
	for len(line) <= budget {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
	return nil, fmt.Errorf("%w: it has no end", errReply)
}

// splitLine splits a reply line; the text is optional, and so is the space
// before it where there is none (RFC 5321, section 4.2.1).
func splitLine(line []byte) (code int, more bool, text []byte, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, false, nil, false
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false, nil, false
		}
		code = code*10 + int(c-'0')
	}
	if len(line) == 3 {
		return code, false, nil, true
	}
	return code, line[3] == '-', line[4:], line[3] == '-' || line[3] == ' '
}

// cutEnhanced cuts an enhanced status code (RFC 2034, section 4) off the text
// of a line. One of another class than the reply is part of the text.
func cutEnhanced(text []byte, code int) (e envelope.EnhancedCode, rest []byte, ok bool) {
	i := 0
	for part := range e {
		start := i
		for i < len(text) && i-start < 3 && text[i] >= '0' && text[i] <= '9' {
			e[part] = e[part]*10 + int(text[i]-'0')
			i++
		}
		if i == start {
			return envelope.EnhancedCode{}, text, false
		}
		if part < 2 {
			if i == len(text) || text[i] != '.' {
				return envelope.EnhancedCode{}, text, false
			}
			i++
		}
	}
	if e[0] != code/100 || e[0] == 3 || i < len(text) && text[i] != ' ' {
		return envelope.EnhancedCode{}, text, false
	}
	if i < len(text) {
		i++
	}
	return e, text[i:], true
}
