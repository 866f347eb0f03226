package dialect

import (
	"iter"

	"usher/internal/control"
	"usher/internal/ipvsadm"
	"usher/internal/reconcile"
)

// serviceFigures are what a listing shows of a service beside its configuration.
type serviceFigures struct {
	Stats ipvsadm.Stats
	Rates ipvsadm.Rates
}

// backendFigures are what a listing shows of a backend beside its configuration.
type backendFigures struct {
	Active, Inactive, Persistent uint32
	Stats                        ipvsadm.Stats
	Rates                        ipvsadm.Rates
}

// figures measures services. Its totals only grow.
type figures struct{}

// service returns the figures of a service.
func (f *figures) service(live *control.Live) serviceFigures {
	up, down := live.Running.Bytes()
	return serviceFigures{Stats: ipvsadm.Stats{Conns: live.Running.Accepted(), InBytes: up, OutBytes: down}}
}

// backend returns the figures of a backend of a service.
func (f *figures) backend(_ *control.Live, b *reconcile.BackendState) backendFigures {
	up, down := b.Backend.Bytes()
	return backendFigures{
		Active: uint32(b.Backend.Active()),
		Stats:  ipvsadm.Stats{Conns: b.Backend.Total(), InBytes: up, OutBytes: down},
	}
}

// connections yields the connection table as ipvsadm lists it.
func (f *figures) connections(*Server) iter.Seq[ipvsadm.Connection] {
	return func(func(ipvsadm.Connection) bool) {}
}
