package proxy

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

// socketFile is the file of a unix listener of ours.
type socketFile struct {
	path string
	info fs.FileInfo // which file it is, however the path is used later
}

// bindSocketFile has bind make the socket file at path. A file that nobody
// listens on any more, as a killed process leaves it, is replaced; anything else
// is left alone. Meanwhile the folder is locked, so that of two processes that
// find the same left-over only one replaces it.
func bindSocketFile(path string, bind func() error) (socketFile, error) {
	defer lockFolder(filepath.Dir(path))()
	if err := removeStale(path); err != nil {
		return socketFile{}, fmt.Errorf("listen unix %s: %w", path, err)
	}
	if err := bind(); err != nil {
		return socketFile{}, err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return socketFile{}, fmt.Errorf("listen unix %s: %w", path, err)
	}
	return socketFile{path, info}, nil
}

// removeSocketFiles removes the files that are still ours: a successor may have
// put its own in place.
func removeSocketFiles(files []socketFile) {
	for _, f := range files {
		if now, err := os.Lstat(f.path); err == nil && os.SameFile(now, f.info) {
			_ = os.Remove(f.path)
		}
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
