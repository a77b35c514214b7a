package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

type importCmd struct {
	PostSRSd importPostSRSdCmd `cmd:"" name:"postsrsd" help:"Write a configuration that takes PostSRSd's place, with the same secrets; say on stderr what has no counterpart."`
}

type importPostSRSdCmd struct {
	File     string `arg:"" optional:"" help:"PostSRSd's configuration: /etc/default/postsrsd (1.x) or postsrsd.conf (2.x); default the one that exists."`
	Output   string `short:"o" placeholder:"FILE" help:"Write to this file, which must not exist, instead of to stdout."`
	Domain   string `placeholder:"DOMAIN" help:"The SRS domain, where the file leaves it to Postfix's mydomain."`
	Hostname string `placeholder:"NAME" help:"The name of this host; default what the system says."`
}

// postsrsdFiles are the places where PostSRSd's packages have their files.
var postsrsdFiles = []string{"/etc/postsrsd.conf", "/etc/postsrsd/postsrsd.conf", "/usr/local/etc/postsrsd.conf", "/etc/default/postsrsd"}

// Run reads PostSRSd's configuration and writes srsd's.
func (k importPostSRSdCmd) Run(c console) error {
	file, text, err := k.read()
	if err != nil {
		return err
	}
	m := migration{file: file, domain: k.Domain, hostname: k.Hostname}
	if isShell(text) {
		err = m.fromShell(text)
	} else {
		err = m.fromConf(text)
	}
	if err == nil {
		err = m.complete()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if k.Output == "" {
		fmt.Fprint(c.Out, m.toml())
	} else if err := create(k.Output, m.toml()); err != nil {
		return err
	}
	for _, n := range m.notes {
		fmt.Fprintln(c.Err, "note:", n)
	}
	return nil
}

func (k importPostSRSdCmd) read() (file, text string, err error) {
	files := postsrsdFiles
	if k.File != "" {
		files = []string{k.File}
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return file, string(data), err
		}
	}
	return "", "", fmt.Errorf("none of these exists: %s", strings.Join(files, ", "))
}

// create writes a file that must not exist.
func create(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// A migration is what has been found in PostSRSd's configuration, in the words
// of srsd's.
type migration struct {
	file, hostname, domain, secrets string

	separator, alphabet       string
	hashLength, hashMinimum   int
	sender, recipient         string // tcp_table
	socketmap, milter         string
	localDomains, exclude     []string
	rewriteLocal, debug, conf bool // conf: 2.x
	notes                     []string
}

func (m *migration) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// complete fills in what PostSRSd would take from elsewhere, and says what
// cannot be taken over.
func (m *migration) complete() error {
	if m.domain == "" {
		out, err := exec.Command("postconf", "-h", "mydomain").Output()
		if m.domain = strings.TrimSpace(string(out)); err != nil || m.domain == "" {
			return errors.New("names no SRS domain, and Postfix is not here to say its mydomain: name it with --domain")
		}
		m.note("the SRS domain is Postfix's mydomain, %s", m.domain)
	}
	if m.hostname == "" {
		m.hostname, _ = os.Hostname()
		if !strings.Contains(m.hostname, ".") {
			m.hostname = m.domain
		}
	}
	if m.hashLength == 0 {
		m.hashLength = 4
	}
	if m.hashMinimum == 0 {
		m.hashMinimum = 4
	}
	m.bound("hash length", &m.hashLength)
	m.bound("minimal hash length", &m.hashMinimum)
	if m.hashMinimum > m.hashLength {
		return fmt.Errorf("the minimal hash length is %d, and hashes have only %d", m.hashMinimum, m.hashLength)
	}
	if m.sender+m.recipient+m.socketmap+m.milter == "" {
		return errors.New("has neither ports nor sockets")
	}
	m.note("%s must be owned by root or by the user that runs srsd, with mode 0600 (0640 for root and a group)", m.secrets)
	if !m.conf {
		m.note("PostSRSd 1 reverses SRS addresses at every domain; srsd does at %s only: list other domains that addresses were signed with in srs.retired", m.domain)
	}
	m.note("\"srsd check\" reads the result; docs/postfix.md says how to change over, and how to let only bounces use SRS addresses")
	return nil
}

// bound keeps a length within what srsd has.
func (m *migration) bound(name string, n *int) {
	if allowed := min(max(*n, 4), 20); allowed != *n {
		m.note("the %s is %d instead of %d: srsd has 4 to 20", name, allowed, *n)
		*n = allowed
	}
}

// toml is the configuration.
func (m *migration) toml() string {
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "%s = %v\n", key, value) }
	text := func(key, value string) {
		if value != "" {
			line(key, strconv.Quote(value))
		}
	}
	list := func(key string, values []string) {
		if len(values) == 0 {
			return
		}
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = strconv.Quote(v)
		}
		line(key, "["+strings.Join(quoted, ", ")+"]")
	}
	fmt.Fprintf(&b, "# srsd in the place of PostSRSd, from %s\n", m.file)
	text("hostname", m.hostname)
	text("data_dir", "/var/lib/srsd")
	b.WriteString("\n[srs]\n")
	text("domain", m.domain)
	text("secrets", m.secrets)
	text("format", "classic")
	text("separator", m.separator)
	text("alphabet", m.alphabet)
	line("hash_length", m.hashLength)
	line("hash_minimum", m.hashMinimum)
	b.WriteString("\n[postfix]\n")
	text("sender_tcp", m.sender)
	text("recipient_tcp", m.recipient)
	text("socketmap", m.socketmap)
	text("milter", m.milter)
	list("local_domains", m.localDomains)
	list("exclude", m.exclude)
	if m.rewriteLocal {
		line("rewrite_local", true)
	}
	if m.debug {
		b.WriteString("\n[log]\n")
		text("level", "debug")
	}
	return b.String()
}

// isShell says whether a configuration is the shell form of 1.x.
func isShell(text string) bool {
	for line := range strings.Lines(text) {
		name, _, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if ok && (strings.HasPrefix(name, "SRS_") || name == "RUN_AS" || name == "CHROOT") {
			return true
		}
	}
	return false
}

// fromShell reads the settings that Debian's launcher of 1.x hands over.
func (m *migration) fromShell(text string) error {
	v := map[string]string{
		"SRS_FORWARD_PORT": "10001", "SRS_REVERSE_PORT": "10002", "SRS_LISTEN_ADDR": "127.0.0.1",
		"SRS_SECRET": "/etc/postsrsd.secret", "SRS_SEPARATOR": "=", "SRS_HASHLENGTH": "4", "SRS_HASHMIN": "4",
	}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		name, value, ok := strings.Cut(line, "=")
		if line == "" || line[0] == '#' {
			continue
		}
		words, err := shellWords(value)
		if !ok || err != nil || len(words) > 1 {
			return fmt.Errorf("line %d: %q is no plain assignment", n+1, line)
		}
		v[name] = strings.Join(words, "")
	}
	if m.domain == "" && !strings.Contains(v["SRS_DOMAIN"], "postconf") {
		m.domain = v["SRS_DOMAIN"]
	}
	if err := m.options(v); err != nil {
		return err
	}
	m.secrets, m.separator = v["SRS_SECRET"], v["SRS_SEPARATOR"]
	m.sender = net.JoinHostPort(v["SRS_LISTEN_ADDR"], v["SRS_FORWARD_PORT"])
	m.recipient = net.JoinHostPort(v["SRS_LISTEN_ADDR"], v["SRS_REVERSE_PORT"])
	m.exclude = splitList(v["SRS_EXCLUDE_DOMAINS"])
	for name, target := range map[string]*int{"SRS_HASHLENGTH": &m.hashLength, "SRS_HASHMIN": &m.hashMinimum} {
		n, err := strconv.Atoi(v[name])
		if err != nil {
			return fmt.Errorf("%s: %q is no number", name, v[name])
		}
		*target = n
	}
	if v["RUN_AS"] != "" {
		m.note("RUN_AS=%s: start srsd as this user, or set user, and let it read the secrets", v["RUN_AS"])
	}
	if v["CHROOT"] != "" {
		m.note("CHROOT=%s has no counterpart: systemd's RootDirectory or ProtectSystem does it", v["CHROOT"])
	}
	return nil
}

// options puts SRS_EXTRA_OPTIONS into the other settings.
func (m *migration) options(v map[string]string) error {
	settings := map[byte]string{
		'd': "SRS_DOMAIN", 's': "SRS_SECRET", 'a': "SRS_SEPARATOR", 'n': "SRS_HASHLENGTH", 'N': "SRS_HASHMIN", 'l': "SRS_LISTEN_ADDR",
		'f': "SRS_FORWARD_PORT", 'r': "SRS_REVERSE_PORT", 'u': "RUN_AS", 'c': "CHROOT", 't': "", 'p': "",
	}
	words := strings.Fields(v["SRS_EXTRA_OPTIONS"])
	for i := 0; i < len(words); i++ {
		o := words[i]
		if len(o) < 2 || o[0] != '-' {
			return fmt.Errorf("SRS_EXTRA_OPTIONS: %q is no option", o)
		}
		name, takes := settings[o[1]] // the value of -X stands right behind it
		value := o[2:]
		if takes && value == "" && i+1 < len(words) {
			i++
			value = words[i]
		}
		switch {
		case o[1] == 'X':
			v["SRS_EXCLUDE_DOMAINS"] += " " + value
		case o[1] == 'd':
			m.note("the option -d of SRS_EXTRA_OPTIONS is left out: SRS_DOMAIN comes behind it")
		case name != "":
			v[name] = value
		default:
			m.note("the option %s has no counterpart", strings.TrimSpace(o[:2]+" "+value))
		}
	}
	return nil
}

// shellWords splits a value as a shell does; command substitution stays as it
// stands.
func shellWords(s string) (words []string, err error) {
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote == 0 && (c == '"' || c == '\'' || c == '`'), quote != 0 && c == quote:
			inWord = true
			if quote == 0 {
				quote = c
			} else {
				quote = 0
			}
		case quote == 0 && c == '#' && !inWord:
			return words, nil
		case quote == 0 && (c == ' ' || c == '\t' || c == '\r'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			inWord = true
			word.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote does not end")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// splitList splits an exclude list as PostSRSd does.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(",; \t\r\n", r) })
}

// besideFile makes a relative path start at the folder of a file.
func besideFile(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}
