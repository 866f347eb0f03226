package iptables

import (
	"bufio"
	"cmp"
	"slices"
	"strings"

	"usher/proxy/rules"
)

// Format writes a rule of a chain of the front door as iptables -S does. ParseRule reads the same rule from it.
func Format(chain string, r *rules.Rule) string {
	var b strings.Builder
	b.WriteString("-A " + chain)
	ruleOf(r).save(&b)
	return b.String()
}

// String returns the rule as it stands behind the name of its chain.
func (r *Rule) String() string {
	var b strings.Builder
	r.save(&b)
	return strings.TrimPrefix(b.String(), " ")
}

// saveTo writes a rule without its chain.
func (r *Rule) saveTo(w *bufio.Writer) {
	var b strings.Builder
	r.save(&b)
	w.WriteString(b.String())
}

// save writes a rule without its chain.
func (r *Rule) save(b *strings.Builder) {
	r.saveConditions(b)
	saveTarget(b, r)
}

func (r *Rule) saveConditions(b *strings.Builder) {
	savePrefix(b, " -s ", r.Source)
	savePrefix(b, " -d ", r.Destination)
	if r.In.Name != "" {
		saveCondition(b, " -i ", r.In.Name, r.In.Not)
	}
	if r.Out.Name != "" {
		saveCondition(b, " -o ", r.Out.Name, r.Out.Not)
	}
	if r.Protocol != rules.All {
		saveCondition(b, " -p ", protocolName(r.Protocol), r.NotProtocol)
	}
	if r.Fragment != AnyFragment {
		saveCondition(b, " -f", "", r.Fragment == NoFragment)
	}
	for _, m := range r.Matches {
		saveMatch(b, m)
	}
}

func savePrefix(b *strings.Builder, option string, p rules.Prefix) {
	if p.IsValid() {
		saveCondition(b, option, p.Prefix.String(), p.Not)
	}
}

func saveCondition(b *strings.Builder, option, value string, not bool) {
	if not {
		b.WriteString(" !")
	}
	b.WriteString(option + value)
}

func saveMatch(b *strings.Builder, m Match) {
	switch m := m.(type) {
	case *rules.Ports:
		savePorts(b, m)
	case *rules.Multiport:
		saveMultiport(b, m)
	case *rules.Conntrack:
		saveConntrack(b, m)
	case *rules.Comment:
		saveComment(b, m)
	case *rules.Limit:
		saveLimit(b, m)
	case *rules.Hashlimit:
		saveHashlimit(b, m)
	case *rules.Connlimit:
		saveConnlimit(b, m)
	case *rules.Recent:
		saveRecent(b, m)
	case *rules.Statistic:
		saveStatistic(b, m)
	case *State:
		saveState(b, m)
	case *Addrtype:
		saveAddrtype(b, m)
	case *MarkMatch:
		saveMarkMatch(b, m)
	case *ICMP:
		saveICMP(b, m)
	case *Other:
		b.WriteString(" -m " + m.Name + m.Text)
	}
}

// Lines writes the chains and rules of a list, without its policy, as iptables -S does: Build reads the same list.
func Lines(list *rules.List) []string {
	if list == nil {
		return nil
	}
	chains := sorted(list.Chains)
	var lines []string
	for _, c := range chains {
		if c.Name != rules.Input {
			lines = append(lines, "-N "+c.Name)
		}
	}
	for _, c := range chains {
		for _, r := range c.Rules {
			lines = append(lines, Format(c.Name, r))
		}
	}
	return lines
}

// sorted returns chains in the order of every output: the built-in one, then the others by name.
func sorted(chains []*rules.Chain) []*rules.Chain {
	chains = slices.Clone(chains)
	slices.SortStableFunc(chains, func(a, b *rules.Chain) int {
		switch {
		case a.Name == rules.Input:
			return -1
		case b.Name == rules.Input:
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return chains
}
