package config

import (
	"slices"

	"usher/internal/iptables"
	"usher/proxy/rules"
)

// Rules are the rules of one owner. They are not changed once they are made.
type Rules struct {
	Policy string      // ACCEPT or DROP; empty: the owner leaves it to others
	Lines  []string    // as iptables -S writes them, without the policy
	List   *rules.List // the same; its policy is ACCEPT unless Policy says otherwise
}

// policies are the values of the option policy.
var policies = []string{"ACCEPT", "DROP"}

const (
	fieldRule   = Field("rule")
	fieldPolicy = Field("policy")
)

// ParseRules reads and checks the rules of one owner: lines in iptables' words, and a policy. It returns nil if there is
// neither. The error is an *Error; of a line its cause is an *iptables.Error with the index of the line.
func ParseRules(policy string, lines []string) (*Rules, error) {
	if policy != "" {
		if _, err := oneOf(policies...)(policy); err != nil {
			return nil, &Error{Field: fieldPolicy, Value: policy, cause: err}
		}
	}
	if policy == "" && len(lines) == 0 {
		return nil, nil
	}
	list, err := iptables.Build(lines)
	if err != nil {
		return nil, &Error{Field: fieldRule, Value: lines[err.(*iptables.Error).Line], cause: err}
	}
	if policy == "DROP" {
		list.Chains[0].Policy = rules.Drop
	}
	return &Rules{Policy: policy, Lines: iptables.Lines(list), List: list}, nil
}

// RulesOf returns a list as the rules of one owner; nil is none.
func RulesOf(list *rules.List) *Rules {
	if list == nil {
		return nil
	}
	r := &Rules{Lines: iptables.Lines(list), List: list}
	if list.Chains[0].Policy == rules.Drop {
		r.Policy = "DROP"
	}
	return r
}

// Equal reports whether two owners' rules are the same; nil is none.
func (r *Rules) Equal(other *Rules) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.Policy == other.Policy && slices.Equal(r.Lines, other.Lines)
}

// RulePart is what one owner has, with its name in messages.
type RulePart struct {
	Owner  string
	*Rules // nil: none
}

// JoinRules makes one list of the rules of all owners: those in INPUT stand in the order of the parts. A chain belongs to
// one owner, and so does the policy. The rules are those of the parts, not copies. The list is nil if it would change
// nothing. The error is an *Error that names both owners.
func JoinRules(parts ...RulePart) (*rules.List, error) {
	input := &rules.Chain{Name: rules.Input, Policy: rules.Accept}
	list := &rules.List{Chains: []*rules.Chain{input}}
	policyOf, chainOf := "", make(map[string]string)
	for _, p := range parts {
		if p.Rules == nil {
			continue
		}
		if p.Policy != "" {
			if policyOf != "" {
				return nil, &Error{Field: fieldPolicy, Value: p.Policy, format: "%s is given by %s and by %s: leave it to one of them",
					args: []any{fieldPolicy, policyOf, p.Owner}}
			}
			policyOf, input.Policy = p.Owner, p.List.Chains[0].Policy
		}
		for _, c := range p.List.Chains {
			if c.Name == rules.Input {
				input.Rules = append(input.Rules, c.Rules...)
				continue
			}
			if owner, taken := chainOf[c.Name]; taken {
				return nil, &Error{Field: fieldRule, Value: "-N " + c.Name, format: "the chain %s is made by %s and by %s: give one of them another name",
					args: []any{c.Name, owner, p.Owner}}
			}
			chainOf[c.Name] = p.Owner
			list.Chains = append(list.Chains, c)
		}
	}
	if input.Policy == rules.Accept && len(input.Rules) == 0 && len(list.Chains) == 1 {
		return nil, nil
	}
	return list, nil
}

// Len returns how many rules there are; nil has none.
func (r *Rules) Len() (n int) {
	if r == nil {
		return 0
	}
	for _, chain := range r.List.Chains {
		n += len(chain.Rules)
	}
	return n
}
