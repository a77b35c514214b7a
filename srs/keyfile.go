package srs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	keysHeader    = "srsd-keys 1"
	minSecret     = 16   // octets
	maxSecretLine = 1023 // PostSRSd reads no further
	maxKeyFile    = 1 << 20
)

// A KeyOption changes how a secrets file is read.
type KeyOption int

// KeepNewline leaves the newline at the end of each plain line in the secret,
// as "srs --secretfile" and "srsd --secretfile" of Mail::SRS do.
const KeepNewline KeyOption = 1

// ParseKeys reads a secrets file. When its first line is "srsd-keys 1", each
// further line is
//
//	ID SECRET [sign-until=DATE] [accept-until=DATE]
//
// where a DATE is the last day of use, 2006-01-02 in UTC, and "#" at the
// beginning of a line or behind white space starts a comment. A secret with
// spaces stands in double quotes, as a Go string.
//
// Any other file is PostSRSd's: every line, whole, without CR and LF, is a
// secret; the first signs, all verify, and the IDs are line1, line2 and so on.
// There a line that starts with "#" is refused, because PostSRSd would take it
// for a secret that everybody can guess.
//
// Errors name the line and never hold a secret. A secret of less than 16
// octets is refused, and so is a file without a key.
func ParseKeys(data []byte, options ...KeyOption) (Keys, error) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	parse := parsePlain
	headed := bytes.HasPrefix(data, []byte(keysHeader))
	if headed {
		parse = parseKeyLine
		if rest := bytes.TrimSpace(lines[0][len(keysHeader):]); len(rest) > 0 {
			return nil, fmt.Errorf("srs: secrets: line 1: begins with %q, and goes on; nothing may stand behind it", keysHeader)
		}
	}
	keep := false
	for _, o := range options {
		keep = keep || o == KeepNewline
	}
	var keys Keys
	for i, line := range lines {
		if i == 0 && headed {
			continue
		}
		k, err := parse(string(line), i+1, keep)
		if err == nil && k.ID != "" {
			err = keys.check(k)
			keys = append(keys, k)
		}
		if err != nil {
			return nil, fmt.Errorf("srs: secrets: line %d: %w", i+1, err)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("srs: secrets: no key in the file")
	}
	return keys, nil
}

func (ks Keys) check(k Key) error {
	if n := len(k.hasher.secret); n < minSecret {
		return fmt.Errorf("the secret has %d octets, %d are the least", n, minSecret)
	}
	for _, other := range ks {
		if other.ID == k.ID {
			return fmt.Errorf("the id %s is taken already", k.ID)
		}
	}
	return nil
}

// parsePlain reads a line as PostSRSd does; the zero Key is an empty line.
func parsePlain(line string, n int, keepNewline bool) (Key, error) {
	secret := strings.Trim(line, "\r\n")
	switch {
	case secret == "":
		return Key{}, nil
	case secret[0] == '#':
		return Key{}, fmt.Errorf("a comment, which PostSRSd would take for a secret; begin the file with the line %q to have comments", keysHeader)
	case len(secret) > maxSecretLine:
		return Key{}, fmt.Errorf("%d octets, %d are the most", len(secret), maxSecretLine)
	}
	if keepNewline {
		secret = line
	}
	return NewKey("line"+strconv.Itoa(n), []byte(secret)), nil
}

// parseKeyLine reads a line of an srsd-keys file; the zero Key is an empty one.
func parseKeyLine(line string, _ int, _ bool) (Key, error) {
	id, rest := word(line)
	if id == "" || id[0] == '#' {
		return Key{}, nil
	}
	if len(id) > 32 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return Key{}, fmt.Errorf("the id is not made of 1 to 32 letters, digits, dots, hyphens and underscores")
	}
	secret, rest, err := secretWord(rest)
	if err != nil {
		return Key{}, err
	}
	k := NewKey(id, []byte(secret))
	for {
		var option string
		if option, rest = word(rest); option == "" || option[0] == '#' {
			return k, nil
		}
		if err := k.set(option); err != nil {
			return Key{}, err
		}
	}
}

func (k *Key) set(option string) error {
	name, value, _ := strings.Cut(option, "=")
	at := map[string]*time.Time{"sign-until": &k.SignUntil, "accept-until": &k.AcceptUntil}[name]
	if at == nil {
		return fmt.Errorf("key %s: behind the secret there may be sign-until=DATE and accept-until=DATE only", k.ID)
	}
	last, err := time.Parse(time.DateOnly, value)
	if err != nil {
		return fmt.Errorf("key %s: %s is no date like 2006-01-02", k.ID, name)
	}
	if !at.IsZero() {
		return fmt.Errorf("key %s: %s twice", k.ID, name)
	}
	*at = last.AddDate(0, 0, 1)
	return nil
}

// word cuts the first word from s.
func word(s string) (first, rest string) {
	s = strings.TrimLeft(s, " \t\r\n")
	i := strings.IndexAny(s, " \t\r\n")
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

func secretWord(s string) (secret, rest string, err error) {
	s = strings.TrimLeft(s, " \t")
	if quoted, err := strconv.QuotedPrefix(s); err == nil && quoted[0] == '"' {
		secret, _ = strconv.Unquote(quoted)
		return secret, s[len(quoted):], nil
	}
	if strings.HasPrefix(s, `"`) {
		return "", "", fmt.Errorf("the quote before the secret does not end")
	}
	secret, rest = word(s)
	if secret == "" || secret[0] == '#' {
		return "", "", fmt.Errorf("no secret behind the id")
	}
	return secret, rest, nil
}

// LoadKeys is ParseKeys of a file that nobody else can read: it is owned by
// root or by the running user and has mode 0600 or stricter; where root owns
// it and another user runs, its group may read it too (0640).
func LoadKeys(path string, options ...KeyOption) (Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("srs: secrets: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("srs: secrets: %w", err)
	}
	if err := checkFile(info); err != nil {
		return nil, fmt.Errorf("srs: secrets: %s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("srs: secrets: %w", err)
	}
	keys, err := ParseKeys(data, options...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func checkFile(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("no regular file")
	}
	if info.Size() >= maxKeyFile {
		return fmt.Errorf("larger than %d octets", maxKeyFile)
	}
	uid, known := owner(info)
	if !known {
		return nil // this system has no such modes
	}
	if uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("owned by user %d; root or the running user %d must own it", uid, os.Geteuid())
	}
	allowed := fs.FileMode(0o600)
	if uid == 0 && os.Geteuid() != 0 {
		allowed = 0o640 // root keeps it for a user who must read it
	}
	if perm := info.Mode().Perm(); perm&^allowed != 0 {
		return fmt.Errorf("mode %04o; others than its owner may use it: chmod 600", perm)
	}
	return nil
}
