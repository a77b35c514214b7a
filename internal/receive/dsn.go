package receive

import (
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"srsd/envelope"
)

// notify is the value of NOTIFY, RFC 3461, section 4.1.
func notify(values []smtp.DSNNotify) (n envelope.Notify) {
	for _, v := range values {
		switch v {
		case smtp.DSNNotifyNever:
			n |= envelope.NotifyNever
		case smtp.DSNNotifySuccess:
			n |= envelope.NotifySuccess
		case smtp.DSNNotifyFailure:
			n |= envelope.NotifyFailure
		case smtp.DSNNotifyDelayed:
			n |= envelope.NotifyDelay
		}
	}
	return n
}

// original is ORCPT as it goes on the wire again: go-smtp has decoded it, so it
// is encoded as RFC 3461, section 4, or RFC 6533, section 3, have it.
func original(o *smtp.RcptOptions) string {
	const most = 500 // RFC 3461, section 4.2
	if o.OriginalRecipient == "" {
		return ""
	}
	format, kind := "+%02X", "rfc822;"
	if o.OriginalRecipientType == smtp.DSNAddressTypeUTF8 {
		format, kind = `\x{%X}`, "utf-8;"
	}
	var b strings.Builder
	b.WriteString(kind)
	for _, r := range o.OriginalRecipient {
		escape := r <= ' ' || r > '~' || r == '+' || r == '='
		if escape || r == '\\' && kind == "utf-8;" {
			fmt.Fprintf(&b, format, r)
		} else {
			b.WriteRune(r)
		}
	}
	if b.Len() > most {
		return ""
	}
	return b.String()
}
