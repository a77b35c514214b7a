package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// An inventory is a journal beside the index of what is in the queue: badger
// drops a damaged end of its log without a word, and this is how Open knows
// what was there. Each frame is one commit:
//
//	length, crc32c      4 octets each, big endian, of what follows
//	seq, messages, deliveries   8 octets each: the ledger
//	ids added, ids removed      a count, then length and id of each, as uvarints
//
// The first frame of a file adds all. The file is synced a second behind, never
// before an acknowledgement; after a power cut it may lag behind the index, and
// then the ledger in the index has the numbers.
type inventory struct {
	path string

	mu    sync.Mutex
	f     *os.File
	size  int64 // of the file
	first int64 // of its first frame
	dirty bool  // not synced
	bad   bool  // a frame is missing
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func inventoryPath(dir string) string { return filepath.Join(dir, "inventory") }

// readInventory returns what the inventory of dir has: the ids in the queue and
// the ledger at its last frame. A file that is missing or damaged has less, and
// err says what is wrong with it.
func readInventory(dir string) (live map[string]bool, last ledger, err error) {
	live = map[string]bool{}
	f, err := os.Open(inventoryPath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return live, last, nil
	}
	if err != nil {
		return live, last, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		payload, err := readFrame(r)
		if err == io.EOF {
			return live, last, nil
		}
		if err == nil {
			last, err = applyFrame(payload, live)
		}
		if err != nil {
			return live, last, fmt.Errorf("store: inventory after commit %d: %w", last.seq, err)
		}
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 26 || n > 1<<30 {
		return nil, errors.New("bad length")
	}
	payload, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return nil, err
	}
	if len(payload) < int(n) || crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, errors.New("bad frame")
	}
	return payload, nil
}

func appendFrame(b []byte, l ledger, added, removed []string) []byte {
	start := len(b)
	b = append(b, make([]byte, 8)...)
	for _, n := range [...]uint64{l.seq, l.messages, l.deliveries} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, ids := range [...][]string{added, removed} {
		b = binary.AppendUvarint(b, uint64(len(ids)))
		for _, id := range ids {
			b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
		}
	}
	payload := b[start+8:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(payload, castagnoli))
	return b
}

func applyFrame(p []byte, live map[string]bool) (l ledger, err error) {
	for _, n := range [...]*uint64{&l.seq, &l.messages, &l.deliveries} {
		*n = binary.BigEndian.Uint64(p)
		p = p[8:]
	}
	uvarint := func() int {
		n, used := binary.Uvarint(p)
		if used <= 0 || n > 1<<30 {
			err = errors.New("bad count")
			p = nil
			return 0
		}
		p = p[used:]
		return int(n)
	}
	for _, adds := range [...]bool{true, false} {
		for i := uvarint(); i > 0 && err == nil; i-- {
			n := uvarint()
			if n > len(p) {
				return l, errors.New("bad id")
			}
			if id := string(p[:n]); adds {
				live[id] = true
			} else {
				delete(live, id)
			}
			p = p[n:]
		}
	}
	return l, err
}

// openInventory begins the file anew.
func openInventory(dir string, l ledger, ids []string) (*inventory, error) {
	v := &inventory{path: inventoryPath(dir)}
	return v, v.rewrite(l, ids)
}

// rewrite makes the file as short as can be: ids are all that is in the queue.
func (v *inventory) rewrite(l ledger, ids []string) error {
	frame := appendFrame(nil, l, ids, nil)
	f, err := writeSynced(v.path, frame)
	if err != nil {
		return fmt.Errorf("store: inventory: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.f != nil {
		v.f.Close()
	}
	v.f, v.size, v.first = f, int64(len(frame)), int64(len(frame))
	v.dirty, v.bad = false, false
	return nil
}

// writeSynced replaces a file, and leaves it open.
func writeSynced(path string, data []byte) (*os.File, error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		os.Remove(tmp)
		return nil, err
	}
	return f, nil
}

// long says that it is time for a rewrite.
func (v *inventory) long() bool { return v.bad || v.size > 4*v.first+4<<20 }

// append notes a commit.
func (v *inventory) append(l ledger, added, removed []string) error {
	frame := appendFrame(nil, l, added, removed)
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.f.WriteAt(frame, v.size); err != nil {
		v.bad = true
		return err
	}
	v.size += int64(len(frame))
	v.dirty = true
	return nil
}

// sync brings to the disk what has been appended.
func (v *inventory) sync() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.dirty {
		return nil
	}
	v.dirty = false
	return v.f.Sync()
}

func (v *inventory) close() error {
	return errors.Join(v.sync(), v.f.Close())
}
