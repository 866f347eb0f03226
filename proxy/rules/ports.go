package rules

import (
	"slices"
	"sort"
)

// portSet is a set of ports: ranges in order that neither meet nor touch.
type portSet []PortRange

// allPorts returns the set of all ports.
func allPorts() portSet { return portSet{{0, 65535}} }

// portSetOf returns the ports that are in a range, or those in none.
func portSetOf(ranges []PortRange, not bool) portSet {
	sorted := slices.Clone(ranges)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].First < sorted[j].First })
	var set portSet
	for _, r := range sorted {
		switch last := len(set) - 1; {
		case r.First > r.Last:
		case last >= 0 && int(r.First) <= int(set[last].Last)+1:
			set[last].Last = max(set[last].Last, r.Last)
		default:
			set = append(set, r)
		}
	}
	if not {
		return set.complement()
	}
	return set
}

func (s portSet) size() (n int) {
	for _, r := range s {
		n += int(r.Last) - int(r.First) + 1
	}
	return n
}

func (s portSet) isAll() bool { return len(s) == 1 && s[0] == PortRange{0, 65535} }

func (s portSet) complement() portSet {
	var gaps portSet
	next := 0
	for _, r := range s {
		if int(r.First) > next {
			gaps = append(gaps, PortRange{uint16(next), r.First - 1})
		}
		next = int(r.Last) + 1
	}
	if next <= 65535 {
		gaps = append(gaps, PortRange{uint16(next), 65535})
	}
	return gaps
}

func (s portSet) intersect(o portSet) portSet {
	var both portSet
	for len(s) > 0 && len(o) > 0 {
		first, last := max(s[0].First, o[0].First), min(s[0].Last, o[0].Last)
		if first <= last {
			both = append(both, PortRange{first, last})
		}
		if s[0].Last < o[0].Last {
			s = s[1:]
		} else {
			o = o[1:]
		}
	}
	return both
}

func (s portSet) has(port uint16) bool {
	for _, r := range s {
		if port <= r.Last {
			return port >= r.First
		}
	}
	return false
}
