// Package kube makes usher serve the Services of Kubernetes, as kube-proxy does, from an API server or from manifests.
//
//	cluster, folder ─▶ objects.Store ─ Take ─▶ engine ─ planner.Plan ─▶ book ─ ReplaceSound ─▶ control
//	                                             │ ▲                     ├─▶ names.Zone
//	                          interfaces, Node ──┘ └── retries           ├─▶ faces
//	                                                                     └─▶ report: problems as log lines and events
//
// Work is level-triggered: whatever has changed since the last Take is planned, and one change is applied at a time. A
// changed Service costs that Service alone. What cannot be served is said once, and tried again.
package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"usher/internal/app"
	"usher/internal/kube/cluster"
	"usher/internal/kube/folder"
	"usher/internal/kube/objects"
)

// name is that of the command, and of the instance by default.
const name = "kube"

// source is what runs with the settings of a command line. It is an app.Source.
type source struct {
	settings settings
	folder   atomic.Pointer[folder.Folder] // of Run; nil: there is none
}

// Name returns the name of the command.
func (*source) Name() string { return name }

// Settings returns the settings for restore. With a manifest that has an error there is no upgrade: the next image knows
// nothing of what it was before.
func (s *source) Settings() ([]byte, error) {
	if f := s.folder.Load(); f != nil {
		if err := f.Check(); err != nil {
			return nil, err
		}
	}
	return json.Marshal(s.settings)
}

// restore returns the source of what Settings has returned.
func restore(text []byte) (app.Source, error) {
	s := new(source)
	if err := json.Unmarshal(text, &s.settings); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return s, nil
}

// origin is where objects come from: a cluster, or a folder.
type origin interface {
	// Run keeps the store until ctx ends. It calls synced once the store has all that there is.
	Run(ctx context.Context, store *objects.Store, synced func()) error
}

// Run serves the Services until ctx ends.
func (s *source) Run(ctx context.Context, h app.SourceHost, synced func()) error {
	log := h.Log.Named(name)
	from, err := s.open(h, log)
	if err != nil {
		return err
	}
	e, err := newEngine(s.settings, from, h, log)
	if err != nil {
		return err
	}
	defer e.close()
	ctx, cancel := context.WithCancel(ctx)
	var owned sync.WaitGroup
	defer owned.Wait()
	defer cancel()
	listed, ended := make(chan struct{}), make(chan error, 1)
	owned.Go(func() { ended <- from.Run(ctx, e.store, sync.OnceFunc(func() { close(listed) })) })
	select {
	case <-listed:
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := e.first(ctx); err != nil {
		return err
	}
	owned.Go(func() { e.notice(ctx) })
	if e.dns != nil {
		owned.Go(func() { e.dns.serve(ctx) })
	}
	if e.status != nil {
		owned.Go(func() { e.status.run(ctx) })
	}
	synced()
	return e.follow(ctx, ended)
}

// open opens where the objects come from.
func (s *source) open(h app.SourceHost, log *zap.Logger) (origin, error) {
	o := &s.settings
	if o.Manifests != "" {
		f, err := folder.Open(o.Manifests, log)
		if err != nil {
			return nil, err
		}
		s.folder.Store(f)
		return f, nil
	}
	node, _ := o.node()
	return cluster.Open(cluster.Options{
		Kubeconfig: o.Kubeconfig, Context: o.Context, Node: node, UserAgent: "usher/" + h.Version, Log: log,
	})
}
