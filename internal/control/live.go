package control

import (
	"maps"
	"slices"

	"usher/internal/config"
	"usher/internal/reconcile"
	"usher/proxy"
	"usher/proxy/rules"
)

// Live is a service that runs, with what has its counters.
type Live struct {
	Owner    Owner
	Config   *config.Service // with the addresses and ports that its listeners have
	Running  *proxy.Service
	Backends []reconcile.BackendState
}

// Live returns all services, in the order of their owners. Nobody writes to what they have.
func (c *Controller) Live() []Live {
	c.server.CountBytes()
	running := *c.running.Load()
	all := make([]Live, len(running))
	for i, s := range running {
		all[i] = Live{Owner: s.owner, Config: s.config, Running: s.running, Backends: s.keeper.Backends()}
	}
	return all
}

// OwnedBy is the error of a change to a service of another owner.
func (c *Controller) OwnedBy(service string, owner Owner) *OwnerError {
	return &OwnerError{Service: service, Owner: owner, file: c.file}
}

// RuleCount is what a rule or a policy has counted: flows with datagrams that found no flow, and bytes.
type RuleCount struct{ Packets, Bytes uint64 }

// RuleCounts returns what the rules of an owner have counted, in the order of their chains, and what the policy has.
func (c *Controller) RuleCounts(owner Owner) (byChain map[string][]RuleCount, policy RuleCount) {
	r := c.rules.Load()
	byChain = make(map[string][]RuleCount)
	if r.set == nil {
		return byChain, policy
	}
	c.server.CountBytes()
	for i, chain := range r.set.List().Chains {
		ofPolicy, counters := r.set.Counters(i)
		if ofPolicy != nil {
			policy = countOf(ofPolicy)
		}
		for j, rule := range chain.Rules {
			if r.owners[rule] == owner {
				byChain[chain.Name] = append(byChain[chain.Name], countOf(counters[j]))
			}
		}
	}
	return byChain, policy
}

func countOf(c *rules.Counter) RuleCount {
	return RuleCount{Packets: c.Flows.Load() + c.Datagrams.Load(), Bytes: c.Bytes.Load()}
}

// RuleOwners returns the owners that have rules or a policy, in their order.
func (c *Controller) RuleOwners() []Owner {
	parts := c.rules.Load().parts
	owners := slices.SortedFunc(maps.Keys(parts), Owner.compare)
	return slices.DeleteFunc(owners, func(o Owner) bool { return parts[o] == nil })
}
