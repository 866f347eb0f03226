package procfs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A reader that loops sees whole versions alone, also of a file that is larger than what is kept in memory.
func TestReadersSeeWholeFiles(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 3 * spoolMost} {
		letter := byte('a')
		dir := filepath.Join(t.TempDir(), "proc")
		f := New(dir, zap.NewNop(), func() []File {
			return []File{{"net/x", func(w io.Writer) error {
				_, err := w.Write(bytes.Repeat([]byte{letter}, size))
				return err
			}}}
		})
		f.Update()
		stop := make(chan struct{})
		var reader sync.WaitGroup
		reader.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p, err := os.ReadFile(filepath.Join(dir, "net/x"))
				if err != nil || len(p) != size || len(bytes.Trim(p, string(p[:1]))) > 0 {
					t.Errorf("%d bytes, which differ or are no file: %v", len(p), err)
					return
				}
			}
		})
		for range 200 {
			letter = 'a' + (letter-'a'+1)%26
			f.Update()
		}
		close(stop)
		reader.Wait()
		f.Remove()
		if _, err := os.Lstat(dir); err == nil {
			t.Error("the folder stays")
		}
	}
}

// What has not changed keeps its file; one that is gone comes back; a failure is logged once until it is another one.
func TestUpdate(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "proc")
	core, logs := observer.New(zapcore.InfoLevel)
	text, fails := "one", ""
	f := New(dir, zap.New(core), func() []File {
		return []File{{"net/x", func(w io.Writer) error {
			if fails != "" {
				return fmt.Errorf("%s", fails)
			}
			_, err := io.WriteString(w, text)
			return err
		}}}
	})
	path := filepath.Join(dir, "net/x")
	stat := func() os.FileInfo {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	f.Update()
	first := stat()
	if f.Update(); !os.SameFile(first, stat()) || first.Mode().Perm() != 0o644 {
		t.Error("the same text made another file, or its mode is ", first.Mode())
	}
	text = "two"
	if f.Update(); os.SameFile(first, stat()) {
		t.Error("another text was written into the same file")
	}
	os.Remove(path)
	f.Update()
	stat()
	for _, fails = range []string{"a", "a", "b", "b", "", ""} {
		f.Update()
	}
	var got []string
	for _, e := range logs.All() {
		got = append(got, e.Level.String())
	}
	if text := strings.Join(got, " "); text != "warn warn info" {
		t.Errorf("logged %s", text)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "net")); len(left) != 1 {
		t.Errorf("%v are left", left)
	}
	lost := New(filepath.Join(parent, "a", "b"), zap.NewNop(), f.files)
	if lost.Update(); lost.failure == "" {
		t.Error("a folder was made whose parent is not there")
	}
}
