package folder

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/internal/configfile"
)

// file is a file of the folder.
type file struct {
	sum     [sha256.Size]byte // of the text that was last looked at
	status  os.FileInfo       // with that text, if another text has another status; nil: it has to be read
	err     string            // why it is not used, as it was told
	objects []object          // of the last text without an error
}

// reading is what is found in a file.
type reading struct {
	isGone bool // or a folder
	isSame bool // as before
	err    error
	file   file   // without objects
	parsed parsed // of the text
	wrong  error  // with the text
}

// recent is how long after a write another one may leave the same status: clocks of file systems are coarse.
const recent = 2 * time.Second

// readAll reads files, as many at once as there are CPUs: a translation of YAML takes its time. It changes nothing.
func (f *Folder) readAll(names []string) []reading {
	all := make([]reading, len(names))
	var next atomic.Int64
	var working sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(names)) {
		working.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(names)); i = next.Add(1) - 1 {
				all[i] = f.look(names[i])
			}
		})
	}
	working.Wait()
	return all
}

// look reads one file, unless its status tells that it is as before.
func (f *Folder) look(name string) (r reading) {
	path := filepath.Join(f.dir, name)
	began := time.Now()
	status, err := os.Stat(path) // before the text: a write between the two gives it another status
	before := f.files[name]
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && status.IsDir():
		return reading{isGone: true}
	case err == nil && before != nil && before.status != nil && isSameStatus(before.status, status):
		return reading{isSame: true}
	case err == nil && began.Sub(status.ModTime()) >= recent:
		r.file.status = status
	}
	text, err := configfile.Read(path)
	if err != nil {
		return reading{isGone: errors.Is(err, fs.ErrNotExist), err: err}
	}
	if r.file.sum = sha256.Sum256(text); before != nil && before.sum == r.file.sum {
		r.isSame = true
		return r
	}
	r.parsed, r.wrong = f.decoder.parse(name, text)
	return r
}

func isSameStatus(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// take makes what was found in a file what it has. It reports whether its objects may be others.
func (f *Folder) take(name string, r reading) bool {
	before := f.files[name]
	switch {
	case r.err != nil:
		if before == nil {
			before = &file{}
			f.files[name] = before
		}
		if before.err != r.err.Error() {
			before.err, before.sum, before.status = r.err.Error(), [sha256.Size]byte{}, nil
			f.refuse(name, r.err)
		}
		return false
	case r.isSame:
		if r.file.status != nil {
			before.status = r.file.status
		}
		return false
	}
	now := &r.file
	f.files[name] = now
	if before != nil {
		now.objects = before.objects
	}
	if r.wrong != nil {
		now.err = r.wrong.Error()
		f.refuse(name, r.wrong)
		return false
	}
	f.tell(name, r.parsed)
	now.objects = reuse(r.parsed.objects, now.objects)
	return true
}

// refuse tells that a file is not used.
func (f *Folder) refuse(name string, err error) {
	f.log.Error("this manifest is not used, and what it was before stays: fix it", zap.String("file", filepath.Join(f.dir, name)), zap.Error(err))
}
