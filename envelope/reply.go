package envelope

import (
	"fmt"
	"strings"
)

// A Reply is an SMTP reply: ours to the client, or a target's to us.
type Reply struct {
	Code     int          // three digits, RFC 5321, section 4.2
	Enhanced EnhancedCode // zero where the server gave none
	Text     string       // without codes; "\n" between the lines of a multi-line reply
}

// An EnhancedCode is an enhanced status code, RFC 3463: class, subject, detail.
type EnhancedCode [3]int

// String is "5.1.1", or "" for the zero code.
func (e EnhancedCode) String() string {
	if e == (EnhancedCode{}) {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2])
}

// NewReply makes a reply of its parts; text is formatted with args.
func NewReply(code int, enhanced EnhancedCode, text string, args ...any) Reply {
	if len(args) > 0 {
		text = fmt.Sprintf(text, args...)
	}
	return Reply{Code: code, Enhanced: enhanced, Text: text}
}

// IsZero says whether there is no reply.
func (r Reply) IsZero() bool { return r.Code == 0 }

// Accepted says whether the reply is 2yz.
func (r Reply) Accepted() bool { return r.Code/100 == 2 }

// Temporary says whether the reply is 4yz: try again later.
func (r Reply) Temporary() bool { return r.Code/100 == 4 }

// Permanent says whether the reply is 5yz: do not try again.
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// Status is the enhanced code, or the best that can be made of the reply's
// class where it has none (RFC 3463, section 2).
func (r Reply) Status() EnhancedCode {
	if r.Enhanced != (EnhancedCode{}) {
		return r.Enhanced
	}
	return EnhancedCode{r.Code / 100, 0, 0}
}

// String is the reply on one line: "550 5.1.1 no such user".
func (r Reply) String() string {
	s := fmt.Sprint(r.Code)
	if e := r.Enhanced.String(); e != "" {
		s += " " + e
	}
	if r.Text != "" {
		s += " " + strings.ReplaceAll(r.Text, "\n", " ")
	}
	return s
}

// Error lets a Reply travel as an error.
func (r Reply) Error() string { return r.String() }
