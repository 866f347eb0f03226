package config

import "net/netip"

// Misroute is a service whose backend is a listener of this process that it must not lead to.
type Misroute struct {
	Service int // its place in the plan
	Err     error
}

// Misroutes returns the services that a plan has to leave out for the ways of the rest to be right: those whose backends
// lead back to them, or to a listener that would refuse them. They are of those that may be left out. local is as in
// NewRoutes. Its cost is that of a check of the whole plan, and of each loop that of the way to it.
func Misroutes(services []*Service, local func(netip.Addr) bool, mayLeave func(service int) bool) []Misroute {
	r := NewRoutes(local)
	routes := r.add(services)
	found := make([]error, len(services))
	w := walk{Routes: r, seen: make(map[stop]bool)}
	for _, route := range routes {
		for loop := w.from(route); loop != nil; loop = w.from(route) {
			err := r.loopError(loop)
			last := loop[len(loop)-1].at.route
			for i := len(loop) - 1; i >= 0; i-- {
				if at := loop[i].at.route; mayLeave(at.index) {
					last, found[at.index] = at, err
					break
				}
			}
			last.onward = nil // nothing leads on from it
			w.forget()
		}
	}
	for i, route := range routes {
		if found[i] != nil || !mayLeave(i) {
			continue
		}
		if found[i] = r.checkClientHeaders(route); found[i] == nil {
			found[i] = r.checkProbeHeaders(route.service)
		}
	}
	var all []Misroute
	for i, err := range found {
		if err != nil {
			all = append(all, Misroute{i, err})
		}
	}
	return all
}

// forget forgets the current way, at whose end a loop was found.
func (w *walk) forget() {
	for _, s := range w.way {
		delete(w.seen, s.at)
	}
	w.way = w.way[:0]
}
