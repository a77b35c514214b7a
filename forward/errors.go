package forward

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Errors of Expand. Everything but ErrUnknown is temporary for the sender: the
// mail waits until somebody has repaired the table or the file.
var (
	// ErrUnknown says that no alias has this name.
	ErrUnknown = errors.New("forward: no such alias")
	// ErrLimit says that an expansion is too deep, too wide, or goes round.
	ErrLimit = errors.New("forward: expansion out of bounds")
	// ErrFile says that a file in Config.Dir is unsafe, unreadable or wrong.
	ErrFile = errors.New("forward: forward file refused")
)

// An Error is one mistake in an alias file, at its place.
type Error struct {
	File    string // or the key of the configuration that is meant
	Line    int    // from 1; 0 where the file as a whole is meant
	Col     int    // in characters, from 1
	Text    string
	Warning bool // the file loads all the same
}

// Error is "FILE:LINE:COL: error: text", as compilers write it, or without the
// numbers where there are none.
func (e Error) Error() string {
	level := "error"
	if e.Warning {
		level = "warning"
	}
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", e.File, level, e.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", e.File, e.Line, e.Col, level, e.Text)
}

// An ErrorList is all that is wrong with a set of alias files, in their order.
type ErrorList []Error

// Error is one line an error.
func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Fatal says whether one of the errors is more than a warning.
func (l ErrorList) Fatal() bool {
	return slices.ContainsFunc(l, func(e Error) bool { return !e.Warning })
}

// maxErrors is how many mistakes are told apart; who makes more has taken the
// wrong file.
const maxErrors = 1000

// sorted orders l by place; files keep the order in which they were read.
func (l ErrorList) sorted(files []string) ErrorList {
	rank := make(map[string]int, len(files))
	for i, f := range files {
		rank[f] = i
	}
	slices.SortStableFunc(l, func(a, b Error) int {
		return cmp.Or(cmp.Compare(rank[a.File], rank[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return l
}
