// Package watch says when files have changed, and not before whoever changes
// them has finished: editors truncate and write, delete and create, or rename
// over, and half of that must never be read.
package watch

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How long files must be quiet before they count as changed.
const (
	settle   = 100 * time.Millisecond
	patience = time.Second      // where a file has gone, is empty, or has lost half of its size
	poll     = 10 * time.Second // between looks where no event comes: network file systems, directories that were not there
)

// Watch calls changed each time that one of paths has changed and is quiet
// again. A path may be a file or a directory, which stands for all files in it
// and below; it need not exist yet. Symbolic links are followed. Watch returns
// when ctx ends, or with an error where the system lets it watch nothing at all.
//
// While changed runs nothing is missed; there are never two calls at once. What
// has changed in the second before Watch counts as changed: whoever read it
// then may have been too early.
func Watch(ctx context.Context, paths []string, changed func()) error {
	notifier, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer notifier.Close()
	w := watcher{paths: paths, notifier: notifier, watched: map[string]bool{}}
	w.add()
	w.run(ctx, look(paths).settled(), changed)
	return nil
}

type watcher struct {
	paths    []string
	notifier *fsnotify.Watcher
	watched  map[string]bool
}

// run waits for events, then for silence. known is what has been announced.
func (w *watcher) run(ctx context.Context, known state, changed func()) {
	seen := known
	since := time.Now() // when seen was first seen
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.notifier.Events:
		case <-w.notifier.Errors: // an overflow, say: look oneself
		case <-timer.C:
		}
		now := look(w.paths)
		if !now.equal(seen) {
			seen, since = now, time.Now()
			w.add()
		}
		wait := poll
		if !seen.equal(known) {
			wait = settle
			if seen.doubtful(known) {
				wait = patience
			}
			if wait -= time.Since(since); wait <= 0 {
				known = seen
				changed()
				wait = settle // it may have changed meanwhile
			}
		}
		timer.Reset(wait)
	}
}

// add watches the directories of all paths, also those that links lead to. A
// directory is watched and not the file, which a rename would replace.
func (w *watcher) add() {
	for _, dir := range w.notifier.WatchList() {
		if _, err := os.Stat(dir); err != nil {
			delete(w.watched, dir)
		}
	}
	for _, path := range w.paths {
		w.watch(filepath.Dir(path))
		if real, err := filepath.EvalSymlinks(path); err == nil {
			w.watch(filepath.Dir(real))
		}
		_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				w.watch(p)
			}
			return nil
		})
	}
}

func (w *watcher) watch(dir string) {
	if !w.watched[dir] {
		w.watched[dir] = w.notifier.Add(dir) == nil
	}
}

// A state is what can be seen of files from outside.
type state map[string]file

type file struct {
	size     int64
	modified time.Time
	info     fs.FileInfo // for os.SameFile: a copy that is renamed over may have kept size and time
}

// look takes the state of all paths.
func look(paths []string) state {
	s := state{}
	for _, path := range paths {
		s.add(path)
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			continue
		}
		_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				s.add(p)
			}
			return nil
		})
	}
	return s
}

func (s state) add(path string) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		s[path] = file{info.Size(), info.ModTime(), info}
	}
}

func (s state) equal(t state) bool {
	if len(s) != len(t) {
		return false
	}
	for path, f := range s {
		g, ok := t[path]
		if !ok || f.size != g.size || !f.modified.Equal(g.modified) || !os.SameFile(f.info, g.info) {
			return false
		}
	}
	return true
}

// settled is s without the files that have just been written.
func (s state) settled() state {
	for path, f := range s {
		if age := time.Since(f.modified); age >= 0 && age < patience {
			delete(s, path)
		}
	}
	return s
}

// doubtful says whether s looks as if somebody were not done with it.
func (s state) doubtful(known state) bool {
	for path, old := range known {
		if f, ok := s[path]; !ok || f.size < old.size/2 || f.size == 0 && old.size > 0 {
			return true
		}
	}
	return false
}
