package dialect

import (
	"sync"
	"sync/atomic"

	"usher/balancer"
	"usher/conntrack"
	"usher/internal/control"
	"usher/internal/ipvsadm"
	"usher/internal/reconcile"
	"usher/proxy"
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

// figures measures services. Its totals only grow. Any goroutine may call its methods.
type figures struct {
	census atomic.Pointer[census]

	mu    sync.Mutex
	rates rates
}

// census is what was counted at one time: flows and templates by backend, and rates.
type census struct {
	flows    map[*balancer.Backend]flowCount
	services map[*proxy.Service]estimate
	backends map[*balancer.Backend]estimate
}

type flowCount struct{ active, inactive, persistent uint32 }

// look counts anew, for the calls of service and backend that follow. Its cost is linear in flows, templates and backends:
// nothing is counted while nobody asks.
func (f *figures) look(c *control.Controller, live []control.Live) {
	now := &census{flows: make(map[*balancer.Backend]flowCount)}
	for r := range c.Rows() {
		if r.Backend == nil || r.Service.Config().UDP.OnePacket { // IPVS keeps no entry of one packet either
			continue
		}
		n := now.flows[r.Backend]
		if isActive(r.State) {
			n.active++
		} else {
			n.inactive++
		}
		now.flows[r.Backend] = n
	}
	for client := range c.Clients() {
		n := now.flows[client.Backend]
		n.persistent++
		now.flows[client.Backend] = n
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now.services, now.backends = f.rates.update(live, c.Now())
	f.census.Store(now)
}

// isActive reports whether IPVS counts a flow as an active connection: of TCP up to the first FIN or RST, of UDP never.
func isActive(s conntrack.State) bool {
	switch s {
	case conntrack.HalfClosed, conntrack.Closing, conntrack.Unreplied, conntrack.Assured:
		return false
	}
	return true
}

// service returns the figures of a service.
func (f *figures) service(live *control.Live) serviceFigures {
	s := serviceFigures{Stats: serviceStats(live.Running)}
	if c := f.census.Load(); c != nil {
		s.Rates = c.services[live.Running].average.rates()
	}
	return s
}

// backend returns the figures of a backend of a service.
func (f *figures) backend(_ *control.Live, b *reconcile.BackendState) backendFigures {
	s := backendFigures{Stats: backendStats(b.Backend)}
	if c := f.census.Load(); c != nil {
		n := c.flows[b.Backend]
		s.Active, s.Inactive, s.Persistent, s.Rates = n.active, n.inactive, n.persistent, c.backends[b.Backend].average.rates()
	}
	return s
}

func serviceStats(s *proxy.Service) ipvsadm.Stats {
	up, down := s.Bytes()
	in, out := s.Packets()
	return ipvsadm.Stats{Conns: s.Accepted(), InPkts: in, OutPkts: out, InBytes: up, OutBytes: down}
}

func backendStats(b *balancer.Backend) ipvsadm.Stats {
	up, down := b.Bytes()
	in, out := b.Packets()
	return ipvsadm.Stats{Conns: b.Total(), InPkts: in, OutPkts: out, InBytes: up, OutBytes: down}
}
