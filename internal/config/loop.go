package config

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Routes follows flows from a listener to a backend that is itself a listener of this process, and so on. A way that
// comes back to where it began has no end: each connection on it opens the next one, until the descriptors are used up,
// and each datagram goes round for ever. A service is of one network with its backends, so ways of TCP and of UDP never
// meet. Routes is not safe for concurrent use.
type Routes struct {
	services []Service
	local    func(netip.Addr) bool
}

// NewRoutes returns the routes of services whose backends are yet to be added. Local reports whether an address that
// is not loopback is one of this machine; nil knows none.
func NewRoutes(services []Service, local func(netip.Addr) bool) *Routes {
	r := &Routes{services: slices.Clone(services), local: local}
	for i := range r.services {
		r.Clear(i)
	}
	return r
}

// CheckLoops reports the first backend that leads back to a listener of its service. It is to be asked again once host
// names are resolved.
func CheckLoops(services []Service, local func(netip.Addr) bool) error {
	r := NewRoutes(services, local)
	for i, s := range services {
		for _, b := range s.Backends {
			if err := r.Add(i, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// Clear takes all backends of a service out of the routes.
func (r *Routes) Clear(service int) { r.services[service].Backends = nil }

// Add makes b a backend of a service, unless flows to it would come back: the error says how.
func (r *Routes) Add(service int, b Backend) error {
	s := &r.services[service]
	if !r.isOurs(s, b.Addr) {
		return nil // no way goes on from there
	}
	before := s.Backends
	s.Backends = append(slices.Clip(before), b)
	w := walk{Routes: r, seen: make(map[stop]bool)}
	for i, l := range s.Listeners {
		for offset := range max(l.Ports, 1) {
			loop := w.visit(stop{service, i, offset})
			if loop == nil {
				continue
			}
			s.Backends = before
			return r.describe(service, b, loop)
		}
	}
	return nil
}

// isOurs reports whether some client's flow to a backend of s may end at a listener of this process.
func (r *Routes) isOurs(s *Service, backend Addr) bool {
	for _, other := range r.services {
		for _, l := range other.Listeners {
			if backend.Network == Unix && l.Network == Unix && path.Clean(l.Path) == path.Clean(backend.Path) || l.hears(backend, r.local) {
				return true
			}
		}
	}
	return false
}

// describe writes a loop that begins and ends at the same stop, and that b of a service has closed.
func (r *Routes) describe(service int, b Backend, loop []stop) error {
	s := &r.services[service]
	var others []string
	at := s.Listeners[0]
	for _, p := range loop {
		other := r.services[p.service].Name
		switch {
		case p.service == service:
			at = s.Listeners[p.listener]
		case !slices.Contains(others, other):
			others = append(others, other)
		}
	}
	if len(others) == 0 {
		return fmt.Errorf("backend %s of service %s is its own listener %s", b.Addr, s.Name, at)
	}
	return fmt.Errorf("backend %s of service %s leads back to its listener %s, by way of service %s", b.Addr, s.Name, at, strings.Join(others, ", "))
}

// stop is one port of a listener, by its distance from the first one.
type stop struct{ service, listener, offset int }

// walk is one search for a loop, depth first. Each stop is visited once.
type walk struct {
	*Routes
	seen map[stop]bool // and whether it is on the way that is being walked
	way  []stop
}

// visit returns the loop that a way from p runs into, nil if all ways end.
func (w *walk) visit(p stop) []stop {
	if onWay, seen := w.seen[p]; seen {
		if !onWay {
			return nil
		}
		return append(w.way[slices.Index(w.way, p):], p)
	}
	w.seen[p] = true
	w.way = append(w.way, p)
	for _, b := range w.services[p.service].Backends {
		next, ok := w.next(p, b.Addr)
		if !ok {
			continue
		}
		if loop := w.visit(next); loop != nil {
			return loop
		}
	}
	w.way = w.way[:len(w.way)-1]
	w.seen[p] = false
	return nil
}

// next returns the listener's port, if any, that takes a flow from p to a backend.
func (w *walk) next(p stop, backend Addr) (stop, bool) {
	port := int(backend.Port)
	switch from := w.services[p.service].Listeners[p.listener]; {
	case backend.Ports > 1:
		port += p.offset
	case backend.Ports == 0:
		port = int(from.Port) + p.offset
	}
	for i, s := range w.services {
		for j, l := range s.Listeners {
			switch {
			case backend.Network == Unix:
				if l.Network == Unix && path.Clean(l.Path) == path.Clean(backend.Path) {
					return stop{i, j, 0}, true
				}
			case l.Port > 0 && port >= int(l.Port) && port < int(l.Port)+l.Ports && l.hears(backend, w.local):
				return stop{i, j, port - int(l.Port)}, true
			}
		}
	}
	return stop{}, false
}
