package forward

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxForwardFile is the most octets that a forward file may have.
const maxForwardFile = 4 << 10

// forwardFile looks for Dir/DOMAIN/USER, the right-hand side of an alias in a
// file of its owner's. The file is read anew each time: that costs some
// microseconds, and what is in it is always what counts. Whatever is wrong with
// it, the mail must wait and not be refused, for somebody lives there.
func (t *Table) forwardFile(local, domain string) (hit, bool, error) {
	names := [...]string{local, ""}
	if name, ok := detail(local); ok {
		names[1] = name
	}
	for _, name := range names {
		if !fileName(name) || !fileName(domain) {
			continue
		}
		text, err := readBelow(t.dir, filepath.Join(domain, name), maxForwardFile)
		if errors.Is(err, fs.ErrNotExist) && t.missing(domain, name) {
			continue
		}
		if err != nil {
			return hit{}, false, fmt.Errorf("%w: %s/%s %s", ErrFile, domain, name, reason(err))
		}
		list, err := parseForward(text)
		if err != nil {
			return hit{}, false, fmt.Errorf("%w: %s/%s:%v", ErrFile, domain, name, err)
		}
		h := hit{entry: madeEntry(string(appendKey(nil, name, domain)), list), exact: true}
		return h, true, nil
	}
	return hit{}, false, nil
}

// missing says whether there is no such file although the directory is there: a
// file system that is not mounted must not refuse everybody's mail, and a link
// that leads nowhere is a mistake and not an absence.
func (t *Table) missing(domain, name string) bool {
	if _, err := os.Stat(t.dir); err != nil {
		return false
	}
	_, err := os.Lstat(filepath.Join(t.dir, domain, name))
	return errors.Is(err, fs.ErrNotExist)
}

// fileName says whether a local part or a domain may be used as the name of a
// file: nothing that is hidden, leads elsewhere, or is no name.
func fileName(s string) bool {
	return s != "" && s[0] != '.' && len(s) <= 255 && !strings.ContainsAny(s, "/\\\x00")
}

// parseForward reads the text of a forward file.
func parseForward(text string) ([]item, error) {
	t := newTable(Config{})
	p := newParser(t, Config{})
	s := p.open("", text, true)
	if s == nil || !p.list(s, noGroups, 0) || len(p.items) == 0 || p.lone.s != nil && len(p.items) > 1 {
		for _, e := range p.errs {
			return nil, fmt.Errorf("%d:%d: %s", e.Line, e.Col, e.Text)
		}
		return nil, errors.New("1:1: there is no target")
	}
	return p.items, nil
}
