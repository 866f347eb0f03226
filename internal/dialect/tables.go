package dialect

import (
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"

	"usher/internal/config"
	"usher/internal/iptables"
	"usher/internal/iptables/nat"
	"usher/proxy/rules"
)

// Tables and chains that a proxy has a meaning for.
const (
	filterTable = "filter"
	natTable    = "nat"
	mangleTable = "mangle"
)

// tablePlan is what tables of iptables come to. It does not change once readers have it.
type tablePlan struct {
	tables  *iptables.Tables
	nat     *nat.Result
	chains  []*iptables.Chain // of the table filter, that flows can come to: INPUT first
	guards  []string          // rules that stand before those of INPUT
	rules   *config.Rules     // nil: none
	refused map[string]bool   // services and listeners that cannot be had
}

// planTables returns what tables come to. What does not change is that of before.
func planTables(t *iptables.Tables, before *tablePlan) (*tablePlan, error) {
	p := &tablePlan{tables: t, nat: before.nat, refused: before.refused}
	if t.Table(natTable) != before.tables.Table(natTable) || t.Table(mangleTable) != before.tables.Table(mangleTable) {
		p.nat = nat.Plan(t, &nat.Env{Local: localAddrs()})
		keepServices(p.nat.Services, before.nat.Services)
	}
	return p, p.planDoor(before)
}

// keepServices makes services that are equal to those of before the same ones.
func keepServices(services, before []*config.Service) {
	byName := make(map[string]*config.Service, len(before))
	for _, s := range before {
		byName[s.Name] = s
	}
	for i, s := range services {
		if old := byName[s.Name]; old != nil && reflect.DeepEqual(old, s) {
			services[i] = old
		}
	}
}

// planDoor makes the rules of the front door: those of the table filter that flows come to.
func (p *tablePlan) planDoor(before *tablePlan) (err error) {
	for _, g := range p.nat.Guards {
		if slices.ContainsFunc(g.Services, func(name string) bool { return !p.refused[name] }) {
			p.guards = append(p.guards, g.Line)
		}
	}
	filter := p.tables.Table(filterTable)
	if filter == before.tables.Table(filterTable) && slices.Equal(p.guards, before.guards) {
		p.chains, p.rules = before.chains, before.rules
		return nil
	}
	p.chains = reachable(filter)
	var lines []string
	for _, c := range p.chains[1:] {
		lines = append(lines, "-N "+c.Name)
	}
	lines = append(lines, p.guards...)
	for _, c := range p.chains {
		for _, r := range c.Rules {
			front, err := r.Front()
			if err != nil {
				return err
			}
			lines = append(lines, iptables.Format(c.Name, front))
		}
	}
	policy := p.chains[0].Policy
	if policy == "ACCEPT" {
		policy = "" // it leaves it to other owners
	}
	p.rules, err = config.ParseRules(policy, lines)
	return err
}

// reachable returns the chains of the table filter that new flows can come to, INPUT first.
func reachable(filter *iptables.Table) []*iptables.Chain {
	chains := []*iptables.Chain{filter.Chain(rules.Input)}
	has := map[string]bool{rules.Input: true}
	for i := 0; i < len(chains); i++ {
		for _, r := range chains[i].Rules {
			if r.IsJump && !has[r.Target] {
				has[r.Target] = true
				chains = append(chains, filter.Chain(r.Target))
			}
		}
	}
	return chains
}

// localAddrs returns the addresses of this machine.
func localAddrs() (all []netip.Addr) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range interfaces {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, prefix.Addr().Unmap())
		}
	}
	return all
}

// newRest returns what a plan does not do and another one did not have.
func (p *tablePlan) newRest(before *tablePlan) []nat.Rest {
	known := make(map[*iptables.Rule]bool, len(before.nat.Rest))
	for _, r := range before.nat.Rest {
		known[r.Rule.Origin()] = true
	}
	return slices.DeleteFunc(slices.Clone(p.nat.Rest), func(r nat.Rest) bool { return known[r.Rule.Origin()] })
}

// marksDiffer reports whether firewall marks stand for other listeners.
func (p *tablePlan) marksDiffer(before *tablePlan) bool {
	return !maps.EqualFunc(p.nat.Marks, before.nat.Marks, func(a, b []config.Addr) bool { return slices.Equal(a, b) })
}
