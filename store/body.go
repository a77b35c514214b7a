package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	badgerdb "github.com/dgraph-io/badger/v4"

	"srsd/envelope"
)

// inlineLimit is the size from which on a body is a file of its own: badger
// writes what it holds several times over, a file is written once.
const inlineLimit = 32 << 10

// storedBody is a body on its way into the store.
type storedBody struct {
	messageHead
	data []byte // where it is inline
}

// prepare reads a body, and writes and syncs its file where it is large.
func (s *Badger) prepare(id string, body envelope.Body) (b storedBody, err error) {
	if body == nil {
		return b, nil
	}
	b.size = body.Size()
	if b.size > inlineLimit {
		b.place = inFile
		b.sum, err = writeSpool(s.dir, id, body)
		return b, err
	}
	b.place = inline
	b.data = make([]byte, b.size)
	if n, err := body.ReadAt(b.data, 0); n < len(b.data) {
		return b, fmt.Errorf("store: body of %s: %w", id, err)
	}
	b.sum = sha256.Sum256(b.data)
	return b, nil
}

func spoolPath(dir, id string) string {
	// The end of an id changes fastest.
	return filepath.Join(spoolDir(dir), id[max(0, len(id)-2):], id)
}

// writeSpool makes a body's file: when it returns, the file and its name are on
// disk.
func writeSpool(dir, id string, body envelope.Body) (sum [sha256.Size]byte, err error) {
	path := spoolPath(dir, id)
	if err := makeShard(filepath.Dir(path)); err != nil {
		return sum, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), id+".*.tmp") // mode 0600
	if err != nil {
		return sum, fmt.Errorf("store: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("store: body of %s: %w", id, err)
		}
	}()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.NewSectionReader(body, 0, body.Size()))
	if err == nil && n != body.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return sum, err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, syncDir(filepath.Dir(path))
}

func makeShard(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenBody implements Queue.
func (s *Badger) OpenBody(ctx context.Context, id string) (StoredBody, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var head messageHead
	var data []byte
	err := s.db.View(func(txn *badgerdb.Txn) error {
		b, err := get(txn, messageKey(id))
		if err == nil {
			head, err = decodeMessageHead(b)
		}
		if err == nil && head.place == inline {
			if data, err = get(txn, bodyKey(id)); errors.Is(err, ErrNotFound) {
				err = fmt.Errorf("%w: %s is missing", ErrCorrupt, id)
			}
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case head.place == nowhere:
		return nil, fmt.Errorf("%w: the body of %s is gone", ErrNotFound, id)
	case head.place == inFile:
		return openSpool(s.dir, id, head)
	case int64(len(data)) != head.size || sha256.Sum256(data) != head.sum:
		return nil, fmt.Errorf("%w: %s", ErrCorrupt, id)
	}
	return inlineBody{bytes.NewReader(data)}, nil
}

// inlineBody is a small body, read whole.
type inlineBody struct{ *bytes.Reader }

func (inlineBody) Close() error { return nil }

// fileBody is a large body.
type fileBody struct {
	*os.File
	size int64
}

func (f fileBody) Size() int64 { return f.size }

func openSpool(dir, id string, head messageHead) (StoredBody, error) {
	f, err := os.Open(spoolPath(dir, id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: the file of %s is missing", ErrCorrupt, id)
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err == nil && (n != head.size || [sha256.Size]byte(h.Sum(nil)) != head.sum) {
		err = fmt.Errorf("%w: %s", ErrCorrupt, id)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return fileBody{f, head.size}, nil
}

// sweepSpool removes the files that no message has: a crash left them.
func (s *Badger) sweepSpool() error {
	files, err := filepath.Glob(filepath.Join(spoolDir(s.dir), "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range files {
		m := s.plan.messages[filepath.Base(path)]
		if m != nil && m.place == inFile {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}
