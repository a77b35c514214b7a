package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	badgeropts "github.com/dgraph-io/badger/v4/options"
)

// ErrClosed says that the store has been closed.
var ErrClosed = errors.New("store: closed")

// Options are the settings of Open. The zero Options are good.
type Options struct {
	Reserve    int64            // octets of the file system that Enqueue leaves free; 0: 256 MiB, negative: none
	KeepFailed time.Duration    // how long failed deliveries stay listed; 0: seven days
	Logger     *slog.Logger     // nil: slog.Default
	Now        func() time.Time // nil: time.Now, and leases run out by a clock that never jumps
}

// Badger is the engine for one srsd with its own disk: it is Queue and State.
//
// In its directory are index (badger: envelopes, deliveries, small bodies,
// state), spool (large bodies, a file each), inventory (what is in the queue,
// so that a loss is noticed) and lock. When things are due, and who holds which
// lease, is in memory only, and rebuilt by Open: after a restart nothing is
// leased. All changes go through one goroutine, which merges what waits into
// one transaction and one fsync.
type Badger struct {
	dir       string
	reserve   int64
	keep      time.Duration
	log       *slog.Logger
	now       func() time.Time
	steady    func() int64 // what leases run out by, nanoseconds
	lock      *os.File
	db        *badgerdb.DB
	inventory *inventory
	space     space
	counters  counters
	requests  chan *request
	apart     chan func()   // what the writer does between two commits
	stop      chan struct{} // closed by Close
	ended     chan struct{} // closed by the writer when it ends
	running   sync.WaitGroup
	closing   sync.Once

	mu     sync.Mutex // guards what follows
	plan   plan
	damage Damage

	// The writer's own.
	ledger  ledger
	callers [2]int // how many the last two commits had
	broken  error  // a commit that failed: nothing is written any more

	reclaimed int64 // size of the tables after the last reclaim, tend's own
}

var (
	_ Queue = (*Badger)(nil)
	_ State = (*Badger)(nil)
)

// What badger holds in memory before it writes a table, and how large tables
// are otherwise. A transaction may have 15 % of memTableSize. Badger keeps up to
// eight builders of twice tableSize, more where a memory table does not fit.
const (
	memTableSize = 8 << 20
	tableSize    = 5 << 20
)

// Open opens the store in dir, which it creates where it does not exist. The
// error wraps ErrInUse where another process has it open, ErrFull where there
// is too little space to run at all.
func Open(dir string, o Options) (_ *Badger, err error) {
	s := &Badger{
		dir: dir, reserve: o.Reserve, keep: o.KeepFailed, log: o.Logger, now: o.Now,
		requests: make(chan *request, 1024), apart: make(chan func()), stop: make(chan struct{}), ended: make(chan struct{}),
		plan: newPlan(), counters: newCounters(),
	}
	s.setDefaults()
	if err := makeDirs(dir); err != nil {
		return nil, err
	}
	if s.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	s.space = space{dir: dir, reserve: s.reserve}
	if err := s.space.enoughToOpen(); err != nil {
		return nil, err
	}
	if s.db, err = s.openIndex(); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	if err := s.unmap(); err != nil {
		return nil, err
	}
	s.running.Go(s.commitAll)
	s.running.Go(s.tend)
	s.running.Go(s.checkFiles)
	return s, nil
}

func (s *Badger) setDefaults() {
	if s.reserve == 0 {
		s.reserve = 256 << 20
	}
	if s.keep == 0 {
		s.keep = 7 * 24 * time.Hour
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.steady = func() int64 { return s.now().UnixNano() }
	if s.now == nil {
		start := time.Now()
		s.now = time.Now
		s.steady = func() int64 { return int64(time.Since(start)) }
	}
}

// abandon releases what a failed Open has taken.
func (s *Badger) abandon() {
	if s.inventory != nil {
		s.inventory.close()
	}
	if s.db != nil {
		s.db.Close()
	}
	s.lock.Close()
}

// Close ends the store. What was acknowledged is on disk already; counters are
// written now. On a full disk the index is left as a kill would leave it, which
// loses nothing, and the process should end.
func (s *Badger) Close() (err error) {
	s.closing.Do(func() {
		s.flushCounters()
		close(s.stop)
		s.running.Wait()
		err = s.inventory.close()
		if full := s.space.enoughToWrite(); full != nil {
			s.log.Warn("index left open", "error", full)
		} else {
			err = errors.Join(err, s.db.Close())
		}
		err = errors.Join(err, s.lock.Close())
	})
	return err
}

func indexDir(dir string) string { return filepath.Join(dir, "index") }
func spoolDir(dir string) string { return filepath.Join(dir, "spool") }

func makeDirs(dir string) error {
	for _, d := range []string{dir, indexDir(dir), spoolDir(dir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	// Whoever made the folder may have been generous; mail is nobody's business.
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// openIndex opens badger.
func (s *Badger) openIndex() (db *badgerdb.DB, err error) {
	dir := indexDir(s.dir)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
		if err != nil {
			db = nil // what badger returns beside an error cannot even be closed
			err = fmt.Errorf("store: the index in %s is damaged (%w): restore the data directory from a backup, or move it away and start without it", dir, err)
		}
	}()
	if err := removeUnborn(dir); err != nil {
		return nil, err
	}
	if err := verifyIndex(dir); err != nil {
		return nil, err
	}
	return badgerdb.Open(badgerOptions(dir, s.log))
}

// removeUnborn removes logs of badger's without an octet. A kill between the
// making of such a file and its first octet leaves one, and badger takes it for
// a new file and does not open.
func removeUnborn(dir string) error {
	for _, pattern := range []string{"*.vlog", "*.mem"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			if info.Size() > 0 {
				continue
			}
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// unmap opens badger anew after load has read half of a long queue, all of
// which would stay mapped, and count as memory.
func (s *Badger) unmap() (err error) {
	if s.plan.total < 50_000 {
		return nil
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.db, err = badgerdb.Open(badgerOptions(indexDir(s.dir), s.log))
	if err != nil {
		s.db = nil
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func badgerOptions(dir string, log *slog.Logger) badgerdb.Options {
	o := badgerdb.DefaultOptions(dir)
	o.TableSizeMultiplier = 1
	return o.
		WithSyncWrites(true). // without it, a power cut loses what was acknowledged
		WithMemTableSize(memTableSize).
		WithNumMemtables(2).
		WithBaseTableSize(5 << 20).  // badger's table builders take twice as much, eight of them, and memTableSize must fit
		WithValueThreshold(1 << 20). // nothing is as large: the value log, which a queue cannot reclaim, stays empty
		WithValueLogFileSize(4 * memTableSize).
		WithCompression(badgeropts.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(8).
		WithNumCompactors(2).
		WithChecksumVerificationMode(badgeropts.OnBlockRead).
		WithDetectConflicts(false). // there is one writer
		WithMetricsEnabled(false).
		WithLogger(badgerLog{log})
}

// badgerLog lets badger speak through slog. Its "info" is of no use to an
// operator.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any)   { l.say(slog.LevelError, f, a) }
func (l badgerLog) Warningf(f string, a ...any) { l.say(slog.LevelWarn, f, a) }
func (l badgerLog) Infof(f string, a ...any)    { l.say(slog.LevelDebug, f, a) }
func (l badgerLog) Debugf(string, ...any)       {}

func (l badgerLog) say(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger", "text", fmt.Sprintf(format, args...))
	}
}
