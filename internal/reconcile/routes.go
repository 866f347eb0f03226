package reconcile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"usher/health"
	"usher/internal/config"
)

// routes keeps the backends that names resolve to from leading clients back to a listener of this process, and checks
// from being its clients. Its methods may be called by any goroutine.
type routes struct {
	local func(netip.Addr) bool

	mu      sync.Mutex
	routes  *config.Routes
	of      map[*Service]*config.Route
	refused map[*Service]bool // with backends that are left out
}

func newRoutes(local func(netip.Addr) bool) *routes {
	return &routes{local: local, routes: config.NewRoutes(local), of: make(map[*Service]*config.Route), refused: make(map[*Service]bool)}
}

// change follows services whose listeners are others than before. It returns those that have to look at their backends
// again because some were left out, and what finds those that have to because of the listeners.
func (r *routes) change(changes []serviceChange) (again []*Service, leads *config.Reach) {
	var gone []*config.Route
	var came []*config.Service
	var services []*Service
	var listeners []config.Addr // that there were or are
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		if !c.moves() {
			continue
		}
		if c.before != nil {
			gone = append(gone, r.of[c.service])
			listeners = append(listeners, c.before.Listeners...)
			delete(r.of, c.service)
		}
		if c.now != nil {
			came, services = append(came, c.now), append(services, c.service)
			listeners = append(listeners, c.now.Listeners...)
		} else {
			delete(r.refused, c.service)
		}
	}
	r.routes.Remove(gone)
	for i, route := range r.routes.Add(came) {
		r.of[services[i]] = route
	}
	if len(gone) > 0 {
		again = slices.Collect(maps.Keys(r.refused))
	}
	if len(listeners) > 0 {
		leads = config.NewReach(listeners, r.local)
	}
	return again, leads
}

// admit makes backends those of a service, without the ones that would lead back to it. Services of which some were left
// out look again when a way has gone.
func (r *routes) admit(s *Service, backends []config.Backend) (kept []config.Backend, leftOut []line) {
	r.mu.Lock()
	route := r.of[s]
	if route == nil {
		r.mu.Unlock()
		return backends, nil // it is about to end
	}
	kept, refused, opens := r.routes.Set(route, backends)
	var again []*Service
	if delete(r.refused, s); opens {
		again = slices.Collect(maps.Keys(r.refused))
	}
	if len(refused) > 0 {
		r.refused[s] = true
	}
	r.mu.Unlock()
	for _, other := range again {
		other.observe(lookAgain)
	}
	for _, err := range refused {
		leftOut = append(leftOut, leftOutLine("backend left out", err))
	}
	return kept, leftOut
}

// isOwn returns an error if a connection to a check's target would come to a listener of this process.
func (r *routes) isOwn(t health.Target) error {
	at := config.Addr{Network: t.Network, Path: t.Address}
	if t.Network != config.Unix {
		ap, err := netip.ParseAddrPort(t.Address)
		if err != nil {
			return nil
		}
		at = config.Addr{Network: t.Network, IP: ap.Addr(), Port: ap.Port(), Ports: 1}
	}
	r.mu.Lock()
	service, listener, ours := r.routes.Listener(at)
	r.mu.Unlock()
	if !ours {
		return nil
	}
	return fmt.Errorf("%s is the listener %s of service %s: to ask there would be a client of this process", t.Address, listener, service)
}
