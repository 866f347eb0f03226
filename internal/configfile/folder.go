package configfile

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// anyFile stands for each file of a folder among the names of a Watcher.
const anyFile = "*"

// NewFolderWatcher watches those files of a folder whose names match, but not of the folders in it. It calls changed when
// one of them is new, gone, or has another status, and again if that does not tell whether it was written since: compare
// the contents. A folder that cannot be read is no change. Close ends it.
func NewFolderWatcher(path string, matches func(name string) bool) *Watcher {
	return newWatcher(path, matches)
}

// Read returns the contents of a file of limited size. It does not wait for the writer of a named pipe.
func Read(path string) ([]byte, error) { return read(path, nil) }

// statuses are what the files of a folder look like.
type statuses struct {
	sum      [sha256.Size]byte
	isRecent bool // one was written so lately that another write may leave the same status
}

// readStatuses looks at the files of a folder without reading them.
func (w *Watcher) readStatuses() (statuses, error) {
	entries, err := os.ReadDir(w.path)
	if err != nil {
		return statuses{}, err
	}
	folder, _ := filepath.EvalSymlinks(w.path)
	var s statuses
	sum, now := sha256.New(), time.Now()
	for _, e := range entries {
		if !w.matches(e.Name()) {
			continue
		}
		info, err := e.Info()
		target := folder // another file may have the same size and time
		if e.Type()&os.ModeSymlink != 0 {
			path := filepath.Join(w.path, e.Name())
			info, err = os.Stat(path)
			target, _ = filepath.EvalSymlinks(path)
		}
		if err != nil {
			fmt.Fprintf(sum, "%q\n", e.Name())
			continue
		}
		fmt.Fprintf(sum, "%q %q %d %d\n", e.Name(), target, info.Size(), info.ModTime().UnixNano())
		s.isRecent = s.isRecent || now.Sub(info.ModTime()) < pollInterval
	}
	sum.Sum(s.sum[:0])
	return s, nil
}

// checkFolder reports whether a file of the folder may have other contents than before.
func (w *Watcher) checkFolder() bool {
	now, err := w.readStatuses()
	if err != nil {
		return false
	}
	isChanged := w.isRecent || now.sum != w.sum
	w.sum, w.isRecent = now.sum, now.isRecent
	return isChanged
}

// isWatched reports whether a path of an event leads to what is watched.
func (w *Watcher) isWatched(path string) bool {
	folder, name := filepath.Split(path)
	return w.names[path] || w.matches != nil && w.matches(name) && w.names[filepath.Join(folder, anyFile)]
}

// resolve returns the folders that the file is in, and the links and folders that lead to it; of a folder those of each
// of its files.
func (w *Watcher) resolve() (folders, names map[string]bool) {
	if w.matches == nil {
		return resolve(w.path)
	}
	folders, names = resolve(filepath.Join(w.path, anyFile))
	entries, _ := os.ReadDir(w.path)
	for _, e := range entries {
		if e.Type()&os.ModeSymlink != 0 && w.matches(e.Name()) {
			also, called := resolve(filepath.Join(w.path, e.Name()))
			maps.Copy(folders, also)
			maps.Copy(names, called)
		}
	}
	return folders, names
}
