package app

import (
	"context"
	"io"
	"path/filepath"
	"sync"

	"usher/internal/ipvsadm"
	"usher/internal/nfct"
	"usher/internal/procfs"
)

// procRun keeps the files of --proc. The zero value keeps none.
type procRun struct {
	folder *procfs.Folder
	cancel context.CancelFunc
	loop   sync.WaitGroup
}

// followProc begins to keep the files of --proc, until closeProc. An image after this one goes on with them.
func (r *running) followProc() {
	path := r.settings.process.Proc
	if path == "" {
		return
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.proc.cancel = cancel
	r.proc.folder = procfs.New(path, r.log.Logger, r.procFiles)
	r.proc.loop.Go(func() { r.proc.folder.Run(ctx) })
}

// closeProc removes the files. What drains is in them up to its end.
func (r *running) closeProc() {
	if r.proc.folder == nil {
		return
	}
	r.proc.cancel()
	r.proc.loop.Wait()
	r.proc.folder.Remove()
}

// procFiles are the files of --proc, of one moment.
func (r *running) procFiles() []procfs.File {
	view := r.dialects.IPVS()
	return []procfs.File{
		{Path: "net/ip_vs", Write: func(w io.Writer) error { return ipvsadm.WriteProcServices(w, &view) }},
		{Path: "net/ip_vs_stats", Write: func(w io.Writer) error { return ipvsadm.WriteProcStats(w, &view) }},
		{Path: "net/ip_vs_conn", Write: func(w io.Writer) error {
			return ipvsadm.WriteProcConnections(w, r.dialects.IPVSConnections())
		}},
		{Path: "net/nf_conntrack", Write: func(w io.Writer) error { return nfct.WriteProc(w, r.dialects.Tracked()) }},
	}
}
