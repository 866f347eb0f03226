package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// checkListeners reports two listeners that would take the same clients, in one service or two. One on all addresses and
// one on a single address of the same port are such. The kernel binds only the first. All routes were added at once. The
// error is an *Error.
func (x *listenerIndex) checkListeners() error {
	a, b, overlap := x.overlap()
	if !overlap {
		return nil
	}
	first, second := a.route, b.route
	at, addr := a.listenAddr(), b.listenAddr()
	e := &Error{Service: second.name, Field: "listen", Value: addr.String(), Other: first.name, OtherValue: at.String()}
	switch {
	case first == second && at == addr:
		e.format, e.args = "service %q listens on %s twice", []any{first.name, addr}
	case first == second:
		e.format, e.args = "service %q listens on both %s and %s, which overlap", []any{first.name, at, addr}
	case at == addr:
		e.format, e.args = "services %q and %q both listen on %s", []any{first.name, second.name, addr}
	default:
		e.format, e.args = "services %q and %q listen on %s and %s, which overlap", []any{first.name, second.name, at, addr}
	}
	return e
}

// listenerIndex finds the listener that takes clients of an address in logarithmic time. Listeners do not overlap: see
// checkListeners.
type listenerIndex struct {
	local func(netip.Addr) bool
	at    map[listenHost][]ports // sorted
	ports map[string]*portSet    // of each network: those of listeners, and of some that are gone
}

// listenHost is a listener's address without its port. Neither an IP nor a name means all addresses.
type listenHost struct {
	network string
	ip      netip.Addr
	name    string // of a host, in lower case, or the path of a unix socket
}

// ports are those of one listener.
type ports struct {
	first, n int
	stop     stop // of the first one
}

func (p ports) end() int { return p.first + p.n }

func newListenerIndex(local func(netip.Addr) bool) listenerIndex {
	return listenerIndex{local: local, at: make(map[listenHost][]ports), ports: make(map[string]*portSet)}
}

// add adds the listeners of routes. Its cost is linear in what a host has of them, whatever their order.
func (x *listenerIndex) add(routes []*Route) {
	grown := make(map[listenHost]bool)
	for _, r := range routes {
		for i, l := range r.listeners {
			h := hostOf(l)
			x.at[h] = append(x.at[h], ports{int(l.Port), l.Ports, stop{route: r, listener: i}})
			grown[h] = true
			if l.Port > 0 {
				portsOf(x.ports, l.Network).add(int(l.Port), l.Ports)
			}
		}
	}
	for h := range grown {
		sortPorts(x.at[h])
	}
}

// remove removes the listeners of routes.
func (x *listenerIndex) remove(routes []*Route) {
	gone := make(map[*Route]bool)
	hosts := make(map[listenHost]bool)
	for _, r := range routes {
		gone[r] = true
		for _, l := range r.listeners {
			hosts[hostOf(l)] = true
		}
	}
	for h := range hosts {
		if left := slices.DeleteFunc(x.at[h], func(p ports) bool { return gone[p.stop.route] }); len(left) > 0 {
			x.at[h] = left
		} else {
			delete(x.at, h)
		}
	}
}

// portSet is a set of ports.
type portSet [1 << 16 / 64]uint64

// portsOf returns the set of a network.
func portsOf(sets map[string]*portSet, network string) *portSet {
	if sets[network] == nil {
		sets[network] = new(portSet)
	}
	return sets[network]
}

func (s *portSet) add(first, n int) {
	for p := first; p < min(first+n, 1<<16); p++ {
		s[p/64] |= 1 << (p % 64)
	}
}

// hasAny reports whether any port from low to high is in the set; nil is empty.
func (s *portSet) hasAny(low, high int) bool {
	for p := low; s != nil && p <= min(high, 1<<16-1); p++ {
		switch {
		case p%64 == 0 && s[p/64] == 0:
			p += 63
		case s[p/64]&(1<<(p%64)) != 0:
			return true
		}
	}
	return false
}

func sortPorts(all []ports) {
	slices.SortFunc(all, func(a, b ports) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.stop.route.index, b.stop.route.index), cmp.Compare(a.stop.listener, b.stop.listener))
	})
}

// overlap returns two listeners that overlap, in the order of the list, if there are any. Of several pairs it returns
// the one that is complete first.
func (x *listenerIndex) overlap() (first, second stop, found bool) {
	consider := func(a, b stop) {
		if b.isBefore(a) {
			a, b = b, a
		}
		if !found || b.isBefore(second) || b == second && a.isBefore(first) {
			first, second, found = a, b, true
		}
	}
	for h, all := range x.at {
		for i, p := range all {
			if i > 0 && all[i-1].overlaps(h, p) {
				consider(all[i-1].stop, p.stop)
			}
			if other, ok := x.widerThan(h, p); ok {
				consider(other, p.stop)
			}
		}
	}
	return first, second, found
}

// isFree reports whether no other listener takes clients of those of a route, apart from narrower ones.
func (x *listenerIndex) isFree(r *Route) bool {
	for i, l := range r.listeners {
		h := hostOf(l)
		all := x.at[h]
		at, _ := slices.BinarySearchFunc(all, int(l.Port), func(p ports, port int) int { return cmp.Compare(p.first, port) })
		for all[at].stop != (stop{route: r, listener: i}) {
			at++
		}
		if at > 0 && all[at-1].overlaps(h, all[at]) || at+1 < len(all) && all[at].overlaps(h, all[at+1]) {
			return false
		}
		if _, has := x.widerThan(h, all[at]); has {
			return false
		}
	}
	return true
}

// isWide reports whether a listener is on all addresses of one family, or both.
func isWide(l Addr) bool { return l.Network != Unix && (l.IsAll() || l.IP.IsUnspecified()) }

// overlaps reports whether p and q, which is not before p, are of the same ports of a host.
func (p ports) overlaps(h listenHost, q ports) bool {
	return h.network == Unix || q.first > 0 && p.end() > q.first
}

// widerThan returns a listener on all addresses that takes clients of ports of a host, if there is one.
func (x *listenerIndex) widerThan(h listenHost, p ports) (stop, bool) {
	if p.first == 0 || h.network == Unix {
		return stop{}, false
	}
	for _, w := range wider(h) {
		if other, ok := last(x.at[w], p.end()-1); ok && other.end() > p.first {
			return other.stop, true
		}
	}
	return stop{}, false
}

// wider are the hosts that stand for all addresses of a family and take clients of h, too.
func wider(h listenHost) []listenHost {
	all := listenHost{network: h.network}
	switch {
	case h == all:
		return nil
	case !h.ip.IsValid() || h.ip.IsUnspecified():
		return []listenHost{all}
	case h.ip.Is4():
		return []listenHost{all, {network: h.network, ip: netip.IPv4Unspecified()}}
	}
	return []listenHost{all, {network: h.network, ip: netip.IPv6Unspecified()}}
}

// last returns the last of sorted listeners that begins at a port or before it. It skips one whose port the kernel
// chooses.
func last(all []ports, port int) (ports, bool) {
	i, _ := slices.BinarySearchFunc(all, port+1, func(p ports, port int) int { return cmp.Compare(p.first, port) })
	if i == 0 || all[i-1].first == 0 {
		return ports{}, false
	}
	return all[i-1], true
}

func hostOf(a Addr) listenHost {
	if a.Network == Unix {
		return listenHost{network: Unix, name: cleanPath(a.Path)}
	}
	return listenHost{network: a.Network, ip: a.IP, name: strings.ToLower(a.HostName())}
}

// hosts are the hosts of listeners that take clients of an address: the address itself, or all of this machine. A
// listener on all addresses takes loopback, and those that local knows. A name takes its own. TCP and UDP are separate.
func (x *listenerIndex) hosts(a Addr) []listenHost {
	hosts := append(make([]listenHost, 0, 3), hostOf(a))
	if a.Network == Unix || !a.IP.IsValid() || !a.IP.IsLoopback() && (x.local == nil || !x.local(a.IP)) {
		return hosts
	}
	wildcard := netip.IPv6Unspecified()
	if a.IP.Is4() {
		wildcard = netip.IPv4Unspecified()
	}
	return append(hosts, listenHost{network: a.Network, ip: wildcard}, listenHost{network: a.Network})
}

// hasListener reports whether a listener takes clients of any port from low to high of an address.
func (x *listenerIndex) hasListener(a Addr, low, high int) bool {
	if a.Network != Unix && !x.ports[a.Network].hasAny(low, high) {
		return false // the usual case, decided without an address
	}
	return slices.ContainsFunc(x.hosts(a), func(h listenHost) bool {
		if h.network == Unix {
			return len(x.at[h]) > 0
		}
		p, ok := last(x.at[h], high)
		return ok && p.end() > low
	})
}

// find returns the listener's port that takes clients of a port of an address. The port of a unix socket is meaningless.
func (x *listenerIndex) find(a Addr, port int) (stop, bool) {
	for _, h := range x.hosts(a) {
		if h.network == Unix {
			if all := x.at[h]; len(all) > 0 {
				return all[0].stop, true
			}
			continue
		}
		if p, ok := last(x.at[h], port); ok && port < p.end() {
			at := p.stop
			at.offset = port - p.first
			return at, true
		}
	}
	return stop{}, false
}
