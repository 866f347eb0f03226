package config

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// Routes follows flows from a listener to a backend that is itself a listener of this process, and so on. A way that
// returns to its start is a loop. Each connection on it opens the next one until descriptors run out, and each datagram
// circulates for ever. A service is of one network with its backends, so ways of TCP and of UDP never meet. Routes is
// not safe for concurrent use.
type Routes struct {
	listeners listenerIndex
	visits    int // of ports, over all walks
}

// Route is a service in Routes.
type Route struct {
	name      string
	service   *Service // as Add got it, or a Checker has it
	listeners []Addr
	trusted   string    // the peers whose headers it accepts
	index     int       // among those that were added with it
	onward    []Backend // those of its backends that are listeners of this process
}

// NewRoutes returns routes without services. local reports whether an address that is not loopback is one of this
// machine; nil knows none.
func NewRoutes(local func(netip.Addr) bool) *Routes {
	return &Routes{listeners: newListenerIndex(local)}
}

// Add adds services with their known backends; Set changes those. One whose backends close a loop has none at first.
func (r *Routes) Add(services []*Service) []*Route {
	routes := r.add(services)
	w := walk{Routes: r, seen: make(map[stop]bool)}
	for _, route := range routes {
		if w.from(route) != nil {
			route.onward = nil
			w = walk{Routes: r, seen: make(map[stop]bool)}
		}
	}
	return routes
}

func (r *Routes) add(services []*Service) []*Route {
	all := make([]Route, len(services))
	routes := make([]*Route, len(services))
	for i, s := range services {
		all[i] = Route{name: s.Name, service: s, listeners: s.Listeners, trusted: s.trusted(), index: i}
		routes[i] = &all[i]
	}
	r.listeners.add(routes)
	for i, route := range routes {
		route.onward = r.onward(route, services[i].Backends)
	}
	return routes
}

// Remove removes routes, which then have no use.
func (r *Routes) Remove(routes []*Route) { r.listeners.remove(routes) }

// checkLoops reports a backend that leads back to a listener of its service, on the ways from some routes. Its cost is
// linear in the ports that lead on. The error is an *Error.
func (r *Routes) checkLoops(from []*Route) error {
	w := walk{Routes: r, seen: make(map[stop]bool)}
	for _, route := range from {
		if loop := w.from(route); loop != nil {
			return r.loopError(loop)
		}
	}
	return nil
}

// Listener returns the listener of this process that takes clients of an address, if any. Of several that share it, it
// is the first by name.
func (r *Routes) Listener(at Addr) (service string, listener Addr, ok bool) {
	p, ok := firstByName(r.listeners.find(at, int(at.Port)))
	if !ok {
		return "", Addr{}, false
	}
	return p.route.name, p.listenAddr(), true
}

// Set makes backends those of a service. It leaves out each one that leads back to the service and returns an error for
// it. Usually no backend leads to a listener of this process, and Set costs a look-up for each. opens reports that a
// way may have gone, so that refused backends of other services may be possible.
func (r *Routes) Set(route *Route, backends []Backend) (kept []Backend, refused []error, opens bool) {
	before, onward := route.onward, r.onward(route, backends)
	if slices.Equal(onward, before) {
		return backends, nil, false // and the same as before
	}
	route.onward, kept = onward, backends
	for {
		w := walk{Routes: r, seen: make(map[stop]bool)}
		loop := w.from(route)
		if loop == nil {
			return kept, refused, len(before) > 0 && !slices.Equal(before, route.onward)
		}
		// Without the service there was no loop: one of its backends closes it.
		at := slices.IndexFunc(loop, func(p step) bool { return p.at.route == route })
		loop = slices.Concat(loop[at+1:], loop[:at+1])
		refused = append(refused, r.loopError(loop))
		closes := func(b Backend) bool { return b.Addr == loop[len(loop)-1].backend }
		route.onward = slices.DeleteFunc(route.onward, closes)
		kept = slices.DeleteFunc(slices.Clone(kept), closes)
	}
}

// onward returns those of backends of a route that are listeners of this process.
func (r *Routes) onward(route *Route, backends []Backend) []Backend {
	var found []Backend
	for i := range backends {
		b := &backends[i]
		for _, l := range route.listeners {
			low, high := int(b.Addr.Port), int(b.Addr.Port)+b.Addr.Ports-1
			if b.Addr.Ports == 0 {
				low, high = int(l.Port), int(l.Port)+l.Ports-1
			}
			if r.listeners.hasListener(b.Addr, low, high) {
				found = append(found, *b)
				break
			}
		}
	}
	return found
}

// loopError describes a loop, which the backend of its last step closes.
func (r *Routes) loopError(loop []step) error {
	last := loop[len(loop)-1]
	s, at := last.at.route, last.at.listenAddr()
	var others []string
	for _, p := range loop {
		if other := p.at.route.name; p.at.route != last.at.route && !slices.Contains(others, other) {
			others = append(others, other)
		}
	}
	e := &Error{Service: s.name, Field: "backend", Value: last.backend.String(), args: []any{last.backend, s.name, at}}
	if e.format = "backend %s of service %s is its own listener %s"; len(others) > 0 {
		e.format = "backend %s of service %s leads back to its listener %s, by way of service %s"
		e.args = append(e.args, strings.Join(others, ", "))
	}
	return e
}

// stop is one port of a listener, by its distance from the first one.
type stop struct {
	route            *Route
	listener, offset int
}

func (p stop) listenAddr() Addr { return p.route.listeners[p.listener] }

// isBefore reports whether p is listed before q.
func (p stop) isBefore(q stop) bool {
	return cmp.Or(cmp.Compare(p.route.index, q.route.index), cmp.Compare(p.listener, q.listener)) < 0
}

// firstByName returns the first one of stops by the name of its service, if there are any.
func firstByName(stops iter.Seq[stop]) (first stop, ok bool) {
	for p := range stops {
		if !ok || cmp.Or(cmp.Compare(p.route.name, first.route.name), cmp.Compare(p.listener, first.listener)) < 0 {
			first, ok = p, true
		}
	}
	return first, ok
}

// step is a stop and the backend at which a way continues.
type step struct {
	at      stop
	backend Addr
}

// walk is one search for a loop, depth first. Each stop is visited once.
type walk struct {
	*Routes
	seen map[stop]bool // and whether it is on the current way
	way  []step
}

// from returns the loop on the way from a route, or nil.
func (w *walk) from(route *Route) []step {
	if len(route.onward) == 0 {
		return nil
	}
	for i, l := range route.listeners {
		for offset := range max(l.Ports, 1) {
			if loop := w.visit(stop{route, i, offset}); loop != nil {
				return loop
			}
		}
	}
	return nil
}

// visit returns the loop on the way from p, or nil.
func (w *walk) visit(p stop) []step {
	if onWay, seen := w.seen[p]; seen {
		if !onWay {
			return nil
		}
		return w.way[slices.IndexFunc(w.way, func(s step) bool { return s.at == p }):]
	}
	w.seen[p] = true
	w.visits++
	for _, b := range p.route.onward {
		for next := range w.next(p, b.Addr) {
			w.way = append(w.way, step{p, b.Addr})
			if loop := w.visit(next); loop != nil {
				return loop
			}
			w.way = w.way[:len(w.way)-1]
		}
	}
	w.seen[p] = false
	return nil
}

// next yields the listeners' ports that may take a flow from p to a backend.
func (w *walk) next(p stop, backend Addr) iter.Seq[stop] {
	port := int(backend.Port)
	switch from := p.listenAddr(); {
	case backend.Ports > 1:
		port += p.offset
	case backend.Ports == 0:
		port = int(from.Port) + p.offset
	}
	return w.listeners.find(backend, port)
}
