package nat

import (
	"cmp"
	"net/netip"
	"sort"

	"usher/internal/iptables"
)

// maxWork and maxLooks bound the rules that are looked at for one Result: any tables may need the first, and large ones so
// many looks at each rule. The tables of kube-proxy need about ten.
const (
	maxWork  = 1_000_000
	maxLooks = 50
)

// planner makes one Result.
type planner struct {
	env    *Env
	local  []netip.Prefix // where clients of this machine come from
	nat    *graph
	mangle *graph
	// hasSources reports whether some rule chooses the source of connections.
	hasSources bool
	work, most int           // looks at rules so far, and at most
	rests      map[*rule]int // places in the list
	list       []rest
	result     *Result
}

// rest is a rule of a graph that is not done.
type rest struct {
	rule *rule
	Rest
}

// Plan returns what the tables come to. Its cost is linear in the rules for tables as programs write them, and bounded by
// maxWork and maxLooks for all others.
func Plan(tables *iptables.Tables, env *Env) *Result { return newPlanner(tables, env).plan() }

func newPlanner(tables *iptables.Tables, env *Env) *planner {
	p := &planner{env: env, rests: make(map[*rule]int), result: &Result{}}
	p.local = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), netip.PrefixFrom(netip.IPv6Loopback(), 128)}
	for _, ip := range env.Local {
		if !ip.IsLoopback() {
			p.local = append(p.local, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	p.nat, p.mangle = compile(tables.Table("nat"), "nat"), compile(tables.Table("mangle"), "mangle")
	p.hasSources = p.choosesSource()
	p.most = maxWork + maxLooks*(p.nat.size()+p.mangle.size())
	return p
}

func (p *planner) plan() *Result {
	p.services()
	p.marks()
	p.result.Rest = p.sortedRest()
	return p.result
}

// hasWork counts one look at a rule, and reports whether there may be more.
func (p *planner) hasWork() bool {
	p.work++
	return p.work <= p.most
}

// rest notes a rule that is not done. The first reason stays, unless a later one is graver.
func (p *planner) rest(r *rule, reason string, isServed bool) {
	i, isThere := p.rests[r]
	if !isThere {
		i = len(p.list)
		p.rests[r] = i
		p.list = append(p.list, rest{rule: r})
	}
	if at := &p.list[i]; !isThere || at.IsServed && !isServed {
		at.Rest = Rest{Chain: r.chain.name, Rule: r.iptables, Reason: reason, IsServed: isServed}
	}
}

// sortedRest returns what is not done in the order of the tables.
func (p *planner) sortedRest() []Rest {
	places := make(map[*chain]int)
	names := make(map[*chain]string)
	for _, g := range []*graph{p.mangle, p.nat} {
		for _, c := range g.order {
			places[c], names[c] = len(places), g.table
		}
	}
	sort.Slice(p.list, func(i, j int) bool {
		a, b := p.list[i].rule, p.list[j].rule
		return cmp.Or(cmp.Compare(places[a.chain], places[b.chain]), cmp.Compare(a.place, b.place)) < 0
	})
	var all []Rest
	for _, r := range p.list {
		r.Rest.Table = names[r.rule.chain]
		all = append(all, r.Rest)
	}
	return all
}
