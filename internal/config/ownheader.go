package config

import (
	"iter"
	"net/netip"
	"slices"
)

// checkHeaders reports the first of some services of the plan that another listener of this process would refuse for the
// header of the PROXY protocol: its clients or its checks. Its cost is linear in their backends. The error is an *Error.
func (c *Checker) checkHeaders(services []*Service) error {
	for _, s := range services {
		if err := c.routes.checkClientHeaders(c.byConfig[s]); err != nil {
			return err
		}
		if err := c.routes.checkProbeHeaders(s); err != nil {
			return err
		}
	}
	return nil
}

// checkClientHeaders reports a backend that is a listener of this process and would refuse the clients of a route.
func (r *Routes) checkClientHeaders(route *Route) error {
	s := route.service
	for backend, to := range r.onwardStops(route) {
		other, from := to.route.service, sourceTo(backend.IP)
		const refuses = ": backend %s is the listener %s of service %q, which refuses %s "
		switch needs, only := other.wantsHeader(from); {
		case needs && s.SendProxy.Version == 0:
			return s.addressError("backend", backend, refuses+"without a header of the PROXY protocol: set %s of service %q",
				backend, to.listenAddr(), other.Name, from, Field("send-proxy"), s.Name)
		case !needs && only:
			return s.addressError("backend", backend, refuses+"with %s: its %s lacks that address",
				backend, to.listenAddr(), other.Name, from, Field("accept-proxy-only"), Field("accept-proxy"))
		}
	}
	return nil
}

// onwardStops are the backends of a route that are listeners of this process, and those: one of several that share an
// address, for they want the same headers.
func (r *Routes) onwardStops(route *Route) iter.Seq2[Addr, stop] {
	return func(yield func(Addr, stop) bool) {
		if len(route.onward) == 0 {
			return
		}
		w := walk{Routes: r}
		for i, l := range route.listeners {
			for offset := range max(l.Ports, 1) {
				for _, b := range route.onward {
					if to, ok := firstByName(w.next(stop{route, i, offset}, b.Addr)); ok && !yield(b.Addr, to) {
						return
					}
				}
			}
		}
	}
}

// checkProbeHeaders reports checks that are aimed at a listener of this process, which would refuse them. Those of
// backends that are such listeners are not made at all, and checkClientHeaders has looked at the backends.
func (r *Routes) checkProbeHeaders(s *Service) error {
	if s.Health.IsOff() || s.Health.Kind == "exec" || s.Health.Proxy {
		return nil
	}
	for i := range s.Backends {
		at := s.checkedElsewhere(&s.Backends[i])
		if !at.IsValid() {
			continue
		}
		found, ok := firstByName(r.listeners.find(Addr{Network: s.Network(), IP: at.Addr(), Port: at.Port(), Ports: 1}, int(at.Port())))
		if !ok {
			continue
		}
		other, from := found.route.service, sourceTo(at.Addr())
		if needs, only := other.wantsHeader(from); needs || only {
			return s.optionError("health", ": its checks of %s would be refused there: service %q requires a PROXY header from %s (add \",proxy\" to %s)",
				at, other.Name, from, Field("health"))
		}
	}
	return nil
}

// checkedElsewhere returns where a backend is checked if that is not its own address, nor at a name.
func (s *Service) checkedElsewhere(b *Backend) netip.AddrPort {
	ip, port := b.Check.Addr(), b.Check.Port()
	if port == 0 {
		port = uint16(s.Health.Port)
	}
	if !ip.IsValid() {
		ip = b.Addr.IP
	}
	if port == 0 || !ip.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, port)
}

// wantsHeader reports whether a service needs a header of the PROXY protocol from a peer, and whether it refuses peers
// that send none. Peers on unix sockets have no address, and need none.
func (s *Service) wantsHeader(from netip.Addr) (needs, only bool) {
	needs = slices.ContainsFunc(s.Access.AcceptProxy, func(p netip.Prefix) bool { return p.Contains(from) })
	return needs, s.Access.ProxyOnly && from.IsValid()
}

// sourceTo returns the address from which this process connects to a listener of its own. Linux has one for all of
// 127.0.0.0/8, and takes any other address itself.
func sourceTo(ip netip.Addr) netip.Addr {
	if ip.Is4() && ip.IsLoopback() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return ip
}
