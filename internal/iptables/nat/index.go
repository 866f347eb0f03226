package nat

import (
	"iter"
	"net/netip"
	"slices"
)

// index finds the rules of a chain that a flow may meet without a look at all others: those of a single address or port
// are found by it. Places are those of active rules, in order.
type index struct {
	rules     []*rule // the active ones
	byBoth    map[netip.AddrPort][]int32
	byAddress map[netip.Addr][]int32 // rules of a single address, and no single port
	byPort    map[uint16][]int32     // the other way round
	others    []int32
	// anyByPort and anyOthers are the same for flows to any address.
	anyByPort map[uint16][]int32
	anyOthers []int32
}

// indexed is from how many rules on a chain is searched by index.
const indexed = 8

// of returns the index of a chain, which it makes at first.
func (c *chain) of(p purpose) *index {
	if c.index[p] == nil {
		c.index[p] = newIndex(c, p)
	}
	return c.index[p]
}

func newIndex(c *chain, p purpose) *index {
	x := &index{}
	last := -1
	for i, r := range c.rules {
		if r.decides(p) || r.kind == jumpAway {
			last = i
		}
	}
	for _, r := range c.rules[:last+1] { // a way back at the end of a chain changes nothing
		if r.isActive(p) && !r.isNever {
			x.rules = append(x.rules, r)
		}
	}
	if len(x.rules) < indexed {
		return x
	}
	x.byBoth, x.byAddress = make(map[netip.AddrPort][]int32), make(map[netip.Addr][]int32)
	x.byPort, x.anyByPort = make(map[uint16][]int32), make(map[uint16][]int32)
	for i, r := range x.rules {
		x.add(int32(i), r)
	}
	return x
}

func (x *index) add(i int32, r *rule) {
	ip, hasIP := isSingle(r.destination)
	port, hasPort := r.ports.single()
	switch {
	case hasIP && hasPort:
		at := netip.AddrPortFrom(ip, port)
		x.byBoth[at] = append(x.byBoth[at], i)
	case hasIP:
		x.byAddress[ip] = append(x.byAddress[ip], i)
	case hasPort:
		x.byPort[port] = append(x.byPort[port], i)
	default:
		x.others = append(x.others, i)
	}
	if hasPort {
		x.anyByPort[port] = append(x.anyByPort[port], i)
	} else {
		x.anyOthers = append(x.anyOthers, i)
	}
}

// candidates yields the rules that a flow may meet, in order.
func (x *index) candidates(to netip.Prefix, p ports) iter.Seq[*rule] {
	switch {
	case x.byBoth == nil || p.low != p.high:
		return slices.Values(x.rules)
	case to.IsSingleIP():
		ip := to.Addr()
		return x.merge(x.byBoth[netip.AddrPortFrom(ip, p.low)], x.byAddress[ip], x.byPort[p.low], x.others)
	}
	return x.merge(x.anyByPort[p.low], x.anyOthers)
}

// merge yields the rules of sorted places in order.
func (x *index) merge(lists ...[]int32) iter.Seq[*rule] {
	return func(yield func(*rule) bool) {
		for {
			first := -1
			for i, l := range lists {
				if len(l) > 0 && (first < 0 || l[0] < lists[first][0]) {
					first = i
				}
			}
			if first < 0 || !yield(x.rules[lists[first][0]]) {
				return
			}
			lists[first] = lists[first][1:]
		}
	}
}
