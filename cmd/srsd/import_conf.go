package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// fromConf reads postsrsd.conf of 2.x.
func (m *migration) fromConf(text string) error {
	v, err := parseConf(text)
	if err != nil {
		return err
	}
	m.conf = true
	one := func(name, fallback string) string {
		if list, ok := v[name]; ok {
			return strings.Join(list, "")
		}
		return fallback
	}
	m.localDomains = v["domains"]
	if file := besideFile(m.file, one("domains-file", "")); file != "" {
		if err := m.domainsFile(file); err != nil {
			return err
		}
	}
	if m.domain == "" {
		m.domain = strings.TrimPrefix(one("srs-domain", ""), ".")
	}
	if m.domain == "" && len(m.localDomains) > 0 {
		m.domain = strings.TrimPrefix(m.localDomains[0], ".")
	}
	m.secrets = besideFile(m.file, one("secrets-file", "postsrsd.secret"))
	m.separator = one("separator", "=")
	m.socketmap = one("socketmap", "unix:/var/spool/postfix/srs")
	m.milter = one("milter", "")
	m.rewriteLocal = isTrue(one("milter-rewrite-local", ""))
	m.debug = isTrue(one("debug", ""))
	for name, target := range map[string]*int{"hash-length": &m.hashLength, "hash-minimum": &m.hashMinimum} {
		if *target, err = strconv.Atoi(one(name, "4")); err != nil {
			return fmt.Errorf("%s: %q is no number", name, one(name, ""))
		}
	}
	m.confNotes(one)
	return nil
}

// confNotes says what srsd does in another way.
func (m *migration) confNotes(one func(name, fallback string) string) {
	if one("original-envelope", "embedded") == "database" {
		m.note("original-envelope = database: srsd keeps only what is too long for an address, in its data_dir; it cannot reverse addresses that PostSRSd keeps in %s", one("envelope-database", "its database"))
	}
	if isTrue(one("always-rewrite", "")) {
		m.note("always-rewrite has no counterpart: senders in domains of ours stay as they are")
	}
	for _, o := range []struct{ name, instead string }{
		{"keep-alive", "doors wait 30 minutes for Postfix"},
		{"connection-limit", "10,000 connections"},
		{"milter-recipient-limit", "10,000 recipients"},
		{"unprivileged-user", "start srsd as this user, or set user, and let it read the secrets"},
		{"chroot-dir", "systemd's RootDirectory or ProtectSystem does it"},
		{"pid-file", "srsd stays in the foreground, for systemd"},
		{"daemonize", "srsd stays in the foreground, for systemd"},
		{"syslog", "srsd logs to stderr, for systemd"},
		{"seccomp", "systemd's SystemCallFilter does it"},
		{"domains-file-watch", "the file was copied into local_domains"},
	} {
		if value := one(o.name, ""); value != "" {
			m.note("%s = %s has no counterpart: %s", o.name, value, o.instead)
		}
	}
	m.alphabet = "url" // what PostSRSd writes since 2.2.6; both are read
}

// domainsFile adds the domains of a domains-file.
func (m *migration) domainsFile(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		m.localDomains = append(m.localDomains, strings.Fields(line)...)
	}
	return nil
}

func isTrue(s string) bool { return s == "on" || s == "true" || s == "yes" }

// parseConf reads libconfuse's form: NAME = VALUE, NAME = { VALUE, … }, with
// quotes and three kinds of comments.
func parseConf(text string) (map[string][]string, error) {
	out := map[string][]string{}
	tokens, err := confTokens(text)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(tokens); {
		name := tokens[i]
		if i+2 >= len(tokens) || tokens[i+1] != "=" && tokens[i+1] != "+=" {
			return nil, fmt.Errorf("%q stands alone, wanted is NAME = VALUE", name)
		}
		var values []string
		if tokens[i+1] == "+=" {
			values = out[name]
		}
		i += 2
		if tokens[i] != "{" {
			out[name] = append(values, unmark(tokens[i]))
			i++
			continue
		}
		for i++; i < len(tokens) && tokens[i] != "}"; i++ {
			if tokens[i] != "," {
				values = append(values, unmark(tokens[i]))
			}
		}
		if i == len(tokens) {
			return nil, fmt.Errorf("the list of %s does not end", name)
		}
		out[name] = values
		i++
	}
	return out, nil
}

// quoted marks a token that stood in quotes, so that "{" is no bracket.
const quoted = "\x00"

func unmark(token string) string { return strings.TrimPrefix(token, quoted) }

func confTokens(s string) (tokens []string, err error) {
	for s = strings.TrimLeft(s, " \t\r\n"); s != ""; s = strings.TrimLeft(s, " \t\r\n") {
		n := 0
		switch {
		case s[0] == '#', strings.HasPrefix(s, "//"):
			if n = strings.IndexByte(s, '\n'); n < 0 {
				n = len(s)
			}
		case strings.HasPrefix(s, "/*"):
			if n = strings.Index(s, "*/") + 2; n < 2 {
				return nil, errors.New("a comment does not end")
			}
		case s[0] == '"' || s[0] == '\'':
			n = strings.IndexByte(s[1:], s[0]) + 2
			if n < 2 {
				return nil, errors.New("a quote does not end")
			}
			tokens = append(tokens, quoted+s[1:n-1])
		case strings.HasPrefix(s, "+="):
			n = 2
			tokens = append(tokens, s[:n])
		case strings.IndexByte("={},", s[0]) >= 0:
			n = 1
			tokens = append(tokens, s[:n])
		default:
			if n = strings.IndexAny(s[1:], " \t\r\n={},\"'#") + 1; n == 0 {
				n = len(s)
			}
			tokens = append(tokens, s[:n])
		}
		s = s[n:]
	}
	return tokens, nil
}
