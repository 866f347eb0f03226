package control

import (
	"usher/internal/api"
	"usher/internal/iptables"
	"usher/proxy/rules"
)

// Rules returns the rules of all owners, with their counters. Without any there is the chain INPUT, which accepts all.
func (c *Controller) Rules() api.Rules {
	r := c.rules.Load()
	if r.set == nil {
		return api.Rules{Chains: []api.Chain{{Name: rules.Input, Policy: "ACCEPT", Rules: []api.Rule{}}}}
	}
	c.server.CountBytes()
	list := r.set.List()
	all := api.Rules{Chains: make([]api.Chain, len(list.Chains))}
	for i, chain := range list.Chains {
		policy, counters := r.set.Counters(i)
		view := api.Chain{Name: chain.Name, Owner: string(r.chains[chain.Name]), Rules: make([]api.Rule, len(chain.Rules))}
		if policy != nil {
			view.Policy = iptables.TargetName(&rules.Rule{Target: chain.Policy})
			view.Flows, view.Datagrams, view.Bytes = policy.Flows.Load(), policy.Datagrams.Load(), policy.Bytes.Load()
		}
		for j, rule := range chain.Rules {
			n := counters[j]
			view.Rules[j] = api.Rule{
				Rule: iptables.Format(chain.Name, rule), Target: iptables.TargetName(rule), Owner: string(r.owners[rule]),
				Flows: n.Flows.Load(), Datagrams: n.Datagrams.Load(), Bytes: n.Bytes.Load(),
			}
		}
		all.Chains[i] = view
	}
	return all
}
