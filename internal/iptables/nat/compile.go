package nat

import (
	"net/netip"
	"slices"

	"usher/internal/iptables"
	"usher/proxy/rules"
)

// kind is what a rule does with a flow that it matches.
type kind uint8

const (
	nothing kind = iota // the flow goes on to the next rule
	jump
	jumpAway // -g
	turnBack // RETURN
	accept   // the flow stays as it is
	translate
	redirect
	setSource
	masquerade
	setMark
)

// purpose is what a walk wants to know: where flows go, from which address they come, or which mark they have.
type purpose uint8

const (
	forTarget purpose = iota
	forSource
	forMark
	toSource // a part of forSource
	purposes
)

// matters are the kinds of rules that decide something for a purpose.
var matters = [purposes][]kind{
	forTarget: {translate, redirect, accept},
	forSource: {setSource, masquerade, accept},
	forMark:   {setMark, accept},
	toSource:  {setSource},
}

// chain is a chain of a graph.
type chain struct {
	name  string
	rules []*rule
	// decides has the purposes for which some rule of the chain, or behind it, matters.
	decides    [purposes]bool
	isMeasured bool
	index      [purposes]*index
}

// rule is a rule with its conditions in the form in which a walk looks at them.
type rule struct {
	iptables *iptables.Rule
	chain    *chain
	place    int // in the chain
	conditions
	kind   kind
	target *chain // of a jump
	nat    *iptables.NAT
	mark   *iptables.Mark
	other  string // reason why the target is not supported; empty: it is, or it has no effect
}

// graph is the chains of a table.
type graph struct {
	table  string
	chains map[string]*chain
	order  []*chain
}

// maxDepth bounds how deep chains jump into each other. The kernel's own bound is 16 or 64.
const maxDepth = 64

// compile returns the graph of a table; nil has no chains.
func compile(table *iptables.Table, name string) *graph {
	g := &graph{table: name, chains: make(map[string]*chain)}
	if table == nil {
		return g
	}
	all := table.Chains()
	for _, c := range all {
		own := &chain{name: c.Name}
		g.chains[c.Name] = own
		g.order = append(g.order, own)
	}
	for i, c := range all {
		own := g.order[i]
		own.rules = make([]*rule, len(c.Rules))
		for n, r := range c.Rules {
			own.rules[n] = g.compileRule(own, n, r)
		}
	}
	for _, c := range g.order {
		c.measure()
	}
	return g
}

// size returns how many rules there are.
func (g *graph) size() (n int) {
	for _, c := range g.order {
		n += len(c.rules)
	}
	return n
}

func (g *graph) compileRule(c *chain, place int, r *iptables.Rule) *rule {
	own := &rule{iptables: r, chain: c, place: place, conditions: compileConditions(r)}
	if r.IsJump {
		own.kind, own.target = jump, g.chains[r.Target]
		if r.IsGoto {
			own.kind = jumpAway
		}
		if own.target == nil {
			own.kind = nothing
		}
		return own
	}
	own.setTarget(r)
	return own
}

func (own *rule) setTarget(r *iptables.Rule) {
	own.nat, _ = r.Options.(*iptables.NAT)
	own.mark, _ = r.Options.(*iptables.Mark)
	switch r.Target {
	case "RETURN":
		own.kind = turnBack
	case "ACCEPT", "DROP", "REJECT":
		own.kind = accept
	case "DNAT":
		own.kind = translate
	case "REDIRECT":
		own.kind = redirect
	case "SNAT":
		own.kind = setSource
	case "MASQUERADE":
		own.kind = masquerade
	case "MARK":
		own.kind = setMark
	case "", "LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "CONNMARK", "CONNSECMARK", "SECMARK":
	default:
		own.other = "usher has no target " + r.Target
	}
	if own.kind >= translate && own.kind <= setSource && own.nat == nil || own.kind == setMark && own.mark == nil {
		own.kind, own.other = nothing, "the options of "+r.Target+" are not known here"
	}
}

// measure finds the purposes for which a chain matters. The cost is linear in the rules of all chains.
func (c *chain) measure() {
	if c.isMeasured {
		return
	}
	c.isMeasured = true
	for _, r := range c.rules {
		if r.target != nil {
			r.target.measure()
		}
		for p := range purposes {
			c.decides[p] = c.decides[p] || r.decides(p)
		}
	}
}

// decides reports whether a rule, or a later one, gives a flow its verdict.
func (r *rule) decides(p purpose) bool {
	switch {
	case r.target != nil:
		return r.target.decides[p]
	case r.other != "":
		return p == forTarget
	}
	return slices.Contains(matters[p], r.kind)
}

// isActive reports whether a rule can change what a walk finds.
func (r *rule) isActive(p purpose) bool {
	return r.kind == jumpAway || r.kind == turnBack || r.decides(p)
}

// isSingle returns the address of a condition that only one meets.
func isSingle(p rules.Prefix) (netip.Addr, bool) {
	if p.IsValid() && !p.Not && p.IsSingleIP() {
		return p.Addr(), true
	}
	return netip.Addr{}, false
}
