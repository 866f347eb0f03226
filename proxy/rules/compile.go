package rules

import (
	"slices"
	"sync/atomic"

	"usher/proxy/limit"
)

// Compile makes a set out of a list, which must not change from then on. Rules that the set
// before has in the same chain keep their counters and their states. Errors are of type
// *ChainError.
func Compile(list *List, before *Set, o Options) (*Set, error) {
	byName, err := checkChains(list)
	if err != nil {
		return nil, err
	}
	order, err := checkJumps(list, byName)
	if err != nil {
		return nil, err
	}
	c := compiler{
		set: &Set{
			list: list, log: o.Log, chains: make([]*chain, len(list.Chains)),
			hashlimits: map[string]*hashlimit{}, recents: map[string]*recentList{},
		},
		options: o, before: newInheritance(before, o.State),
	}
	c.nameTables()
	for i, from := range list.Chains {
		c.set.chains[i] = &chain{name: from.Name, policy: c.policy(from)}
	}
	for i, from := range list.Chains {
		for n, r := range from.Rules {
			compiled := c.rule(from.Name, r, c.options.Seed+uint64(i)<<40+uint64(n)<<8)
			if r.Target == Jump {
				compiled.jump = c.set.chains[byName[r.Chain]]
			}
			c.set.chains[i].rules = append(c.set.chains[i].rules, compiled)
		}
	}
	c.set.program = link(c.set.chains, order)
	return c.set, nil
}

type compiler struct {
	set     *Set
	options Options
	before  *inheritance
}

// hashlimit is what the rules with a -m hashlimit of one name share. The first one of them
// says how it works, as in the kernel.
type hashlimit struct {
	*Hashlimit
	key     string
	buckets *limit.Buckets
}

// mostHashlimit bounds the buckets of a hashlimit.
const mostHashlimit = 1 << 20

// nameTables makes what rules share by name.
func (c *compiler) nameTables() {
	stamps := map[string]int{}
	var recents []*Recent
	for _, from := range c.set.list.Chains {
		for _, r := range from.Rules {
			for _, m := range r.Matches {
				switch m := m.(type) {
				case *Hashlimit:
					if c.set.hashlimits[m.Name] == nil {
						c.set.hashlimits[m.Name] = c.hashlimit(m)
					}
				case *Recent:
					if _, exists := stamps[m.Name]; !exists {
						recents = append(recents, m)
					}
					stamps[m.Name] = max(stamps[m.Name], m.HitCount)
				}
			}
		}
	}
	for _, m := range recents {
		c.set.recents[m.Name] = c.before.recentList(m.Name, newRecentList(m.Mask, stamps[m.Name]))
	}
}

func (c *compiler) hashlimit(m *Hashlimit) *hashlimit {
	most := m.TableMax
	if most <= 0 {
		most = 8 * max(m.TableSize, 0)
	}
	if most == 0 {
		most = DefaultConnections
	}
	h := &hashlimit{Hashlimit: m, key: hashlimitKey(m)}
	h.buckets = limit.NewExpiringBuckets(c.options.Seed, min(most, mostHashlimit), m.Expire)
	c.before.hashlimit(h)
	return h
}

// policy returns the counter of a built-in chain's policy.
func (c *compiler) policy(from *Chain) *Counter {
	if from.Policy == Continue {
		return nil
	}
	return c.before.policy(from.Name)
}

// rule makes a rule, with the state of an equal one from before.
func (c *compiler) rule(chain string, r *Rule, seed uint64) *rule {
	compiled := &rule{Rule: r, key: string(appendKey(nil, r))}
	if r.Interface.Name != "" {
		c.set.needsInterface = true
	}
	for i, m := range r.Matches {
		if m := c.matcher(m, seed+uint64(i)); m != nil {
			compiled.matches = append(compiled.matches, m)
		}
	}
	c.before.rule(chain, compiled)
	return compiled
}

// matcher makes a match with a state of its own, or nil if it is always met.
func (c *compiler) matcher(m Match, seed uint64) matcher {
	switch m := m.(type) {
	case *Ports:
		return &portsMatcher{m.Protocol, portRange(m.Source, m.NotSource), portRange(m.Destination, m.NotDestination)}
	case *Multiport:
		return multiport(m)
	case *Conntrack:
		if slices.Contains(m.States, "NEW") == m.Not {
			return never{}
		}
	case *Limit:
		return &limitMatcher{m.Rate, new(limit.Bucket)}
	case *Hashlimit:
		shared := c.set.hashlimits[m.Name]
		return &hashlimitMatcher{shared.Hashlimit, m.Above, shared.buckets}
	case *Connlimit:
		most := c.options.Connections
		if most <= 0 {
			most = DefaultConnections
		}
		return &connlimitMatcher{m, limit.NewCounts(c.options.Seed, most)}
	case *Recent:
		return &recentMatcher{m, c.set.recents[m.Name]}
	case *Statistic:
		return &statisticMatcher{m, seed, new(atomic.Uint64)}
	}
	return nil
}

func portRange(r *PortRange, not bool) portSet {
	if r == nil {
		return allPorts()
	}
	return portSetOf([]PortRange{*r}, not)
}

func multiport(m *Multiport) matcher {
	set := portSetOf(m.Ranges, m.Not)
	switch {
	case m.Side == SourcePort:
		return &portsMatcher{All, set, allPorts()}
	case m.Side == DestinationPort:
		return &portsMatcher{All, allPorts(), set}
	case m.Not:
		return &portsMatcher{All, set, set}
	}
	return &eitherPortMatcher{set}
}
