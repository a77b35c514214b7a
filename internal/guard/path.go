package guard

import (
	"strings"
	"unicode/utf8"

	"srsd/envelope"
)

var (
	replyFrom       = reply(501, 5, 5, 4, "Say MAIL FROM:<address>")
	replyTo         = reply(501, 5, 5, 4, "Say RCPT TO:<address>")
	replyBadFrom    = reply(501, 5, 1, 7, "Bad sender address syntax")
	replyBadTo      = reply(501, 5, 1, 3, "Bad recipient address syntax")
	replyNotUTF8    = reply(553, 5, 6, 7, "This address needs SMTPUTF8")
	replyParam      = reply(501, 5, 5, 4, "Bad parameter syntax")
	replyTwice      = reply(501, 5, 5, 4, "Parameter given twice")
	replyNoParam    = reply(555, 5, 5, 4, "Parameter not recognized")
	replySizeSyntax = reply(501, 5, 5, 4, "SIZE needs a number")
	replySize       = reply(552, 5, 3, 4, "Message too big")
)

// envelopeCommand checks MAIL and RCPT, keeps the path, and hands go-smtp the
// command with the path in its plainest form.
func (c *Conn) envelopeCommand(name, arg string) []byte {
	mail := name == "MAIL"
	text, r := c.parseEnvelope(mail, arg)
	if !r.IsZero() {
		c.refuse(r)
		return nil
	}
	if mail {
		return c.hand(verbMail, "MAIL FROM:"+text)
	}
	return c.hand(verbRcpt, "RCPT TO:"+text)
}

func (c *Conn) parseEnvelope(mail bool, arg string) (string, envelope.Reply) {
	keyword, bad, usage, known := "TO:", replyBadTo, replyTo, rcptParams
	if mail {
		keyword, bad, usage, known = "FROM:", replyBadFrom, replyFrom, mailParams
	}
	switch {
	case !c.greeted:
		return "", replyHelloFirst
	case mail && c.mail:
		return "", replyNested
	case !mail && !c.mail:
		return "", replyMailFirst
	case len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword):
		return "", usage
	}
	path, params, ok := cutPath(strings.TrimPrefix(arg[len(keyword):], " "))
	if !ok {
		return "", bad
	}
	p, r := parseParams(params, known)
	if !r.IsZero() {
		return "", r
	}
	if mail {
		c.wantsUTF8 = p.utf8
	}
	address, r := c.address(mail, path)
	if !r.IsZero() {
		return "", r
	}
	c.path = address
	if address.Domain() == "" && !address.IsNull() {
		address, _ = address.WithDomain(postmasterDomain)
	}
	return address.Path() + p.text, envelope.Reply{}
}

// address parses what stood between the angle brackets.
func (c *Conn) address(mail bool, path string) (envelope.Address, envelope.Reply) {
	bad := replyBadTo
	if mail {
		bad = replyBadFrom
		if path == "" {
			return envelope.Address{}, envelope.Reply{}
		}
	}
	a, err := envelope.ParseAddress(path)
	switch {
	case err != nil || mail && a.Domain() == "":
		return envelope.Address{}, bad
	case !a.IsASCII() && !(mail && c.wantsUTF8) && (mail || !c.utf8):
		return envelope.Address{}, replyNotUTF8 // RFC 6531, section 3.5
	}
	return a, envelope.Reply{}
}

// cutPath splits "<path> params", removes the brackets and a source route (RFC
// 5321, appendix C: routes are accepted and ignored). A path without brackets
// is tolerated, because some devices send it.
func cutPath(s string) (path, params string, ok bool) {
	if !strings.HasPrefix(s, "<") {
		path, params, _ = strings.Cut(s, " ")
		if params != "" {
			params = " " + params
		}
		return path, params, path != ""
	}
	end := pathEnd(s)
	if end < 0 {
		return "", "", false
	}
	path, params = s[1:end], s[end+1:]
	if params != "" && params[0] != ' ' {
		return "", "", false
	}
	if strings.HasPrefix(path, "@") {
		route, mailbox, found := strings.Cut(path, ":")
		if !found || !isRoute(route) {
			return "", "", false
		}
		path = mailbox
		if path == "" {
			return "", "", false
		}
	}
	return path, params, true
}

// pathEnd is where the ">" is that ends a path: not one within quotes.
func pathEnd(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			return i
		}
	}
	return -1
}

func isRoute(s string) bool {
	for hop := range strings.SplitSeq(s, ",") {
		domain, ok := strings.CutPrefix(hop, "@")
		if !ok || envelope.CheckDomain(domain) != nil {
			return false
		}
	}
	return true
}

// The parameters that are known, and whether they have a value.
var (
	mailParams = map[string]bool{"SIZE": true, "BODY": true, "SMTPUTF8": false, "RET": true, "ENVID": true}
	rcptParams = map[string]bool{"NOTIFY": true, "ORCPT": true}
)

type params struct {
	text string // as go-smtp reads them, each behind a space
	utf8 bool
}

// parseParams reads esmtp-params, RFC 5321, section 4.1.2.
func parseParams(s string, known map[string]bool) (params, envelope.Reply) {
	var p params
	var seen []string
	for word := range strings.FieldsSeq(s) {
		key, value, hasValue := strings.Cut(word, "=")
		key = strings.ToUpper(key)
		if !isKeyword(key) || hasValue && !isValue(value) {
			return p, replyParam
		}
		wantsValue, ok := known[key]
		switch {
		case !ok:
			return p, replyNoParam
		case wantsValue != hasValue:
			return p, replyParam
		}
		for _, k := range seen {
			if k == key {
				return p, replyTwice
			}
		}
		seen = append(seen, key)
		if r := checkParam(key, value); !r.IsZero() {
			return p, r
		}
		p.utf8 = p.utf8 || key == "SMTPUTF8"
		p.text += " " + word
	}
	return p, envelope.Reply{}
}

func checkParam(key, value string) envelope.Reply {
	switch key {
	case "SIZE": // RFC 1870, section 3; a size of more than 32 bits is no error of syntax, and too big for us
		digits := strings.TrimLeft(value, "0")
		for i := range len(value) {
			if value[i] < '0' || value[i] > '9' {
				return replySizeSyntax
			}
		}
		if len(digits) > 10 || len(digits) == 10 && digits > "4294967295" {
			return replySize
		}
	case "BODY":
		if !strings.EqualFold(value, "7BIT") && !strings.EqualFold(value, "8BITMIME") {
			return replyNoParam
		}
	}
	return envelope.Reply{}
}

func isKeyword(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && (s[i] != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

// isValue allows UTF-8 too (RFC 6531, section 3.3): ORCPT may have it.
func isValue(s string) bool {
	return s != "" && !strings.Contains(s, "=") && utf8.ValidString(s)
}
