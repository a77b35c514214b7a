package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// verifyIndex checks every table of an index before badger opens it. Badger can
// do so itself, but panics in a goroutine of its own where it finds something;
// unasked, it skips a bad block without a word, and compaction makes the gap
// good.
func verifyIndex(dir string) error {
	f, err := os.Open(filepath.Join(dir, badgerdb.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return noTables(dir)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	manifest, _, err := badgerdb.ReplayManifestFile(f, 0, badgerOptions(dir, nil))
	if err != nil {
		return fmt.Errorf("%s: %w", badgerdb.ManifestFilename, err)
	}
	for id := range manifest.Tables {
		path := table.NewFilename(id, dir)
		if err := verifyTable(path); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// noTables is an index without a manifest: badger would begin a new one, and
// remove all tables, because none is named in it.
func noTables(dir string) error {
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err == nil && len(tables) > 0 {
		err = fmt.Errorf("%s is missing", badgerdb.ManifestFilename)
	}
	return err
}

// errChecksum says that a table is not as it was written.
var errChecksum = errors.New("checksum mismatch")

// verifyTable reads a table from its end: blocks, index, and behind each a
// checksum and its length.
func verifyTable(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	rest, sum, err := cutChecksum(data)
	if err != nil {
		return err
	}
	rest, n, err := cutLength(rest)
	if err != nil {
		return err
	}
	text := rest[len(rest)-n:]
	if err := y.VerifyChecksum(text, sum); err != nil {
		return errChecksum
	}
	index := fb.GetRootAsTableIndex(text, 0)
	var at fb.BlockOffset
	for i := range index.OffsetsLength() {
		if !index.Offsets(&at, i) || uint64(at.Offset())+uint64(at.Len()) > uint64(len(rest)) {
			return errChecksum
		}
		block, sum, err := cutChecksum(rest[at.Offset() : at.Offset()+at.Len()])
		if err != nil {
			return err
		}
		if err := y.VerifyChecksum(block, sum); err != nil {
			return errChecksum
		}
	}
	return nil
}

// cutLength takes a length off the end of b, which must have as much left.
func cutLength(b []byte) (rest []byte, n int, err error) {
	if len(b) < 4 {
		return nil, 0, errChecksum
	}
	rest, n = b[:len(b)-4], int(binary.BigEndian.Uint32(b[len(b)-4:]))
	if n > len(rest) {
		return nil, 0, errChecksum
	}
	return rest, n, nil
}

// cutChecksum takes a checksum, with its length, off the end of b.
func cutChecksum(b []byte) (rest []byte, sum *pb.Checksum, err error) {
	rest, n, err := cutLength(b)
	if err != nil {
		return nil, nil, err
	}
	sum = new(pb.Checksum)
	if err := proto.Unmarshal(rest[len(rest)-n:], sum); err != nil || sum.Algo != pb.Checksum_CRC32C {
		return nil, nil, errChecksum
	}
	return rest[:len(rest)-n], sum, nil
}
