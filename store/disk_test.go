package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"srsd/store"
	"srsd/store/storetest"
)

// needRoot skips what cannot be had otherwise. Look for the line: without these
// tests, nothing is known about power cuts and full disks.
func needRoot(t *testing.T) {
	if !*long {
		t.Skip("slow: run it with -long")
	}
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: needs root, to mount file systems of its own")
	}
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// mount mounts until the test ends.
func mount(t *testing.T, args ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	command(t, "mount", append(args, dir)...)
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	return dir
}

// TestDiskFull fills a small disk with mail, then with something else.
func TestDiskFull(t *testing.T) {
	needRoot(t)
	disk := mount(t, "-t", "tmpfs", "-o", "size=600m", "tmpfs")
	dir := filepath.Join(disk, "data")
	s := openWith(t, dir, store.Options{Reserve: 256 << 20})
	ctx := context.Background()
	body := bytes.Repeat([]byte("0123456789abcde\n"), 1900)
	var leases []store.Lease
	var full error
	for i := 0; full == nil; i++ {
		e, _ := storetest.Entry(fmt.Sprintf("f%06d", i), store.Leased, "target.example")
		l, err := s.Enqueue(ctx, e, bytes.NewReader(body), time.Hour)
		if err == nil {
			leases = append(leases, l...)
		}
		full = err
	}
	if !errors.Is(full, store.ErrFull) || len(leases) < 1000 {
		t.Fatalf("after %d messages: %v", len(leases), full)
	}
	t.Logf("%d messages, then: %v", len(leases), full)
	// What is there can be delivered, and the room comes back.
	for len(leases) > 0 {
		batch := leases[:min(100, len(leases))]
		leases = leases[len(batch):]
		var outcomes []store.Outcome
		for _, l := range batch {
			outcomes = append(outcomes, store.Outcome{Lease: l})
		}
		finishAll(t, s, outcomes)
	}
	start := time.Now()
	for s.Free() != nil && time.Since(start) < 15*time.Second {
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("room again after %v", time.Since(start))
	if err := s.Free(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Somebody else takes what is left: nothing is written, nothing dies.
	other := filepath.Join(disk, "other")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir, filledBy+"="+other)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrFull) {
		t.Errorf("Open on a full disk: %v", err)
	}
	os.Remove(other)
	s = openWith(t, dir, store.Options{Reserve: 256 << 20})
	defer s.Close()
	if d := checked(t, s); d != (store.Damage{Checked: true}) || len(listed(t, s)) != 1 {
		t.Errorf("%+v, %d entries", d, len(listed(t, s)))
	}
}

// filledBy names the file that makes crashChild fill the disk under its store.
const filledBy = "SRSD_STORE_CRASH_FILLED_BY"

func filledChild(dir, other string) {
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		panic(err)
	}
	e, body := storetest.Entry("last", store.Leased, "target.example")
	l, err := s.Enqueue(context.Background(), e, body, time.Hour)
	if err != nil {
		panic(err)
	}
	exec.Command("dd", "if=/dev/zero", "of="+other, "bs=1M").Run() // until the disk is full
	if errs, err := s.Finish(context.Background(), []store.Outcome{{Lease: l[0]}}); !errors.Is(err, store.ErrFull) {
		panic(fmt.Sprint("Finish on a full disk: ", errs, err))
	}
	if err := s.Close(); err != nil {
		panic(fmt.Sprint("Close on a full disk: ", err))
	}
	os.Exit(0)
}

func finishAll(t *testing.T, s *store.Badger, outcomes []store.Outcome) {
	t.Helper()
	errs, err := s.Finish(context.Background(), outcomes)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
}

// unsynced makes crashChild write with badger alone, without fsync: what a
// power cut must be seen to lose.
const unsynced = "SRSD_STORE_CRASH_UNSYNCED"

func unsyncedChild(dir string) {
	db, err := badgerdb.Open(badgerdb.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		id := fmt.Sprint("u", i)
		err := db.Update(func(txn *badgerdb.Txn) error { return txn.Set([]byte(id), storetest.Body(id)) })
		if err != nil {
			fmt.Println("error", err)
		}
		fmt.Println("in", id)
		time.Sleep(100 * time.Microsecond)
	}
}

// TestPowerCut copies the disk under a store at work, and looks at the copies:
// they have what a disk has when the power goes.
func TestPowerCut(t *testing.T) {
	needRoot(t)
	acknowledged := 0
	powerCuts(t, 20, nil, func(dir string, said ledger) {
		acknowledged = len(said)
		checkLedger(t, dir, said)
	})
	t.Logf("20 cuts, %d ids in the end", acknowledged)
	t.Run("control", func(t *testing.T) {
		lost := 0
		powerCuts(t, 2, []string{unsynced + "=1"}, func(dir string, said ledger) { lost += unsyncedLost(t, dir, said) })
		t.Logf("without fsync: %d lost", lost)
		if lost == 0 {
			t.Error("nothing is lost without fsync: this test proves nothing")
		}
	})
}

func unsyncedLost(t *testing.T, dir string, said ledger) (lost int) {
	db, err := badgerdb.Open(badgerdb.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return len(said) // all of it
	}
	defer db.Close()
	err = db.View(func(txn *badgerdb.Txn) error {
		for id := range said {
			if _, err := txn.Get([]byte(id)); err != nil {
				lost++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lost
}

func powerCuts(t *testing.T, cuts int, env []string, check func(dir string, said ledger)) {
	image := filepath.Join(t.TempDir(), "disk")
	command(t, "truncate", "-s", "2G", image)
	command(t, "mkfs.ext4", "-q", image)
	disk := mount(t, "-o", "loop,commit=60", image)

	child := exec.Command(os.Args[0])
	child.Env = append(append(os.Environ(), crashDir+"="+filepath.Join(disk, "data")), env...)
	if len(env) > 0 {
		if err := os.Mkdir(filepath.Join(disk, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	said := newSaid(out)
	for range cuts {
		time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // for the stop, and for what is in the pipe
		words := said.copy()
		copied := filepath.Join(t.TempDir(), "disk")
		command(t, "cp", "--sparse=always", image, copied)
		child.Process.Signal(syscall.SIGCONT)
		look(t, copied, func(dir string) { check(dir, words) })
		os.Remove(copied)
	}
}

// look mounts a copy of the disk.
func look(t *testing.T, image string, check func(dir string)) {
	dir := t.TempDir()
	command(t, "mount", "-o", "loop", image, dir)
	defer command(t, "umount", dir)
	check(filepath.Join(dir, "data"))
}
