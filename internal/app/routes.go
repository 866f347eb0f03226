package app

import (
	"net"
	"net/netip"
	"sync"

	"usher/internal/config"
)

// routes keeps the backends that names resolve to from leading clients back to a listener of this process. Its methods
// may be called by any goroutine.
type routes struct {
	mu     sync.Mutex
	routes *config.Routes
}

// newRoutes takes services with their listeners as bound.
func newRoutes(services []config.Service) *routes {
	return &routes{routes: config.NewRoutes(services, isLocal(localAddrs()))}
}

// admit makes backends those of a service, without the ones that would lead back to it.
func (r *routes) admit(service int, backends []config.Backend) (kept []config.Backend, refused []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.routes.Clear(service)
	for _, b := range backends {
		if err := r.routes.Add(service, b); err != nil {
			refused = append(refused, err)
			continue
		}
		kept = append(kept, b)
	}
	return kept, refused
}

// localAddrs returns the addresses that the interfaces of this machine have now, without zones; none if it does not say.
func localAddrs() map[netip.Addr]bool {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	addrs := make(map[netip.Addr]bool, len(interfaces))
	for _, a := range interfaces {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			addrs[prefix.Addr().Unmap()] = true
		}
	}
	return addrs
}

func isLocal(addrs map[netip.Addr]bool) func(netip.Addr) bool {
	return func(ip netip.Addr) bool { return addrs[ip.WithZone("")] }
}
