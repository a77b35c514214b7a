package receive

import (
	"errors"
	"strings"

	"github.com/emersion/go-smtp"

	"srsd/envelope"
)

// The replies of this server. Texts name no target and repeat nothing that the
// client said, but for what has been parsed.
var (
	replyNested      = reply(503, 5, 5, 1, "MAIL was said already; RSET begins anew")
	replyNoMail      = reply(503, 5, 5, 1, "MAIL comes first")
	replyTooBig      = reply(552, 5, 3, 4, "the message is too big for this host")
	replyHeaderBig   = reply(552, 5, 3, 4, "the header of the message is too big for this host")
	replyFolded      = reply(554, 5, 6, 0, "the message begins with a continuation line")
	replyNoMemory    = reply(452, 4, 3, 1, "too many messages at once; try again later")
	replyNoSpace     = reply(452, 4, 3, 1, "no room for the message; try again later")
	replyLoop        = reply(554, 5, 4, 6, "the message goes round in a loop")
	replyInterrupted = reply(451, 4, 4, 2, "the message did not come to its end")
	replyShutdown    = reply(421, 4, 3, 2, "this host is shutting down; try again later")
	replyBusy        = reply(421, 4, 7, 0, "too many connections; try again later")
	replyShed        = reply(421, 4, 3, 2, "this host is too busy; try again later")
	replyGuessing    = reply(421, 4, 7, 0, "too many forged addresses")
	replyTrouble     = reply(451, 4, 3, 0, "trouble here; try again later")
	replyListed      = reply(554, 5, 7, 1, "your address is on a block list that this host uses")
	replyListedLater = reply(451, 4, 7, 1, "your address is on a block list that this host uses")
	replyDiscarded   = reply(250, 2, 0, 0, "accepted")
)

func reply(code, class, subject, detail int, text string) envelope.Reply {
	return envelope.NewReply(code, envelope.EnhancedCode{class, subject, detail}, text)
}

// replyFor is the answer to an error on the way of a message text: the one
// table from errors to replies.
func replyFor(err error) envelope.Reply {
	var own envelope.Reply
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, errTooBig):
		return replyTooBig
	case errors.Is(err, errHeaderTooBig):
		return replyHeaderBig
	case errors.Is(err, errNoMemory):
		return replyNoMemory
	case errors.Is(err, errTempFile):
		return replyNoSpace
	default:
		return replyInterrupted
	}
}

// toSMTP hands a reply to go-smtp, which writes 2yz replies too when they come
// as errors from Data. What stands in it is made printable: a target's words
// may be among them.
func toSMTP(r envelope.Reply) error {
	// go-smtp puts the enhanced code before the last line only; RFC 2034,
	// section 4, wants it before every one.
	lines := strings.Split(printable(r.Text), "\n")
	for i := range lines[:len(lines)-1] {
		lines[i] = r.Status().String() + " " + lines[i]
	}
	text := strings.Join(lines, "\n")
	return &smtp.SMTPError{Code: r.Code, EnhancedCode: smtp.EnhancedCode(r.Status()), Message: text}
}

// printable keeps the lines of a text short and in printable ASCII. A reply
// line has 512 octets with its codes (RFC 5321, section 4.5.3.1.5).
func printable(text string) string {
	const most, lines = 480, 10
	if len(text) < most && isPrintable(text) {
		return text
	}
	var b strings.Builder
	column, line := 0, 1
	for i := 0; i < len(text) && line <= lines; i++ {
		switch c := text[i]; {
		case c == '\n':
			column, line = 0, line+1
			if line <= lines && i+1 < len(text) {
				b.WriteByte('\n')
			}
			continue
		case column == most:
			continue
		case c < ' ' || c > '~':
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
		column++
	}
	return b.String()
}

func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
