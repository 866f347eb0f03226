package dialect

import (
	"context"
	"sync/atomic"

	"usher/internal/control"
	"usher/internal/iptables"
	"usher/internal/iptables/nat"
	"usher/internal/ipvsadm"
)

// Server runs the commands of ipvsadm and iptables. Any goroutine may call its methods.
type Server struct {
	control  *control.Controller
	figures  figures
	changing chan struct{} // has room for the one change that is under way, which alone writes what follows
	plan     servicePlan
	now      atomic.Pointer[desired] // what readers see
}

// desired is all that commands have asked for. It does not change once readers have it.
type desired struct {
	ipvs  *ipvsadm.State
	zeros zeros
	plan  *tablePlan // of iptables
}

// New returns a Server that nothing was asked of yet.
func New(c *control.Controller) *Server {
	s := &Server{control: c, changing: make(chan struct{}, 1)}
	tables := iptables.NewTables()
	plan := &tablePlan{tables: tables, nat: &nat.Result{}, chains: reachable(tables.Table(filterTable))}
	s.now.Store(&desired{ipvs: ipvsadm.NewState(), plan: plan})
	return s
}

// lock waits for the change that is under way.
func (s *Server) lock(ctx context.Context) error {
	select {
	case s.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Server) unlock() { <-s.changing }

// Suspend has changes wait until Resume: State is then what package control has, too.
func (s *Server) Suspend(ctx context.Context) error { return s.lock(ctx) }

// Resume ends what Suspend has begun.
func (s *Server) Resume() { s.unlock() }
