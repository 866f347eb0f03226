package config

import (
	"net/netip"
	"slices"
)

// Checker checks whole plans one after the other: that no two listeners take the same clients, that no backend leads
// back to a listener of its service, and that none is one that would refuse it for a header of the PROXY protocol. It remembers the last plan that was right. The cost of the next one is linear in the
// services that differ, apart from a pass over pointers. A new listener that may be a backend of an old service costs a
// pass over all backends; so does one on all addresses whose port others have. A Checker is not safe for concurrent use.
type Checker struct {
	local    func(netip.Addr) bool
	services []*Service // of the last plan
	routes   *Routes
	byConfig map[*Service]*Route
	backends map[string]*portSet // of each network: ports of backends, and of some that are gone
}

// NewChecker returns a Checker that has seen no plan. local reports whether an address that is not loopback is one of
// this machine; nil knows none.
func NewChecker(local func(netip.Addr) bool) *Checker {
	return &Checker{local: local, routes: NewRoutes(local), byConfig: make(map[*Service]*Route), backends: make(map[string]*portSet)}
}

// Check checks a plan. The error is an *Error. After an error the next plan is compared with the last one that was right.
// Host names lead nowhere: call it again once they are resolved.
func (c *Checker) Check(services []*Service) error {
	gone, came := c.compare(services)
	if len(gone)+len(came) > len(c.services)/4 {
		return c.checkAll(services)
	}
	if !c.replace(gone, came) {
		c.replace(came, gone)
		return c.checkAll(services)
	}
	affected := came
	if slices.ContainsFunc(came, func(s *Service) bool { return len(s.Access.AcceptProxy) > 0 }) {
		affected = services
	}
	if err := c.checkHeaders(affected); err != nil {
		c.replace(came, gone)
		return err
	}
	c.services = slices.Clone(services)
	return nil
}

// checkAll checks a plan from the beginning.
func (c *Checker) checkAll(services []*Service) error {
	all := NewChecker(c.local)
	routes := all.routes.add(services)
	if err := all.routes.listeners.checkListeners(); err != nil {
		return err
	}
	if err := all.routes.checkLoops(routes); err != nil {
		return err
	}
	for i, s := range services {
		all.byConfig[s] = routes[i]
		all.note(s)
	}
	if err := all.checkHeaders(services); err != nil {
		return err
	}
	all.services = slices.Clone(services)
	*c = *all
	return nil
}

// compare returns the services that are no longer in the plan, and those that it did not have.
func (c *Checker) compare(services []*Service) (gone, came []*Service) {
	moved := make(map[*Service]bool)
	for i, s := range services {
		switch {
		case i < len(c.services) && c.services[i] == s:
		case c.byConfig[s] != nil && !moved[s]:
			moved[s] = true
		default:
			came = append(came, s)
		}
	}
	for i, s := range c.services {
		if (i >= len(services) || services[i] != s) && !moved[s] {
			gone = append(gone, s)
		}
	}
	return gone, came
}

// replace takes services out of the plan and others in. It reports whether those are certainly right.
func (c *Checker) replace(gone, came []*Service) (ok bool) {
	before := make(map[string]*Service, len(gone))
	for _, s := range gone {
		before[s.Name] = s
	}
	var others []*Service
	for _, s := range came {
		c.note(s)
		old := before[s.Name]
		if old == nil || !slices.Equal(old.Listeners, s.Listeners) || c.byConfig[old].trusted != s.trusted() {
			others = append(others, s)
			continue
		}
		route := c.byConfig[old]
		route.service, route.onward = s, c.routes.onward(route, s.Backends)
		delete(before, s.Name)
		delete(c.byConfig, old)
		c.byConfig[s] = route
	}
	var removed []*Route
	for _, s := range before {
		removed = append(removed, c.byConfig[s])
		delete(c.byConfig, s)
	}
	c.routes.Remove(removed)
	ok = c.add(others)
	routes := make([]*Route, len(came))
	for i, s := range came {
		routes[i] = c.byConfig[s]
	}
	return ok && c.routes.checkLoops(routes) == nil
}

// add adds services, and reports whether their listeners are certainly free.
func (c *Checker) add(services []*Service) (ok bool) {
	ok = true
	leads := false // a backend of another service may be a listener of these
	for _, s := range services {
		for _, l := range s.Listeners {
			last := int(l.Port) + max(l.Ports, 1) - 1
			leads = leads || c.backends[l.Network].hasAny(int(l.Port), last)
			ok = ok && !(isWide(l) && c.routes.listeners.ports[l.Network].hasAny(int(l.Port), last))
		}
	}
	for i, route := range c.routes.add(services) {
		ok = ok && c.routes.listeners.isFree(route)
		c.byConfig[services[i]] = route
	}
	if ok && leads {
		for s, route := range c.byConfig {
			route.onward = c.routes.onward(route, s.Backends)
		}
	}
	return ok
}

// note remembers the ports of a service's backends. Those of unix sockets are 0.
func (c *Checker) note(s *Service) {
	for i := range s.Backends {
		switch a := &s.Backends[i].Addr; {
		case a.Ports == 0 && a.Network != Unix:
			portsOf(c.backends, a.Network).add(0, 1<<16) // whatever the client's port is
		default:
			portsOf(c.backends, a.Network).add(int(a.Port), max(a.Ports, 1))
		}
	}
}
