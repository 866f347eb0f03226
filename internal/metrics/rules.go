package metrics

import (
	"usher/proxy/rules"
)

// What rules show. The place of a rule in its chain changes with the others, and its text is long: a comment is the name
// that an operator gives. So rules with -m comment have series of their own, those with the same comment together.
var (
	rulesNumber = gauge("usher_rules", "Rules that judge new flows, of all chains.")

	ruleFlows     = counter("usher_rule_flows_total", "TCP connections that matched the rules with a comment.", "chain", "comment")
	ruleDatagrams = counter("usher_rule_datagrams_total", "Datagrams without a flow that matched the rules with a comment.", "chain", "comment")
	ruleBytes     = counter("usher_rule_bytes_total", "Bytes of these datagrams, and of flows that the rules decided, both ways.", "chain", "comment")

	policyFlows     = counter("usher_policy_flows_total", "TCP connections that no rule decided.")
	policyDatagrams = counter("usher_policy_datagrams_total", "Datagrams without a flow that no rule decided.")
	policyBytes     = counter("usher_policy_bytes_total", "Bytes of these datagrams, and of flows that no rule decided, both ways.")
)

// maxComments bounds the comments that have series. Later ones in the order of the rules have none.
const maxComments = 1000

// commented names rules with the same comment.
type commented struct{ chain, comment string }

// ruleSum is what rules have counted together.
type ruleSum struct{ flows, datagrams, bytes uint64 }

// collectRules sends what the rules have counted; set may be nil.
func collectRules(to series, set *rules.Set) {
	if set == nil {
		to.count(rulesNumber, 0)
		return
	}
	number := 0
	sums := make(map[commented]*ruleSum)
	for i, chain := range set.List().Chains {
		policy, counters := set.Counters(i)
		if policy != nil {
			to.count(policyFlows, policy.Flows.Load())
			to.count(policyDatagrams, policy.Datagrams.Load())
			to.count(policyBytes, policy.Bytes.Load())
		}
		number += len(chain.Rules)
		for j, r := range chain.Rules {
			if comment := commentOf(r); comment != "" {
				addRule(sums, commented{chain.Name, comment}, counters[j])
			}
		}
	}
	to.count(rulesNumber, uint64(number))
	for of, sum := range sums {
		to.count(ruleFlows, sum.flows, of.chain, of.comment)
		to.count(ruleDatagrams, sum.datagrams, of.chain, of.comment)
		to.count(ruleBytes, sum.bytes, of.chain, of.comment)
	}
}

func addRule(sums map[commented]*ruleSum, of commented, n *rules.Counter) {
	sum := sums[of]
	if sum == nil {
		if len(sums) == maxComments {
			return
		}
		sum = new(ruleSum)
		sums[of] = sum
	}
	sum.flows += n.Flows.Load()
	sum.datagrams += n.Datagrams.Load()
	sum.bytes += n.Bytes.Load()
}

// commentOf returns the first comment of a rule; empty: it has none.
func commentOf(r *rules.Rule) string {
	for _, m := range r.Matches {
		if c, ok := m.(*rules.Comment); ok {
			return c.Text
		}
	}
	return ""
}
