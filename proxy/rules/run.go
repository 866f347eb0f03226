package rules

import (
	"net/netip"
	"strings"
)

// visit sends one packet through the rules.
func (s *Set) visit(v *visit) Verdict {
	verdict := s.run(s.program, v)
	if verdict.Counter != nil {
		return verdict
	}
	policy := s.chains[0].policy
	if v.mode == deciding {
		policy.count(v.packet)
	}
	return Verdict{s.list.Chains[0].Policy, policy}
}

// run goes through one program. A verdict without a counter is none.
func (s *Set) run(p *program, v *visit) Verdict {
	var c candidates
	if p.index != nil {
		p.index.find(&c, v.packet)
	}
	for at := 0; ; {
		if c.count > 0 {
			at = c.next(at)
		}
		if uint(at) >= uint(len(p.steps)) {
			return Verdict{}
		}
		step := &p.steps[at]
		r := step.rule
		if p.index == nil && !v.meetsHeader(r.Rule) || !v.meetsAll(step.matches) {
			at = step.next
			continue
		}
		if v.mode == deciding {
			r.counter.count(v.packet)
		}
		at++
		switch r.Target {
		case Accept, Drop, Reject:
			return Verdict{r.Target, r.counter}
		case Return:
			at = step.end
		case Log:
			if v.mode == deciding && s.log != nil {
				s.log(r.Rule, *v.packet)
			}
		case Jump:
			if step.call == nil {
				break
			}
			if verdict := s.run(step.call, v); verdict.Counter != nil {
				return verdict
			}
		}
	}
}

func (v *visit) meetsAll(all []matcher) bool {
	for _, m := range all {
		if !v.meets(m) {
			return false
		}
	}
	return true
}

// meetsHeader reports whether the packet meets the conditions that are in no match.
func (v *visit) meetsHeader(r *Rule) bool {
	p := v.packet
	return r.Source.has(p.Client.Addr()) && r.Destination.has(p.Local.Addr()) && r.Interface.has(p.Interface) &&
		(r.Protocol == All || (r.Protocol == p.Protocol) != r.NotProtocol)
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
