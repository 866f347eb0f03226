package config

import "net/netip"

// Reach tells which services may have a backend at one of some listeners, or a check or an agent. It errs on the safe
// side: a host name may be anything, and ports do not count.
type Reach struct {
	local func(netip.Addr) bool
	ips   map[netip.Addr]bool
	paths map[string]bool // of unix sockets
	isAll bool            // a listener is on all addresses of a family
}

// NewReach returns the reach of listeners. local is as in NewRoutes.
func NewReach(listeners []Addr, local func(netip.Addr) bool) *Reach {
	r := &Reach{local: local, ips: make(map[netip.Addr]bool), paths: make(map[string]bool)}
	for _, l := range listeners {
		switch {
		case l.Network == Unix:
			r.paths[cleanPath(l.Path)] = true
		case isWide(l):
			r.isAll = true
		default:
			r.ips[l.IP] = true
		}
	}
	return r
}

// Has reports whether a service may be one.
func (r *Reach) Has(s *Service) bool {
	return s.hasBackend(func(b *Backend) bool {
		switch a := &b.Addr; {
		case a.Name != "":
			return true
		case a.Network == Unix:
			if len(r.paths) > 0 && r.paths[cleanPath(a.Path)] {
				return true
			}
		case r.has(a.IP):
			return true
		}
		// A port alone is one of the backend's address, which counts already.
		return r.has(b.Check.Addr()) || r.has(b.Agent.Addr())
	})
}

func (r *Reach) has(ip netip.Addr) bool {
	return ip.IsValid() && (r.ips[ip] || r.isAll && (ip.IsLoopback() || r.local != nil && r.local(ip)))
}
