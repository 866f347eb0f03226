package configfile

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWatchFolder changes the files of a folder in each way that a watcher must notice. Each way starts with the contents
// "old" in a.yaml, and ends with those of all files.
func TestWatchFolder(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]struct {
		prepare, change func(t *testing.T, folder string)
		want            string
	}{
		"written in place": {want: "a.yaml=new", change: func(t *testing.T, folder string) { write(t, folder+"/a.yaml", "new") }},
		"another file":     {want: "a.yaml=old b.yaml=new", change: func(t *testing.T, folder string) { write(t, folder+"/b.yaml", "new") }},
		"removed":          {want: "", change: func(t *testing.T, folder string) { remove(t, folder+"/a.yaml") }},
		"another name":     {want: "b.yaml=old", change: func(t *testing.T, folder string) { rename(t, folder+"/a.yaml", folder+"/b.yaml") }},
		"editor": {want: "a.yaml=new", change: func(t *testing.T, folder string) {
			write(t, folder+"/.a.yaml.swp", "new")
			rename(t, folder+"/.a.yaml.swp", folder+"/a.yaml")
		}},
		"ConfigMap": {want: "a.yaml=new", prepare: func(t *testing.T, folder string) {
			mkdir(t, folder+"/..1")
			write(t, folder+"/..1/a.yaml", "old")
			link(t, "..1", folder+"/..data")
			link(t, "..data/a.yaml", folder+"/a.yaml")
		}, change: func(t *testing.T, folder string) {
			mkdir(t, folder+"/..2")
			write(t, folder+"/..2/a.yaml", "new")
			link(t, "..2", folder+"/..data_tmp")
			rename(t, folder+"/..data_tmp", folder+"/..data")
		}},
		"target of a link": {want: "a.yaml=new", prepare: func(t *testing.T, folder string) {
			mkdir(t, folder+".real")
			write(t, folder+".real/x", "old")
			link(t, folder+".real/x", folder+"/a.yaml")
		}, change: func(t *testing.T, folder string) { write(t, folder+".real/x", "new") }},
		"folder replaced": {want: "b.yaml=new", change: func(t *testing.T, folder string) {
			rename(t, folder, folder+".old")
			mkdir(t, folder)
			write(t, folder+"/b.yaml", "new")
		}},
	} {
		for _, isPolled := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				folder := filepath.Join(t.TempDir(), "manifests")
				mkdir(t, folder)
				if way.prepare == nil {
					write(t, folder+"/a.yaml", "old")
				} else {
					way.prepare(t, folder)
				}
				seen := watchFolder(t, folder, isPolled)
				way.change(t, folder)
				waitContents(t, seen, way.want)
				write(t, folder+"/ignored.txt", "x")
				write(t, folder+"/z.yaml", "more")
				waitContents(t, seen, strings.TrimSpace(way.want+" z.yaml=more"))
			})
		}
	}
}

// watchFolder runs a watcher that hears of changes only from the system, or only by polling, and returns what the folder
// has at each call.
func watchFolder(t *testing.T, folder string, isPolled bool) <-chan string {
	t.Helper()
	matches := func(name string) bool { return filepath.Ext(name) == ".yaml" && name[0] != '.' }
	w := NewFolderWatcher(folder, matches)
	w.poll = time.Hour
	if isPolled {
		must(t, w.Close())
		w.notify, w.poll = nil, 5*time.Millisecond
	}
	seen, done := make(chan string), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		w.Run(ctx, func() {
			select {
			case seen <- contentsOf(folder, matches):
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		<-done
		must(t, w.Close())
	})
	return seen
}

func contentsOf(folder string, matches func(string) bool) string {
	var all []string
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		if text, err := Read(filepath.Join(folder, e.Name())); err == nil && matches(e.Name()) {
			all = append(all, e.Name()+"="+string(text))
		}
	}
	return strings.Join(all, " ")
}

// waitContents waits for a call at which the folder has the contents. Steps on the way there may be seen before.
func waitContents(t *testing.T, seen <-chan string, want string) {
	t.Helper()
	last := "nothing"
	for deadline := time.After(30 * time.Second); last != want; {
		select {
		case last = <-seen:
		case <-deadline:
			t.Fatalf("the last call saw %q, not %q", last, want)
		}
	}
}
