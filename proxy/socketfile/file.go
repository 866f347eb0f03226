// Package socketfile makes and removes the files of unix sockets, so that neither a left-over of a killed process nor
// another process that starts meanwhile stands in the way.
package socketfile

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// File is the file of a socket of ours. The zero File is none.
type File struct {
	path string
	info fs.FileInfo // which file it is, however the path is used later
}

// Bind has bind make the file of a socket at path. A file that nobody listens on any more, as a killed process leaves
// it, is replaced; anything else is left alone. Meanwhile the folder is locked, so that of two processes that find the
// same left-over only one replaces it. Errors do not name the path.
func Bind(path string, bind func() error) (File, error) {
	defer lockFolder(filepath.Dir(path))()
	if err := removeStale(path); err != nil {
		return File{}, err
	}
	if err := bind(); err != nil {
		return File{}, err
	}
	return Find(path)
}

// Find returns the file that is at path now, for a process that took the socket over.
func Find(path string) (File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return File{}, err
	}
	return File{path, info}, nil
}

// IsThere reports whether clients find the file: it may have been removed, or replaced. A new file often gets the number
// of one that was removed, but it has another time.
func (f File) IsThere() bool {
	if f.info == nil {
		return false
	}
	now, err := os.Lstat(f.path)
	return err == nil && os.SameFile(now, f.info) && now.ModTime().Equal(f.info.ModTime())
}

// Remove removes the file if it is still ours: a successor may have put its own in place.
func (f File) Remove() {
	if f.IsThere() {
		_ = os.Remove(f.path)
	}
}

// removeStale removes the socket file at path if nobody listens on it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return errors.New("the file exists and is no socket")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return syscall.EADDRINUSE
	}
	if errors.Is(err, syscall.EAGAIN) {
		return syscall.EADDRINUSE // its backlog is full
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("see whether somebody listens: %w", err)
	}
	return os.Remove(path)
}
