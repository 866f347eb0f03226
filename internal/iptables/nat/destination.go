package nat

import (
	"fmt"
	"net/netip"
	"slices"

	"usher/internal/iptables"
)

// destination is where a leaf sends flows. Without ports it is the client's.
type destination struct {
	ip    netip.Addr
	port  uint16
	count int // of ports, from that one on, for those of the listener in their order; 0: the client's
}

// maxChoices bounds the backends that one rule names by ranges.
const maxChoices = 1024

// translate adds the backends of a rule, and returns the share for which it has none.
func (w *walk) translate(r *rule, share float64) float64 {
	all, reason := w.destinations(r)
	if reason != "" {
		w.rest(r, reason, false)
		return share
	}
	notes := w.notes
	if r.set != nil {
		notes = append(slices.Clip(notes), r.set)
	}
	for _, to := range all {
		i, isThere := w.byTarget[to]
		if !isThere {
			i = len(w.leaves)
			w.byTarget[to] = i
			w.leaves = append(w.leaves, leaf{to: to, rules: append(slices.Clone(w.way), r)})
		}
		l := &w.leaves[i]
		if w.check != nil {
			l.checks = append(l.checks, w.check)
			continue
		}
		if len(notes) > 0 {
			l.note = notes[len(notes)-1]
		}
		if l.share == 0 {
			l.rules = append(slices.Clone(w.way), r) // not the way of a check
		}
		l.share += share / float64(len(all))
	}
	return 0
}

// destinations returns where a rule sends a flow, or why usher cannot.
func (w *walk) destinations(r *rule) ([]destination, string) {
	n := *r.nat
	if r.kind == redirect {
		if n.First = netip.AddrFrom4([4]byte{127, 0, 0, 1}); w.to.Addr().Is6() {
			n.First = netip.IPv6Loopback()
		}
		n.Last = n.First
		if !n.HasPorts {
			return nil, "the port would be usher's own again: give --to-ports"
		}
	}
	addresses, reason := addressesOf(r, &n, w.to)
	if reason != "" {
		return nil, reason
	}
	offers, reason := w.portsOf(&n)
	if reason != "" {
		return nil, reason
	}
	if len(addresses)*len(offers) > maxChoices {
		return nil, fmt.Sprintf("these are %d backends, and %d are the most for one rule", len(addresses)*len(offers), maxChoices)
	}
	var all []destination
	for _, ip := range addresses {
		for _, o := range offers {
			to := destination{ip, o.port, o.count}
			if w.isLoop(to) {
				return nil, fmt.Sprintf("the service would lead back to itself at %s", netip.AddrPortFrom(ip, max(to.port, w.ports.low)))
			}
			all = append(all, to)
		}
	}
	return all, ""
}

// addressesOf returns the addresses of a rule.
func addressesOf(r *rule, n *iptables.NAT, to netip.Prefix) ([]netip.Addr, string) {
	switch {
	case !n.First.IsValid() && to.IsSingleIP():
		return []netip.Addr{to.Addr()}, "" // --to-destination :PORT
	case !n.First.IsValid():
		return nil, "a backend has an address: give --to-destination ADDRESS:PORT"
	case n.First.IsUnspecified() || n.First.IsMulticast():
		return nil, fmt.Sprintf("%s is not the address of a backend", n.First)
	case n.First.Is4() != to.Addr().Is4():
		return nil, "the address that clients connect to is of the other family"
	}
	all := []netip.Addr{n.First}
	for ip := n.First; n.Last.IsValid() && ip.Less(n.Last); {
		if ip = ip.Next(); len(all) == maxChoices {
			return nil, fmt.Sprintf("%d backends are the most for one rule: give a shorter range", maxChoices)
		}
		all = append(all, ip)
	}
	return all, ""
}

// portsOf returns the ports of a rule for those of a flow.
func (w *walk) portsOf(n *iptables.NAT) ([]destination, string) {
	if !n.HasPorts {
		return []destination{{}}, ""
	}
	asked, given := w.ports.count(), ports{n.FirstPort, max(n.FirstPort, n.LastPort)}
	begin := w.whole.low
	if n.BasePort != 0 {
		begin = n.BasePort
	}
	shift := int(w.ports.low) - int(begin)
	switch fits := shift >= 0 && shift+asked <= given.count(); {
	case given.low == 0:
		return nil, "0 is not a port of a backend"
	case given.count() == 1:
		return []destination{{port: given.low, count: 1}}, ""
	case w.ports.within(given) && n.BasePort == 0:
		return []destination{{}}, "" // the kernel keeps a port of the range
	case fits && (n.BasePort != 0 || w.whole.count() == given.count()):
		return []destination{{port: given.low + uint16(shift), count: asked}}, ""
	case n.BasePort != 0:
		return nil, "the range of ports is shorter than that of the rule: give both the same length"
	case given.count() > maxChoices:
		return nil, fmt.Sprintf("these are %d ports, and %d backends are the most for one rule", given.count(), maxChoices)
	}
	all := make([]destination, given.count()) // the kernel chooses one
	for i := range all {
		all[i] = destination{port: given.low + uint16(i), count: 1}
	}
	return all, ""
}

// isLoop reports whether a backend is the listener itself.
func (w *walk) isLoop(to destination) bool {
	isOwn := w.to.Addr() == to.ip
	if w.to.Bits() == 0 {
		isOwn = to.ip.IsLoopback() || slices.Contains(w.env.Local, to.ip)
	}
	if !isOwn {
		return false
	}
	if to.count == 0 {
		return true
	}
	last := int(to.port) + to.count - 1
	return int(to.port) <= int(w.ports.high) && last >= int(w.ports.low)
}
