package forward

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// How long an alias file must have been left alone before it is read, and how
// long that is waited for. An editor that writes in place first cuts the file
// to nothing, and a table read at that moment would be empty, and believed.
const (
	quiet    = 50 * time.Millisecond
	patience = time.Second // where the text looks as if something were missing
	maxQuiet = 3 * time.Second
)

// errChanging says that a file was written to while it was read.
var errChanging = errors.New("is being written to")

// reason is an error of the file system without the name that stands in front
// of every mistake anyway.
func reason(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return "cannot be read: " + pe.Err.Error()
	}
	return err.Error()
}

// readFile reads a whole file, one state of it.
func readFile(name string) (string, error) {
	info, err := os.Stat(name)
	for end := time.Now().Add(maxQuiet); err == nil && time.Now().Before(end); {
		if !info.Mode().IsRegular() {
			return "", errors.New("is no regular file")
		}
		if !settling(info, quiet) {
			text, err := readState(name, info)
			complete := strings.HasSuffix(text, "\n")
			if err != errChanging && (err != nil || complete || !settling(info, patience)) {
				return text, err
			}
		}
		time.Sleep(quiet / 5)
		info, err = os.Stat(name)
	}
	if err != nil {
		return "", err
	}
	return "", errChanging
}

// settling says whether a file was written to less than a while ago. A time in
// the future is another clock's.
func settling(info fs.FileInfo, while time.Duration) bool {
	age := time.Since(info.ModTime())
	return age >= 0 && age < while
}

// readState reads a file that is as info says before and after.
func readState(name string, info fs.FileInfo) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b strings.Builder
	b.Grow(int(info.Size()) + 512) // room for io.Copy to see the end
	if _, err = io.Copy(&b, f); err != nil {
		return "", err
	}
	after, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !os.SameFile(info, after) || int64(b.Len()) != info.Size() || after.Size() != info.Size() || !after.ModTime().Equal(info.ModTime()) {
		return "", errChanging
	}
	return b.String(), nil
}
