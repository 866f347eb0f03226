package configfile

import (
	"context"
	"crypto/sha256"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime is how long a file must have been left alone before it is read: editors write in several steps.
	settleTime = 100 * time.Millisecond
	// maxSettleTime bounds the wait for a file that is written all the time.
	maxSettleTime = time.Second
	// pollInterval is how often the file's status is looked at, since some file systems report no changes.
	pollInterval = 2 * time.Second
	// maxLinks bounds the symbolic links of a path, as Linux does.
	maxLinks = 40
)

// Watcher notices changes of a file's contents, however they come about: written in place, replaced by a rename,
// reached through other symbolic links, removed and made again. It watches folders, since a watch of the file itself
// ends with a rename.
type Watcher struct {
	path     string
	matches  func(name string) bool // the files of the folder at path; nil: path is that of a file
	poll     time.Duration
	notify   *fsnotify.Watcher // nil: the system has no more, and the file is only polled
	names    map[string]bool   // the file, and the links and folders that lead to it
	status   os.FileInfo       // nil: it could not be read
	isRecent bool              // it was written so lately that another write may leave the same status
	sum      [sha256.Size]byte // of the contents that were last seen; of a folder, of the statuses of its files
}

// NewWatcher watches the file at a path from now on; it need not exist. Close ends it.
func NewWatcher(path string) *Watcher { return newWatcher(path, nil) }

func newWatcher(path string, matches func(name string) bool) *Watcher {
	w := &Watcher{path: path, matches: matches, poll: pollInterval}
	w.notify, _ = fsnotify.NewWatcher()
	w.follow()
	w.check()
	return w
}

// Close releases what the watcher holds, after Run has returned.
func (w *Watcher) Close() error {
	if w.notify == nil {
		return nil
	}
	return w.notify.Close()
}

// Run calls changed once for each new contents, until the context ends. A file that cannot be read is no change.
func (w *Watcher) Run(ctx context.Context, changed func()) {
	var events chan fsnotify.Event
	var faults chan error
	if w.notify != nil {
		events, faults = w.notify.Events, w.notify.Errors
	}
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	settled := time.NewTimer(0)
	defer settled.Stop()
	latest := time.Now() // when the file is read at the latest
	isPending := true    // also at first: it may have changed since NewWatcher
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if !w.isWatched(e.Name) {
				continue
			}
		case <-faults: // events were lost
		case <-poll.C:
			if isPending || !w.looksChanged() {
				continue
			}
		case <-settled.C:
			isPending = false
			w.follow()
			if w.check() {
				changed()
			}
			continue
		}
		if !isPending {
			isPending, latest = true, time.Now().Add(maxSettleTime)
		}
		settled.Reset(min(settleTime, time.Until(latest)))
	}
}

// check reads the file, and reports whether it has other contents than before.
func (w *Watcher) check() bool {
	if w.matches != nil {
		return w.checkFolder()
	}
	w.status, _ = os.Stat(w.path)
	w.isRecent = w.status != nil && time.Since(w.status.ModTime()) < pollInterval
	text, err := read(w.path, nil)
	if err != nil {
		return false
	}
	before := w.sum
	w.sum = sha256.Sum256(text)
	return w.sum != before
}

// looksChanged reports whether the file may have other contents, without reading it.
func (w *Watcher) looksChanged() bool {
	if w.matches != nil {
		status, err := w.readStatuses()
		return err == nil && (w.isRecent || status.sum != w.sum)
	}
	now, err := os.Stat(w.path)
	if err != nil || w.status == nil {
		return err == nil || w.status != nil
	}
	return w.isRecent || !os.SameFile(now, w.status) || now.Size() != w.status.Size() || !now.ModTime().Equal(w.status.ModTime())
}

// follow watches the folders that the file and the links to it are in. Of a path that ends too early it is the last
// folder that exists. What changes before a folder is watched makes no event, so it looks again afterwards.
func (w *Watcher) follow() {
	const looks = 10 // polling covers paths that change all the time
	folders, names := w.resolve()
	for range looks {
		w.names = names
		if w.notify == nil {
			return
		}
		for _, old := range w.notify.WatchList() {
			if !folders[old] {
				_ = w.notify.Remove(old) // it may be gone
			}
		}
		for folder := range folders {
			names[folder] = true
			_ = w.notify.Add(folder) // again, since another folder may have its name now; polling covers what cannot be watched
		}
		before := folders
		if folders, names = w.resolve(); maps.Equal(folders, before) {
			return
		}
	}
}

// resolve walks a path like the kernel does, and returns the folders with a link or the file in them, and the paths of
// those.
func resolve(path string) (folders, names map[string]bool) {
	folders, names = make(map[string]bool), make(map[string]bool)
	path, err := filepath.Abs(path)
	if err != nil {
		return folders, names
	}
	const separator = string(filepath.Separator)
	root := filepath.VolumeName(path) + separator
	folder, rest := root, strings.Split(strings.TrimPrefix(path, root), separator)
	for links := 0; len(rest) > 0 && links <= maxLinks; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			folder = filepath.Dir(folder)
			continue
		}
		at := filepath.Join(folder, name)
		info, err := os.Lstat(at)
		switch {
		case err != nil || len(rest) == 0 && info.Mode()&os.ModeSymlink == 0:
			folders[folder], names[at] = true, true
			return folders, names
		case info.Mode()&os.ModeSymlink == 0:
			folder = at
			continue
		}
		folders[folder], names[at] = true, true
		target, err := os.Readlink(at)
		if err != nil {
			return folders, names
		}
		links++
		if filepath.IsAbs(target) {
			folder = root
		}
		rest = append(strings.Split(target, separator), rest...)
	}
	return folders, names
}
