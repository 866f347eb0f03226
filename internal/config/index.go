package config

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// checkListeners reports two listeners that would take the same clients, in one service or two. One on all addresses and
// one on a single address of the same port are such. The kernel binds only the first. Listeners with different server
// names or protocols share an address. All routes were added at once. The error is an *Error.
func (x *listenerIndex) checkListeners() error {
	a, b, overlap := x.overlap()
	if !overlap {
		return nil
	}
	return clashError(a, b)
}

// clashError is the error of two listeners that would take the same clients, or share an address and cannot.
func clashError(a, b stop) *Error {
	first, second := a.route, b.route
	at, addr := a.listenAddr(), b.listenAddr()
	if a.isBeside(b) {
		return disagreement(a, b)
	}
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

// disagreement is the error of two listeners that share an address, and cannot. What comes before the ClientHello is
// the same for all.
func disagreement(a, b stop) *Error {
	at, addr := a.listenAddr(), b.listenAddr()
	e := &Error{Service: b.route.name, Field: "listen", Value: addr.String(), Other: a.route.name, OtherValue: at.String()}
	who, args := "services %q and %q share %s", []any{a.route.name, b.route.name, addr.socket()}
	if a.route == b.route {
		who, args = "service %q listens on %s more than once", []any{a.route.name, addr.socket()}
	}
	switch {
	case a.mixes(b) || b.mixes(a):
		e.format = who + ", one by from and one by sni or alpn: give one of them an address of its own"
	case a.route.trusted != b.route.trusted:
		e.format = who + " and must have the same %s and %s"
		args = append(args, Field("accept-proxy"), Field("accept-proxy-only"))
	default:
		e.format = who + " and must say the same of its mode, user and group"
	}
	e.args = args
	return e
}

// listenerIndex finds the listeners that take clients of an address in logarithmic time. Listeners do not overlap, but
// for those that share an address by server names: see checkListeners.
type listenerIndex struct {
	local func(netip.Addr) bool
	at    map[listenHost]*hostPorts
	ports map[string]*portSet // of each network: those of listeners, and of some that are gone
}

// hostPorts are the listeners of a host.
type hostPorts struct {
	all   []ports // sorted
	reach []int   // the largest end of each one and those before it
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
	return listenerIndex{local: local, at: make(map[listenHost]*hostPorts), ports: make(map[string]*portSet)}
}

// add adds the listeners of routes. Its cost is linear in what a host has of them, whatever their order.
func (x *listenerIndex) add(routes []*Route) {
	grown := make(map[listenHost]bool)
	for _, r := range routes {
		for i, l := range r.listeners {
			h := hostOf(l)
			if x.at[h] == nil {
				x.at[h] = new(hostPorts)
			}
			x.at[h].all = append(x.at[h].all, ports{int(l.Port), l.Ports, stop{route: r, listener: i}})
			grown[h] = true
			if l.Port > 0 {
				portsOf(x.ports, l.Network).add(int(l.Port), l.Ports)
			}
		}
	}
	for h := range grown {
		x.at[h].sort()
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
		at := x.at[h]
		if at == nil {
			continue
		}
		if at.all = slices.DeleteFunc(at.all, func(p ports) bool { return gone[p.stop.route] }); len(at.all) > 0 {
			at.measure()
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

func (h *hostPorts) sort() {
	sort.Slice(h.all, func(i, j int) bool {
		a, b := &h.all[i], &h.all[j]
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.stop.route.index, b.stop.route.index), cmp.Compare(a.stop.listener, b.stop.listener)) < 0
	})
	h.measure()
}

func (h *hostPorts) measure() {
	h.reach = h.reach[:0]
	most := 0
	for _, p := range h.all {
		most = max(most, p.end())
		h.reach = append(h.reach, most)
	}
}

// within yields the listeners that have any port from low to high, but for those whose port the kernel chooses.
func (h *hostPorts) within(low, high int) iter.Seq[ports] {
	return func(yield func(ports) bool) {
		if h == nil {
			return
		}
		i, _ := slices.BinarySearchFunc(h.all, high+1, func(p ports, port int) int { return cmp.Compare(p.first, port) })
		for ; i > 0 && h.reach[i-1] > low; i-- {
			if p := h.all[i-1]; p.first > 0 && p.end() > low && !yield(p) {
				return
			}
		}
	}
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
	for h, at := range x.at {
		var latest map[clients]ports // that reach furthest of those before
		var furthest ports           // of all of them
		for i, p := range at.all {
			whose := p.stop.clients()
			if other, ok := latest[whose]; ok && other.overlaps(h, p) {
				consider(other.stop, p.stop)
			}
			if i > 0 && furthest.overlaps(h, p) && !furthest.stop.agrees(p.stop) { // others before agree with that one
				consider(furthest.stop, p.stop)
			}
			if other, ok := latest[whose]; len(at.all) > 1 && (!ok || other.end() < p.end()) {
				if latest == nil {
					latest = make(map[clients]ports)
				}
				latest[whose] = p
			}
			if i == 0 || furthest.end() < p.end() {
				furthest = p
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
		own := ports{int(l.Port), l.Ports, stop{route: r, listener: i}}
		if _, has := x.widerThan(h, own); has {
			return false
		}
		at := x.at[h]
		clash := func(other ports) bool {
			return other.stop != own.stop && (other.stop.clients() == own.stop.clients() || !other.stop.agrees(own.stop))
		}
		if h.network == Unix && slices.ContainsFunc(at.all, clash) {
			return false
		}
		for other := range at.within(own.first, own.end()-1) {
			if own.first > 0 && clash(other) {
				return false
			}
		}
	}
	return true
}

// clients are those that a listener takes at its address.
type clients struct{ serverName, protocol, from string }

func (p stop) clients() clients {
	a := p.listenAddr()
	return clients{a.ServerName, a.Protocol, a.From}
}

// isBeside reports whether two listeners have an address together, and take different clients there.
func (p stop) isBeside(q stop) bool {
	return hostOf(p.listenAddr()) == hostOf(q.listenAddr()) && p.clients() != q.clients()
}

// agrees reports whether two listeners can have an address together.
func (p stop) agrees(q stop) bool {
	return p.route.trusted == q.route.trusted && p.listenAddr().File == q.listenAddr().File && !p.mixes(q) && !q.mixes(p)
}

// mixes reports whether one listener is for prefixes of clients, and the other one for server names.
func (p stop) mixes(q stop) bool {
	return p.listenAddr().From != "" && q.listenAddr().ServerName+q.listenAddr().Protocol != ""
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
		for other := range x.at[w].within(p.first, p.end()-1) {
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
	for range x.taking(a, low, high) {
		return true
	}
	return false
}

// taking yields the listeners that take clients of any port from low to high of an address. The ports of a unix socket
// are meaningless. Those that share the address all do: which one has a client, its ClientHello says.
func (x *listenerIndex) taking(a Addr, low, high int) iter.Seq[ports] {
	return func(yield func(ports) bool) {
		for _, h := range x.hosts(a) {
			all := x.at[h].within(low, high)
			if at := x.at[h]; h.network == Unix && at != nil {
				all = slices.Values(at.all)
			}
			for p := range all {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// find yields the listeners' ports that take clients of a port of an address.
func (x *listenerIndex) find(a Addr, port int) iter.Seq[stop] {
	return func(yield func(stop) bool) {
		for p := range x.taking(a, port, port) {
			at := p.stop
			if a.Network != Unix {
				at.offset = port - p.first
			}
			if !yield(at) {
				return
			}
		}
	}
}
