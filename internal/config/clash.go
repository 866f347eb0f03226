package config

import (
	"cmp"
	"iter"
	"slices"
	"sort"
)

// Clash is a listener of a plan that takes clients of another one.
type Clash struct {
	Service, Listener int // their places
	Err               *Error
}

// Clashes returns the listeners that a plan has to leave out for the rest to be together, in the order of the plan. Of
// listeners that clash it keeps the first one of those that are bound, or else the first one. Its cost is that of a check
// of the whole plan.
func Clashes(services []*Service, isBound func(service, listener int) bool) []Clash {
	f := clashFinder{listenerIndex: newListenerIndex(nil), kept: make(map[stop]bool), narrower: make(map[stop]stop)}
	routes := make([]*Route, len(services))
	for i, s := range services {
		routes[i] = &Route{name: s.Name, service: s, listeners: s.Listeners, trusted: s.trusted(), index: i}
	}
	f.add(routes)
	for _, bound := range []bool{true, false} {
		for i, r := range routes {
			for j := range r.listeners {
				if isBound(i, j) == bound {
					f.place(stop{route: r, listener: j})
				}
			}
		}
	}
	sort.Slice(f.found, func(i, j int) bool {
		a, b := &f.found[i], &f.found[j]
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Listener, b.Listener)) < 0
	})
	return f.found
}

// clashFinder goes through the listeners of an index one by one.
type clashFinder struct {
	listenerIndex
	kept     map[stop]bool
	narrower map[stop]stop // a kept one that takes clients of a listener on all addresses
	found    []Clash
}

// place keeps a listener, unless it clashes with one that is kept.
func (f *clashFinder) place(at stop) {
	l := at.listenAddr()
	h, own := hostOf(l), ports{int(l.Port), l.Ports, at}
	if other, clashes := f.clash(h, own); clashes {
		f.found = append(f.found, Clash{at.route.index, at.listener, clashError(other, at)})
		return
	}
	f.kept[at] = true
	for other := range f.above(h, own) {
		if _, has := f.narrower[other]; !has {
			f.narrower[other] = at
		}
	}
}

// clash returns a kept listener that takes clients of a host's ports.
func (f *clashFinder) clash(h listenHost, own ports) (stop, bool) {
	if other, has := f.narrower[own.stop]; has {
		return other, true
	}
	for other := range f.beside(h, own) {
		if f.kept[other] && (other.clients() == own.stop.clients() || !other.agrees(own.stop)) {
			return other, true
		}
	}
	for other := range f.above(h, own) {
		if f.kept[other] {
			return other, true
		}
	}
	return stop{}, false
}

// beside yields the listeners of a host that have any of its ports.
func (f *clashFinder) beside(h listenHost, own ports) iter.Seq[stop] {
	return func(yield func(stop) bool) {
		all := f.at[h].within(own.first, own.end()-1)
		if h.network == Unix {
			all = slices.Values(f.at[h].all)
		}
		for p := range all {
			if (h.network == Unix || own.first > 0) && !yield(p.stop) {
				return
			}
		}
	}
}

// above yields the listeners on all addresses that have any of a host's ports.
func (f *clashFinder) above(h listenHost, own ports) iter.Seq[stop] {
	return func(yield func(stop) bool) {
		if h.network == Unix || own.first == 0 {
			return
		}
		for _, w := range wider(h) {
			for p := range f.at[w].within(own.first, own.end()-1) {
				if !yield(p.stop) {
					return
				}
			}
		}
	}
}
