package forward

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The bounds of included files.
const (
	maxIncludeDepth = 5
	maxIncludeSize  = 1 << 20
	maxIncludeTotal = 64 << 20
)

// include reads the items of a file below the include directory in its place.
func (p *parser) include(path string, at place, groups, depth int) bool {
	switch {
	case path == "":
		p.fail(at, ":include: needs the name of a file")
		return false
	case p.includes == "":
		p.fail(at, ":include: reads only below forward.include_dir, and none is set")
		return false
	case depth >= maxIncludeDepth:
		p.fail(at, "%s is included %d levels deep, %d are allowed: does it include itself?", path, depth+1, maxIncludeDepth)
		return false
	}
	relative, err := below(p.includes, path)
	if err == nil {
		var text string
		if text, err = readBelow(p.includes, relative, maxIncludeSize); err == nil {
			return p.included1(filepath.Join(p.includes, relative), text, at, groups, depth)
		}
	}
	p.fail(at, "%s %s", path, reason(err))
	return false
}

func (p *parser) included1(name, text string, at place, groups, depth int) bool {
	if p.included += int64(len(text)); p.included > maxIncludeTotal {
		p.fail(at, "the included files have more than %d MiB together", maxIncludeTotal>>20)
		return false
	}
	s := p.open(name, text, true)
	return s != nil && p.list(s, groups, depth+1)
}

// below makes path relative to dir; an absolute path must lie in it.
func below(dir, path string) (string, error) {
	if !filepath.IsAbs(path) {
		return path, nil
	}
	relative, err := filepath.Rel(dir, path)
	if err != nil || relative == ".." || strings.HasPrefix(relative, "../") {
		return "", errors.New("is outside of forward.include_dir")
	}
	return relative, nil
}

// readBelow reads a regular file that nobody but its owner may write, without
// leaving dir by symbolic links or "..".
func readBelow(dir, path string, limit int64) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	// O_NONBLOCK: else opening a FIFO would wait for somebody to write.
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if err := safe(info, limit); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", err
	}
	after, err := f.Stat()
	if err != nil {
		return "", err
	}
	if int64(len(text)) != info.Size() || after.Size() != info.Size() || !after.ModTime().Equal(info.ModTime()) {
		return "", errChanging
	}
	return string(text), nil
}

func safe(info fs.FileInfo, limit int64) error {
	switch {
	case !info.Mode().IsRegular():
		return errors.New("is no regular file")
	case info.Mode().Perm()&0o022 != 0:
		return errors.New("may be written by group or others")
	case info.Size() > limit:
		return errors.New("is too large")
	}
	return nil
}
