//go:build unix && !solaris && !aix

package socketfile

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// listen binds and returns a listener that leaves its file behind, as a killed process does.
func listen(t *testing.T, path string) (*net.UnixListener, File, error) {
	t.Helper()
	var l *net.UnixListener
	f, err := Bind(path, func() (err error) {
		if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err == nil {
			l.SetUnlinkOnClose(false)
		}
		return err
	})
	if l != nil {
		t.Cleanup(func() { l.Close() })
	}
	return l, f, err
}

func TestFileLife(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, old, err := listen(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := listen(t, path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("beside a living one: error %v, want EADDRINUSE", err)
	}
	first.Close() // as if it had been killed
	if _, _, err := listen(t, path); err != nil {
		t.Fatal("over a stale file:", err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	f, err := Find(path)
	if err != nil {
		t.Fatal(err)
	}
	old.Remove() // although both may have the same inode
	if !f.IsThere() || old.IsThere() {
		t.Error("the file of the successor is gone")
	}
	if f.Remove(); f.IsThere() {
		t.Error("the file is still there")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := listen(t, path); err == nil {
		t.Error("a file of another kind was replaced")
	}
}

// Of many that find the same stale file exactly one gets its place.
func TestOneReplacesAStaleFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	dead, _, err := listen(t, path)
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	var all sync.WaitGroup
	var bound atomic.Int32
	for range 8 {
		all.Go(func() {
			if _, _, err := listen(t, path); err == nil {
				bound.Add(1)
			} else if !errors.Is(err, syscall.EADDRINUSE) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := bound.Load(); n != 1 {
		t.Errorf("%d listen", n)
	}
}

// The folder may be a fifo, whose open waits for a writer.
func TestFifoForAFolder(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Skipf("no fifo here: %v", err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := Bind(filepath.Join(fifo, "s"), func() error { return nil })
		result <- err
	}()
	select {
	case err := <-result:
		if err == nil {
			t.Error("binds in a fifo")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it hangs")
	}
}
