package nat

import (
	"fmt"
	"net/netip"
	"slices"

	"usher/internal/config"
)

// marks finds the addresses whose flows get a mark in the table mangle.
func (p *planner) marks() {
	for _, k := range p.discover(p.mangle, forMark) {
		if !p.hasWork() {
			break
		}
		p.mark(k)
	}
}

// mark adds the listeners of a key to the marks that its flows get.
func (p *planner) mark(k key) {
	everyone := anyOf(k.to)
	var order = []netip.Prefix{everyone}
	found := make(map[uint32][]netip.Prefix)
	var marks []uint32
	var marker *rule
	of := make(map[netip.Prefix]uint32)
	for i := 0; i < min(len(order), maxCases); i++ {
		w := p.markOf(k, order[i])
		if len(w.edges.ports) > 1 {
			for _, piece := range w.edges.ports {
				part := k
				part.ports = piece
				p.mark(part)
			}
			return
		}
		for _, from := range w.edges.from {
			if !slices.Contains(order, from) {
				order = append(order, from)
			}
		}
		if of[order[i]] = w.mark; w.mark == 0 && marker != nil {
			p.rest(marker, fmt.Sprintf("clients of %s would have no mark, and the service has their address", order[i]), true)
		}
		if i == 0 {
			marker = w.marker
		}
	}
	slices.SortStableFunc(order, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for _, from := range order {
		mark := of[from]
		if found[mark] == nil {
			marks = append(marks, mark)
		}
		found[mark] = append(found[mark], from)
	}
	for _, mark := range marks {
		if mark == 0 {
			continue
		}
		if p.result.Marks == nil {
			p.result.Marks = make(map[uint32][]config.Addr)
		}
		var g group
		var from []netip.Prefix
		for _, f := range found[mark] {
			if f == everyone {
				f = netip.Prefix{}
			}
			from = append(from, f)
		}
		g.listen(&study{key: &k}, from)
		p.result.Marks[mark] = append(p.result.Marks[mark], g.listeners...)
	}
}

// markOf returns the mark of a flow: that of PREROUTING, or of OUTPUT where it gives none.
func (p *planner) markOf(k key, from netip.Prefix) *walk {
	f := flow{protocol: k.protocol, to: k.to, ports: k.ports, from: from, chain: "PREROUTING"}
	w := p.run(p.mangle, forMark, f)
	if w.mark != 0 || w.accepted > 0 || len(w.edges.ports) > 1 {
		return w
	}
	f.chain, f.isOutput, f.isLocal = "OUTPUT", true, true
	out := p.run(p.mangle, forMark, f)
	out.edges.from = append(out.edges.from, w.edges.from...)
	return out
}
