package nat

import (
	"cmp"
	"slices"
	"sort"

	"usher/proxy/rules"
)

// ports is a range of ports, both ends within it.
type ports struct{ low, high uint16 }

var allPorts = ports{0, 1<<16 - 1}

func (p ports) count() int { return int(p.high) - int(p.low) + 1 }

// within reports whether q has all of p.
func (p ports) within(q ports) bool { return q.low <= p.low && p.high <= q.high }

// portSet is a set of ports: sorted ranges that do not touch. nil is all ports.
type portSet []ports

// newPortSet returns the ports of ranges, or the others.
func newPortSet(ranges []ports, not bool) portSet {
	ranges = slices.Clone(ranges)
	sort.Slice(ranges, func(i, j int) bool { return ranges[i].low < ranges[j].low })
	set := portSet{}
	for _, r := range ranges {
		if n := len(set); n > 0 && int(r.low) <= int(set[n-1].high)+1 {
			set[n-1].high = max(set[n-1].high, r.high)
			continue
		}
		set = append(set, r)
	}
	if !not {
		return set
	}
	rest, next := portSet{}, 0
	for _, r := range set {
		if int(r.low) > next {
			rest = append(rest, ports{uint16(next), r.low - 1})
		}
		next = int(r.high) + 1
	}
	if next <= int(allPorts.high) {
		rest = append(rest, ports{uint16(next), allPorts.high})
	}
	return rest
}

// and returns the ports of both sets.
func (s portSet) and(other portSet) portSet {
	switch {
	case s == nil:
		return other
	case other == nil:
		return s
	}
	both := portSet{}
	for i, j := 0, 0; i < len(s) && j < len(other); {
		low, high := max(s[i].low, other[j].low), min(s[i].high, other[j].high)
		if low <= high {
			both = append(both, ports{low, high})
		}
		if s[i].high < other[j].high {
			i++
		} else {
			j++
		}
	}
	return both
}

// single returns the port of a set that has only one.
func (s portSet) single() (uint16, bool) {
	if len(s) == 1 && s[0].low == s[0].high {
		return s[0].low, true
	}
	return 0, false
}

// around returns the range of the set that has all ports of p, and whether there is any port of p in the set.
func (s portSet) around(p ports) (whole ports, hasAny, hasAll bool) {
	if s == nil {
		return allPorts, true, true
	}
	i, _ := slices.BinarySearchFunc(s, p.low, func(r ports, low uint16) int { return cmp.Compare(r.high, low) })
	if i == len(s) || s[i].low > p.high {
		return ports{}, false, false
	}
	return s[i], true, p.within(s[i])
}

// cut splits p at the ends of the ranges of the set.
func (s portSet) cut(p ports) (pieces []ports) {
	for _, r := range s {
		if r.high < p.low || r.low > p.high {
			continue
		}
		if r.low > p.low {
			pieces = append(pieces, ports{p.low, r.low - 1})
		}
		end := min(r.high, p.high)
		pieces = append(pieces, ports{max(r.low, p.low), end})
		if end == p.high {
			return pieces
		}
		p.low = end + 1
	}
	return append(pieces, p)
}

func portsOf(ranges ...rules.PortRange) []ports {
	all := make([]ports, len(ranges))
	for i, r := range ranges {
		all[i] = ports{r.First, r.Last}
	}
	return all
}
