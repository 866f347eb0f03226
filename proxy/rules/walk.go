package rules

import (
	"net/netip"
	"strings"
)

// walk goes through the rules in order.
func (s *Set) walk(v *visit) Verdict {
	input := s.chains[0]
	verdict := s.walkChain(input, v)
	if verdict.Counter != nil {
		return verdict
	}
	if v.mode == deciding {
		input.policy.count(v.packet)
	}
	return Verdict{s.list.Chains[0].Policy, input.policy}
}

// walkChain goes through one chain. A verdict without a counter is of none.
func (s *Set) walkChain(c *chain, v *visit) Verdict {
	for _, r := range c.rules {
		if !v.matches(r) {
			continue
		}
		if v.mode == deciding {
			r.counter.count(v.packet)
		}
		switch r.Target {
		case Accept, Drop, Reject:
			return Verdict{r.Target, r.counter}
		case Return:
			return Verdict{}
		case Log:
			if v.mode == deciding && s.log != nil {
				s.log(r.Rule, *v.packet)
			}
		case Jump:
			if verdict := s.walkChain(r.jump, v); verdict.Counter != nil {
				return verdict
			}
		}
	}
	return Verdict{}
}

func (v *visit) matches(r *rule) bool {
	p := v.packet
	switch {
	case !r.Source.has(p.Client.Addr()), !r.Destination.has(p.Local.Addr()), !r.Interface.has(p.Interface),
		r.Protocol != All && (r.Protocol == p.Protocol) == r.NotProtocol:
		return false
	}
	for _, m := range r.matches {
		if !v.meets(m) {
			return false
		}
	}
	return true
}

func (c *Prefix) has(a netip.Addr) bool {
	return !c.Prefix.IsValid() || c.Prefix.Contains(a.WithZone("")) != c.Not
}

func (c *Interface) has(name string) bool {
	if c.Name == "" {
		return true
	}
	if prefix, ok := strings.CutSuffix(c.Name, "+"); ok {
		return strings.HasPrefix(name, prefix) != c.Not
	}
	return (name == c.Name) != c.Not
}
