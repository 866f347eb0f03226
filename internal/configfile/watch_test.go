package configfile

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestWatch changes a file in each way that a watcher must notice. Each way starts with the contents "old" at path, and
// ends with "new".
func TestWatch(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]struct {
		prepare, change func(t *testing.T, folder string)
	}{
		"written in place": {change: func(t *testing.T, folder string) { write(t, folder+"/usher.yaml", "new") }},
		"rename":           {change: renameOver},
		"editor with a backup file": {change: func(t *testing.T, folder string) {
			rename(t, folder+"/usher.yaml", folder+"/usher.yaml~")
			write(t, folder+"/usher.yaml", "new")
		}},
		"removed and made again": {change: func(t *testing.T, folder string) {
			remove(t, folder+"/usher.yaml")
			write(t, folder+"/usher.yaml", "new")
		}},
		"ConfigMap": {
			prepare: func(t *testing.T, folder string) {
				mkdir(t, folder+"/..1")
				write(t, folder+"/..1/usher.yaml", "old")
				link(t, "..1", folder+"/..data")
				link(t, "..data/usher.yaml", folder+"/usher.yaml")
			},
			change: func(t *testing.T, folder string) {
				mkdir(t, folder+"/..2")
				write(t, folder+"/..2/usher.yaml", "new")
				link(t, "..2", folder+"/..data_tmp")
				rename(t, folder+"/..data_tmp", folder+"/..data")
			},
		},
		"target of a link in another folder": {
			prepare: func(t *testing.T, folder string) {
				mkdir(t, folder+"/real")
				write(t, folder+"/real/a.yaml", "old")
				link(t, folder+"/real/../real/a.yaml", folder+"/usher.yaml")
			},
			change: func(t *testing.T, folder string) { write(t, folder+"/real/a.yaml", "new") },
		},
		"folder replaced": {change: func(t *testing.T, folder string) {
			rename(t, folder, folder+".old")
			mkdir(t, folder)
			write(t, folder+"/usher.yaml", "new")
		}},
		"folder removed and made again": {change: func(t *testing.T, folder string) {
			remove(t, folder)
			mkdir(t, folder)
			write(t, folder+"/usher.yaml", "new")
		}},
		"folder behind a link": {
			prepare: func(t *testing.T, folder string) {
				remove(t, folder)
				mkdir(t, folder+".1")
				write(t, folder+".1/usher.yaml", "old")
				link(t, folder+".1", folder)
			},
			change: func(t *testing.T, folder string) {
				mkdir(t, folder+".2")
				write(t, folder+".2/usher.yaml", "new")
				link(t, folder+".2", folder+".tmp")
				rename(t, folder+".tmp", folder)
			},
		},
	} {
		for _, isPolled := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				folder := filepath.Join(t.TempDir(), "usher")
				mkdir(t, folder)
				if way.prepare == nil {
					write(t, folder+"/usher.yaml", "old")
				} else {
					way.prepare(t, folder)
				}
				w := watch(t, folder+"/usher.yaml", isPolled)
				way.change(t, folder)
				w.want(t, "new")
				renameOver(t, folder) // with the contents that it has
				write(t, folder+"/other", "x")
				write(t, folder+"/tmp", "newer")
				rename(t, folder+"/tmp", folder+"/usher.yaml")
				w.want(t, "newer")
			})
		}
	}
}

// TestWatchReturn: a file that is gone is no change, nor is its return with the same contents.
func TestWatchReturn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "usher.yaml")
	w := NewWatcher(path)
	t.Cleanup(func() { _ = w.Close() })
	for i, step := range []struct {
		contents string // empty: there is no file
		changed  bool
	}{{"", false}, {"first", true}, {"first", false}, {"", false}, {"first", false}, {"", false}, {"other", true}} {
		remove(t, path)
		if step.contents != "" {
			write(t, path, step.contents)
		}
		if !w.looksChanged() && step.changed {
			t.Errorf("step %d: the status looks as before", i)
		}
		if w.check() != step.changed {
			t.Errorf("step %d: changed is %v", i, !step.changed)
		}
	}
}

func renameOver(t *testing.T, folder string) {
	t.Helper()
	write(t, folder+"/.usher.yaml.swp", "new")
	rename(t, folder+"/.usher.yaml.swp", folder+"/usher.yaml")
}

// watched is a running watcher.
type watched struct{ sums chan [sha256.Size]byte } // at each call

// watch runs a watcher that hears of changes only from the system, or only by polling.
func watch(t *testing.T, path string, isPolled bool) watched {
	t.Helper()
	w := NewWatcher(path)
	w.poll = time.Hour
	if isPolled {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.notify, w.poll = nil, 5*time.Millisecond
	}
	sums, done := make(chan [sha256.Size]byte, 100), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		w.Run(ctx, func() { sums <- w.sum })
	}()
	t.Cleanup(func() {
		stop()
		<-done
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return watched{sums}
}

// want waits for a call with the contents. Contents of a write that lasts may be seen before, but none twice in a row.
func (w watched) want(t *testing.T, contents string) {
	t.Helper()
	want, last := sha256.Sum256([]byte(contents)), [sha256.Size]byte{}
	for last != want {
		select {
		case sum := <-w.sums:
			if sum == last {
				t.Error("two calls in a row for the same contents")
			}
			last = sum
		case <-time.After(30 * time.Second):
			t.Fatalf("no call for the contents %q", contents)
		}
	}
}

func write(t *testing.T, path, contents string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(contents), 0o600))
}

func rename(t *testing.T, from, to string) { t.Helper(); must(t, os.Rename(from, to)) }
func link(t *testing.T, to, path string)   { t.Helper(); must(t, os.Symlink(to, path)) }
func mkdir(t *testing.T, path string)      { t.Helper(); must(t, os.Mkdir(path, 0o700)) }
func remove(t *testing.T, path string)     { t.Helper(); must(t, os.RemoveAll(path)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
