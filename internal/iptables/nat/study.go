package nat

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
)

// study is what becomes of the clients of a key whose ports are all alike.
type study struct {
	*key
	cases  []clientCase // by length of prefix; the first one is of all clients
	guards []string     // conditions of clients that must be refused
}

// clientCase is what becomes of clients of a prefix, but those of a longer one.
type clientCase struct {
	from netip.Prefix
	*outcome
}

// maxCases bounds the prefixes of clients that a key tells apart.
const maxCases = 4096

// study finds what becomes of the clients of a key. A key whose ports differ is cut.
func (p *planner) study(k *key) []*study {
	s := &studying{planner: p, study: &study{key: k}}
	if pieces := s.run(); len(pieces) > 1 {
		var all []*study
		for _, piece := range pieces {
			part := *k
			part.ports = piece
			all = append(all, p.study(&part)...)
		}
		return all
	}
	return []*study{s.study}
}

// studying is a study that is going on.
type studying struct {
	*planner
	*study
	base        flow
	onlyLocal   bool
	remote      map[netip.Prefix]*outcome
	local       map[netip.Prefix]*outcome
	order       []netip.Prefix
	isKnownEdge map[netip.Prefix]bool
	to          []addressEdge // of a listener on all addresses
	in          []interfaceEdge
	pieces      []ports
}

// run studies all clients. It returns the pieces of the ports if they differ.
func (s *studying) run() []ports {
	s.onlyLocal = !s.isAll() && s.key.to.Addr().IsLoopback()
	s.base = flow{protocol: s.protocol, to: s.key.to, ports: s.ports}
	s.remote, s.local = make(map[netip.Prefix]*outcome), make(map[netip.Prefix]*outcome)
	everyone := anyOf(s.key.to)
	s.order, s.isKnownEdge = []netip.Prefix{everyone}, map[netip.Prefix]bool{everyone: true}
	s.fill()
	s.chooseInterface()
	chosen := s.guards
	for n := 0; n < s.size() && s.pieces == nil; { // a look at guards may show more to tell apart
		n, s.guards = s.size(), slices.Clip(chosen)
		s.guardInterfaces()
		s.guardAddresses()
		s.fill()
	}
	if s.pieces == nil {
		s.cases = s.compose(everyone)
		if len(s.order) > maxCases {
			s.blame(s.study, "clients are told apart by too many prefixes at one address: name fewer by -s", true)
		}
	}
	return s.pieces
}

// size grows with what is to be told apart.
func (s *studying) size() int { return len(s.order) + len(s.in) + len(s.to) }

// fill finds what becomes of the clients of all prefixes that are known.
func (s *studying) fill() {
	for i := 0; i < min(len(s.order), maxCases) && s.pieces == nil; i++ {
		from := s.order[i]
		if !s.onlyLocal && s.remote[from] == nil {
			s.remote[from] = s.remotely(s.base, from)
		}
		if s.local[from] == nil {
			s.local[from] = s.locally(s.base, from)
		}
	}
}

// isServed reports whether any client of another machine is.
func (s *studying) isServed() bool {
	return slices.ContainsFunc(s.order, func(from netip.Prefix) bool { return s.remote[from] != nil && !s.remote[from].isNone() })
}

func anyOf(p netip.Prefix) netip.Prefix {
	if p.Addr().Is6() {
		return anyIPv6
	}
	return anyIPv4
}

// remotely returns what becomes of clients of other machines.
func (s *studying) remotely(f flow, from netip.Prefix) *outcome {
	f.from, f.chain = from, "PREROUTING"
	return s.note(s.planner.run(s.nat, forTarget, f))
}

// locally returns what becomes of clients of this machine: what OUTPUT says, or PREROUTING where it says nothing.
func (s *studying) locally(f flow, from netip.Prefix) *outcome {
	f.from, f.isLocal, f.in = from, true, loopback
	out := f
	out.chain, out.isOutput = "OUTPUT", true
	w := s.planner.run(s.nat, forTarget, out)
	o := s.note(w)
	if !o.isNone() || w.accepted > leastShare {
		return o
	}
	f.chain = "PREROUTING"
	return s.note(s.planner.run(s.nat, forTarget, f))
}

// note keeps the edges of a walk.
func (s *studying) note(w *walk) *outcome {
	o := w.outcome()
	for _, e := range w.edges.from {
		if !s.isKnownEdge[e] && (!s.onlyLocal || s.hasLocal(e)) {
			s.isKnownEdge[e] = true
			s.order = append(s.order, e)
		}
	}
	for _, e := range w.edges.to {
		if !slices.ContainsFunc(s.to, func(o addressEdge) bool { return o.Prefix == e.Prefix }) {
			s.to = append(s.to, e)
		}
	}
	for _, e := range w.edges.in {
		if !slices.ContainsFunc(s.in, func(o interfaceEdge) bool { return o.name == e.name }) {
			s.in = append(s.in, e)
		}
	}
	if s.pieces == nil && len(w.edges.ports) > 1 {
		s.pieces = w.edges.ports
	}
	return o
}

// chooseInterface takes the clients of the one interface that rules translate, if those of others are not.
func (s *studying) chooseInterface() {
	if s.onlyLocal || s.isServed() {
		return
	}
	before := s.remote
	for i := 0; i < len(s.in) && s.pieces == nil; i++ {
		if s.in[i].name == loopback {
			continue
		}
		s.base.in, s.remote = s.in[i].name, make(map[netip.Prefix]*outcome)
		s.fill()
		if !s.isServed() {
			continue
		}
		s.guards = append(s.guards, "! -i "+s.base.in)
		if i := slices.IndexFunc(s.order, func(from netip.Prefix) bool { return s.local[from] != nil && !s.local[from].isNone() }); i >= 0 {
			rules := s.local[s.order[i]].backends[0].rules
			s.rest(rules[len(rules)-1], "clients of this machine come in by lo, and another rule serves the interface "+s.base.in+" alone at this address", false)
		}
		return
	}
	s.base.in, s.remote = "", before
}

// guardInterfaces refuses the clients of interfaces that rules leave out.
func (s *studying) guardInterfaces() {
	chosen := s.base.in
	for _, e := range s.in {
		if e.name == chosen || e.name == loopback || s.onlyLocal {
			continue
		}
		f := s.base
		f.in = e.name
		others, refused := 0, 0
		for _, from := range s.order {
			o, expected := s.remotely(f, from), s.remote[from]
			switch {
			case o.isNone():
				refused++
			case chosen != "" || expected == nil || !o.isSame(expected):
				others++
			}
		}
		switch {
		case others > 0:
			s.rest(e.rule, "usher tells clients apart by address, not by interface: name the address of "+e.name+" by -d, or its clients by -s", chosen == "")
		case refused == len(s.order) && chosen == "" && s.isServed():
			s.guards = append(s.guards, "-i "+e.name)
		}
	}
}

// guardAddresses refuses the clients of addresses that rules leave out, at a listener on all addresses.
func (s *studying) guardAddresses() {
	for i := 0; i < min(len(s.to), maxCases) && s.isAll(); i++ {
		f := s.base
		f.to = s.to[i].Prefix
		served, differ := 0, 0
		compare := func(o, expected *outcome) {
			if !o.isNone() {
				served++
			}
			if expected != nil && !o.isSame(expected) {
				differ++
			}
		}
		for _, from := range s.order {
			if s.hasLocal(from) {
				compare(s.locally(f, from), s.local[from])
			}
			if s.isLocalPrefix(from) || f.to.Addr().IsLoopback() {
				continue
			}
			compare(s.remotely(f, from), s.remote[from])
			for _, e := range s.in {
				by := f
				if by.in = e.name; by.in == s.base.in || by.in == loopback {
					continue
				}
				expected := s.remote[from]
				if s.base.in != "" || slices.Contains(s.guards, "-i "+by.in) {
					expected = new(outcome)
				}
				compare(s.remotely(by, from), expected)
			}
		}
		switch {
		case differ > 0 && served == 0:
			s.guards = append(s.guards, "-d "+f.to.String())
		case differ > 0:
			s.rest(s.to[i].rule, "usher listens on all addresses here, and has another answer for "+f.to.String()+": name each address by -d", true)
		}
	}
}

// compose makes the cases of what was found.
func (s *studying) compose(everyone netip.Prefix) []clientCase {
	found := s.remote
	if s.onlyLocal {
		found = s.local
	}
	var all []clientCase
	for _, from := range s.order {
		if o := found[from]; o != nil {
			all = append(all, clientCase{from, o})
		}
	}
	if !s.onlyLocal && s.base.in == "" && s.differs() { // a guard of an interface refuses clients of this machine
		all = slices.DeleteFunc(all, func(c clientCase) bool { return s.isLocalPrefix(c.from) })
		for _, own := range s.planner.local {
			if own.Addr().Is4() == everyone.Addr().Is4() {
				all = append(all, clientCase{own, s.local[longest(s.order, own)]})
			}
		}
		for _, from := range s.order {
			if s.isLocalPrefix(from) && !slices.Contains(s.planner.local, from) && s.local[from] != nil {
				all = append(all, clientCase{from, s.local[from]})
			}
		}
	}
	return merged(all)
}

// differs reports whether clients of this machine are to be told from others.
func (s *studying) differs() bool {
	for _, from := range s.order {
		if s.local[from] != nil && s.remote[from] != nil && !s.local[from].isSame(s.remote[from]) {
			return true
		}
	}
	return false
}

// hasLocal reports whether some clients of a prefix may be of this machine.
func (s *studying) hasLocal(p netip.Prefix) bool {
	return slices.ContainsFunc(s.planner.local, p.Overlaps)
}

// isLocalPrefix reports whether all clients of a prefix are of this machine.
func (s *studying) isLocalPrefix(p netip.Prefix) bool {
	return slices.ContainsFunc(s.planner.local, func(own netip.Prefix) bool { return own.Bits() <= p.Bits() && own.Overlaps(p) })
}

// longest returns the longest prefix that has all of another one.
func longest(all []netip.Prefix, of netip.Prefix) (best netip.Prefix) {
	for _, p := range all {
		if p.Bits() <= of.Bits() && p.Overlaps(of) && (!best.IsValid() || p.Bits() > best.Bits()) {
			best = p
		}
	}
	return best
}

// merged leaves out the cases that are as those around them.
func merged(all []clientCase) (kept []clientCase) {
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i].from, all[j].from
		return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Addr().Compare(b.Addr())) < 0
	})
	around := make(map[netip.Prefix]*outcome, len(all))
	for _, c := range all {
		var outer *outcome
		for bits := c.from.Bits(); bits >= 0 && outer == nil; bits-- {
			p, _ := c.from.Addr().Prefix(bits)
			outer = around[p]
		}
		if outer != nil && outer.isSame(c.outcome) {
			continue
		}
		around[c.from] = c.outcome
		kept = append(kept, c)
	}
	return kept
}
