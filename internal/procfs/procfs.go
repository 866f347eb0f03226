// Package procfs keeps files that look like those below /proc, for exporters that read these.
//
//	tick ─▶ write to spool ─▶ as before: nothing happens
//	                       └─▶ else: temporary file ─▶ rename
//
// A reader sees a whole file, of before or of now. A large file is never in memory as a whole.
package procfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/zap"
)

// Interval is the shortest time between two versions of a file.
const Interval = time.Second

// File is one file below the folder.
type File struct {
	Path  string // with slashes; all files are in one folder of the folder
	Write func(io.Writer) error
}

// Folder keeps files. One goroutine has it.
type Folder struct {
	path    string
	files   func() []File // of one moment; asked once each time
	log     *zap.Logger
	known   map[string]uint64 // the hash of each file as it was last written
	failure string            // that was last logged; empty: the last time all went well
}

// New returns a Folder at a path whose parent is there.
func New(path string, log *zap.Logger, files func() []File) *Folder {
	return &Folder{path: path, files: files, log: log, known: make(map[string]uint64)}
}

// restShare is how many times an update the pause behind it lasts at least: with many flows, updates take a tenth of the
// time.
const restShare = 9

// Run writes what has changed, until ctx ends.
func (f *Folder) Run(ctx context.Context) {
	for {
		began := time.Now()
		f.Update()
		took := time.Since(began)
		select {
		case <-time.After(max(Interval-took, restShare*took)):
		case <-ctx.Done():
			return
		}
	}
}

// Update writes the files that have changed. A failure is logged once until it is another one.
func (f *Folder) Update() {
	var failures []error
	for _, file := range f.files() {
		if err := f.update(file); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", file.Path, err))
		}
	}
	text := ""
	if err := errors.Join(failures...); err != nil {
		text = err.Error()
	}
	switch {
	case text == f.failure:
	case text == "":
		f.log.Info("files for exporters are written again", zap.String("proc", f.path))
	default:
		f.log.Warn("files for exporters cannot be written", zap.String("proc", f.path), zap.Error(errors.Join(failures...)))
	}
	f.failure = text
}

func (f *Folder) update(file File) error {
	path := filepath.Join(f.path, filepath.FromSlash(file.Path))
	s := &spool{path: filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".usher")}
	s.hash.Reset()
	out := bufio.NewWriter(s)
	err := file.Write(out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		s.discard()
		return err
	}
	sum := s.hash.Sum64()
	if last, isKnown := f.known[path]; isKnown && last == sum && exists(path) {
		s.discard()
		return nil
	}
	if err := s.rename(path); err != nil {
		s.discard()
		return err
	}
	f.known[path] = sum
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Remove removes the files, and folders that are empty then: figures of what does not run would mislead.
func (f *Folder) Remove() {
	folders := make(map[string]bool)
	for path := range f.known {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.log.Warn("a file for exporters stays", zap.Error(err))
		}
		folders[filepath.Dir(path)] = true
	}
	for folder := range folders {
		_ = os.Remove(folder) // which others may use, too
	}
	if len(folders) > 0 {
		_ = os.Remove(f.path)
	}
	clear(f.known)
}

// spoolMost is how much of a file is kept in memory; beyond it there is a temporary file.
const spoolMost = 64 << 10

// spool is a new version of a file, until it is known whether it differs.
type spool struct {
	path string // of the temporary file: always the same one, so that one of a killed process is not left behind
	hash xxhash.Digest
	text []byte
	file *os.File // nil: all is in text
}

// Write keeps p.
func (s *spool) Write(p []byte) (int, error) {
	_, _ = s.hash.Write(p)
	if s.file == nil && len(s.text)+len(p) <= spoolMost {
		s.text = append(s.text, p...)
		return len(p), nil
	}
	if err := s.spill(); err != nil {
		return 0, err
	}
	return s.file.Write(p)
}

// spill makes the temporary file, if there is none yet.
func (s *spool) spill() (err error) {
	if s.file != nil {
		return nil
	}
	if s.file, err = create(s.path); err != nil {
		return err
	}
	_, err = s.file.Write(s.text)
	s.text = nil
	return err
}

// create makes a file, and the two folders that it is in.
func create(path string) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	file, err := os.OpenFile(path, flags, 0o644)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	folder := filepath.Dir(path)
	for _, d := range []string{filepath.Dir(folder), folder} {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return os.OpenFile(path, flags, 0o644)
}

// rename makes the version that of path.
func (s *spool) rename(path string) error {
	if err := s.spill(); err != nil {
		return err
	}
	err := s.file.Chmod(0o644) // whatever the umask
	err = errors.Join(err, s.file.Close())
	if err == nil {
		err = os.Rename(s.path, path)
	}
	return err
}

// discard removes the temporary file.
func (s *spool) discard() {
	if s.file != nil {
		s.file.Close()
		_ = os.Remove(s.path)
	}
}
