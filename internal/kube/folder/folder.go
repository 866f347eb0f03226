// Package folder keeps a Store of objects as the manifests in a folder say: the way to have Services without a cluster.
// It reads Services, EndpointSlices, Nodes, and Endpoints of old, sets what an API server would set, and follows changes.
//
//	files ─ split ─ decode, defaults ─▶ objects of each file ─ merge ─▶ contents ─ apply ─▶ Store
//
// A file with an error keeps the objects that it had before; the others go on. Of an object in two files that of the
// first one by name counts. A Service without a ClusterIP has one by its name.
package folder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"usher/internal/configfile"
	"usher/internal/kube/objects"
)

// Folder is a folder of manifests.
type Folder struct {
	dir     string
	log     *zap.Logger
	decoder decoder
	files   map[string]*file       // by name
	content contents               // what the Store has
	said    map[string]bool        // what is told about the contents, as long as it is so
	refused atomic.Pointer[string] // a file with an error, for Check
}

// Open returns the folder at a path, which must be one. The folders in it are not read.
func Open(dir string, log *zap.Logger) (*Folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("manifests: %s is not a folder: give the one that the file is in", dir)
	}
	return &Folder{dir: dir, log: log, decoder: newDecoder(), files: make(map[string]*file)}, nil
}

// Run keeps the store as the manifests say until the context ends. It calls synced once the store has all of them.
func (f *Folder) Run(ctx context.Context, store *objects.Store, synced func()) error {
	watcher := configfile.NewFolderWatcher(f.dir, isManifest)
	defer watcher.Close()
	if err := f.load(store); err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	if len(f.files) == 0 {
		f.log.Warn("the folder has no manifests: add files that end in .yaml, .yml or .json", zap.String("folder", f.dir))
	}
	synced()
	changes := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		watcher.Run(ctx, func() {
			select {
			case changes <- struct{}{}:
			default: // a load is due already
			}
		})
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
			if err := f.load(store); err != nil {
				f.log.Warn("the manifests cannot be read: what they were stays", zap.Error(err))
			}
		}
	}
}

// isManifest reports whether a file of that name is read. Names that begin with a dot are those of editors and mounts.
func isManifest(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// load reads the files that have changed, and writes to the store what is new, changed or gone.
func (f *Folder) load(store *objects.Store) error {
	entries, err := os.ReadDir(f.dir) // sorted by name
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if isManifest(e.Name()) {
			names = append(names, e.Name())
		}
	}
	isThere, isChanged := make(map[string]bool, len(names)), f.said == nil
	for i, r := range f.readAll(names) {
		if !r.isGone {
			isThere[names[i]] = true
			isChanged = f.take(names[i], r) || isChanged
		}
	}
	for name := range f.files {
		if !isThere[name] {
			delete(f.files, name)
			isChanged = true
		}
	}
	if isChanged {
		f.update(store)
	}
	var refused *string
	for name, file := range f.files {
		if file.err != "" {
			refused = &name
		}
	}
	f.refused.Store(refused)
	return nil
}

// Check returns an error if a file stands for what it was before: who reads the folder anew finds less. Any goroutine may
// call it.
func (f *Folder) Check() error {
	if name := f.refused.Load(); name != nil {
		return fmt.Errorf("the manifest %s has an error, and what it was before would be lost: fix it", filepath.Join(f.dir, *name))
	}
	return nil
}

// tell logs what is odd about a file that is used.
func (f *Folder) tell(name string, p parsed) {
	path := zap.String("file", filepath.Join(f.dir, name))
	for _, warning := range p.warnings {
		f.log.Warn(warning, path)
	}
	if len(p.ignored) > 0 {
		slices.Sort(p.ignored)
		f.log.Debug("objects of other kinds are passed over", path, zap.Strings("kinds", slices.Compact(p.ignored)))
	}
}

// update merges the files, and writes to the store what differs.
func (f *Folder) update(store *objects.Store) {
	next, notes := f.content.merge(f.files)
	next.apply(&f.content, store)
	f.content = next
	said := make(map[string]bool, len(notes))
	for _, note := range notes {
		if said[note] = true; !f.said[note] {
			f.log.Warn(note, zap.String("folder", f.dir))
		}
	}
	f.said = said
	f.log.Debug("manifests are read", zap.Int("files", len(f.files)), zap.Int("services", len(next.services)),
		zap.Int("slices", len(next.slices)), zap.Int("nodes", len(next.nodes)))
}

// reuse replaces objects by those of before that are equal, so that they are no change.
func reuse(now, before []object) []object {
	had := make(map[id]object, len(before))
	for _, o := range before {
		had[o.id()] = o
	}
	for i, o := range now {
		if old, is := had[o.id()]; is && reflect.DeepEqual(old.Object, o.Object) {
			now[i].Object = old.Object
		}
	}
	return now
}
