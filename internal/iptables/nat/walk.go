package nat

import (
	"net/netip"
	"slices"

	"usher/proxy/rules"
)

// flow is a group of flows whose walks are the same: a rule whose condition tells members apart is noted as an edge.
type flow struct {
	protocol protocols
	to       netip.Prefix // of one address, or all but those behind an edge
	ports    ports
	from     netip.Prefix // of clients, but those behind an edge
	isLocal  bool         // clients of this machine
	in       string       // the interface; empty: one that no edge names
	chain    string       // where the walk begins
	isOutput bool
}

// loopback is the interface of clients of this machine.
const loopback = "lo"

// edges are what tells the members of a flow apart.
type edges struct {
	ports []ports // pieces of the flow's ports
	from  []netip.Prefix
	to    []addressEdge
	in    []interfaceEdge
}

// addressEdge are addresses that a rule names.
type addressEdge struct {
	netip.Prefix
	rule *rule
}

// interfaceEdge is an interface that a rule names.
type interfaceEdge struct {
	name string
	rule *rule
}

// leaf is a backend that a walk leads to.
type leaf struct {
	to     destination
	share  float64
	rules  []*rule // on the way; the last one translates
	checks []*rule // of affinity, that lead to it
	note   *rules.Recent
}

// walk follows a flow through the chains of a graph. Where chance decides, it goes all ways, each with its share.
type walk struct {
	*planner
	flow
	purpose  purpose
	edges    edges
	leaves   []leaf
	byTarget map[destination]int
	accepted float64
	stays    float64 // of what no rule says anything
	way      []*rule
	notes    []*rules.Recent // --set on the way
	check    *rule           // whose affinity the walk follows
	isTurn   bool            // some share is each n-th flow
	whole    ports           // the range of ports that conditions name
	mark     uint32
	marker   *rule // that gave the mark
	source   netip.Addr
}

// run walks a flow through a graph.
func (p *planner) run(g *graph, purpose purpose, f flow) *walk {
	w := &walk{planner: p, flow: f, purpose: purpose, byTarget: make(map[destination]int), whole: allPorts}
	if c := g.chains[f.chain]; c != nil && c.decides[purpose] {
		w.stays = w.follow(c, 1, 0)
		return w
	}
	w.stays = 1
	return w
}

// leastShare is what rounding leaves of a share that is none.
const leastShare = 1e-7

// follow walks a chain with a share of the flow, and returns the share that comes back.
func (w *walk) follow(c *chain, share float64, depth int) (back float64) {
	whole := w.whole
	defer func() { w.whole = whole }()
	for r := range c.of(w.purpose).candidates(w.to, w.ports) {
		if !w.hasWork() {
			w.rest(r, tooMuch, false)
			return back + share
		}
		w.whole = whole
		if !w.meets(r) {
			continue
		}
		if r.check != nil && w.purpose == forTarget {
			w.followCheck(r, depth)
			continue
		}
		taken := share * r.share
		w.isTurn = w.isTurn || r.isTurn
		share -= taken
		switch r.kind {
		case turnBack:
			back += taken
		case jumpAway:
			back += w.enter(r, taken, depth)
		case jump:
			share += w.enter(r, taken, depth)
		default:
			share += w.end(r, taken)
		}
		if share < leastShare {
			break
		}
	}
	return back + max(share, 0)
}

// enter follows the chain that a rule jumps to.
func (w *walk) enter(r *rule, share float64, depth int) (back float64) {
	if depth == maxDepth {
		w.rest(r, tooDeep, false)
		return share
	}
	w.way = append(w.way, r)
	if r.set != nil {
		w.notes = append(w.notes, r.set)
		defer func() { w.notes = w.notes[:len(w.notes)-1] }()
	}
	back = w.follow(r.target, share, depth+1)
	w.way = w.way[:len(w.way)-1]
	return back
}

// followCheck notes where a rule sends clients back to that were there before.
func (w *walk) followCheck(r *rule, depth int) {
	if w.check != nil {
		return
	}
	w.check = r
	if r.target != nil {
		w.enter(r, 1, depth)
	} else {
		w.end(r, 1)
	}
	w.check = nil
}

// end does what the target of a rule says, and returns the share for which it says nothing.
func (w *walk) end(r *rule, share float64) float64 {
	switch r.kind {
	case accept:
		if w.check == nil {
			w.accepted += share
		}
		return 0
	case translate, redirect:
		if w.purpose == forTarget {
			return w.translate(r, share)
		}
	case setSource:
		if w.purpose == forSource {
			w.setSource(r)
			return 0
		}
	case masquerade:
		if w.purpose == forSource {
			w.source = netip.Addr{}
			return 0
		}
	case setMark:
		w.mark, w.marker = w.mark&^r.mark.Mask^r.mark.Value, r
	}
	if r.other != "" && w.purpose == forTarget {
		w.rest(r, r.other, false)
	}
	return share
}

// meets reports whether a flow meets the conditions of a rule. Chance and affinity are not among them.
func (w *walk) meets(r *rule) bool {
	if r.isNever || r.protocols&w.protocol == 0 || !r.isLocalSource.meets(w.isLocal) {
		return false
	}
	whole, hasAny, hasAll := r.ports.around(w.ports)
	if !hasAny {
		return false
	}
	if !w.meetsAddresses(r) || !w.meetsInterfaces(r) {
		return false
	}
	if !hasAll {
		w.edges.ports = r.ports.cut(w.ports)
		return false
	}
	w.whole = ports{max(w.whole.low, whole.low), min(w.whole.high, whole.high)}
	return w.isKnown(r)
}

// isKnown reports whether usher can tell that a flow meets a rule, and notes one of which it cannot.
func (w *walk) isKnown(r *rule) bool {
	reason := r.unknown
	switch {
	case reason != "":
	case w.purpose != forTarget && (r.share != 1 || r.check != nil):
		reason = "chance and earlier connections decide on backends alone"
	case w.purpose != forTarget && r.in.Name != "" && !w.isOutput:
		reason = "usher does not know the interface here: name addresses by -d or -s"
	}
	// A way back, or around a source, is no loss where no rule gives a source.
	if reason != "" && (w.purpose != forSource || r.decides(toSource)) {
		w.rest(r, reason, false)
	}
	return reason == ""
}

// meetsAddresses reports whether a flow meets the conditions on addresses. If some members do, there is an edge.
func (w *walk) meetsAddresses(r *rule) bool {
	isIn, isEdge := within(r.destination, w.to)
	if isEdge && !slices.ContainsFunc(w.edges.to, func(e addressEdge) bool { return e.Prefix == r.destination.Prefix }) {
		w.edges.to = append(w.edges.to, addressEdge{r.destination.Prefix, r})
	}
	if !isIn {
		return false
	}
	isIn, isEdge = within(r.source, w.from)
	if isEdge && !slices.Contains(w.edges.from, r.source.Prefix) {
		w.edges.from = append(w.edges.from, r.source.Prefix)
	}
	return isIn
}

// within reports whether addresses meet a condition, but those of an edge.
func within(c rules.Prefix, of netip.Prefix) (isIn, isEdge bool) {
	if !c.IsValid() {
		return true, false
	}
	if c.Addr().Is4() == of.Addr().Is4() && c.Overlaps(of) {
		isIn = c.Bits() <= of.Bits()
		isEdge = !isIn
	}
	return isIn != c.Not, isEdge
}

// meetsInterfaces reports whether a flow meets the conditions on interfaces.
func (w *walk) meetsInterfaces(r *rule) bool {
	switch {
	case w.purpose == forSource:
		if r.out.Name != "" && r.unknown == "" && r.decides(toSource) {
			w.rest(r, "usher does not choose the interface of a connection: name the backends by -d", false)
		}
		return r.out.Name == "" && r.in.Name == ""
	case w.isOutput:
		return takes(r.in, "") && takes(r.out, loopback)
	case r.out.Name != "":
		return takes(r.out, "")
	case w.purpose == forMark && r.in.Name != "":
		return true // isKnown says why it is not
	}
	name := r.in.Name
	if w.in == "" && name != "" && !slices.ContainsFunc(w.edges.in, func(e interfaceEdge) bool { return e.name == name }) {
		w.edges.in = append(w.edges.in, interfaceEdge{name, r})
	}
	return takes(r.in, w.in)
}

// setSource notes the address that a rule gives connections to backends.
func (w *walk) setSource(r *rule) {
	switch n := r.nat; {
	case !n.First.IsValid() || n.First != n.Last && n.Last.IsValid():
		w.rest(r, "usher takes one address as the source of its connections: give --to-source ADDRESS", false)
	case n.HasPorts:
		w.rest(r, "the kernel chooses the ports of usher's connections: give --to-source ADDRESS alone", false)
	default:
		w.source = n.First
	}
}
