package iptables

import (
	"slices"
	"strings"

	"usher/proxy/rules"
)

// connectionStates are the states of a rule, in the order in which iptables writes them. Rules see new flows, so that
// NEW is always true. The others never are: a flow that was let in is not judged again.
var connectionStates = []string{"INVALID", "NEW", "RELATED", "ESTABLISHED"}

// newConntrack is -m conntrack, or its older form -m state, which is written as the former.
func newConntrack(option string) *extension {
	m := &rules.Conntrack{}
	x := &extension{match: m}
	set := func(v string, not bool) *Error {
		m.Not = not
		return parseStates(m, option, v)
	}
	x.flags = []flag{{names: []string{"--" + option}, canBeNot: true, isNeeded: option == "state", set: set}}
	x.check = func(*rules.Rule) *Error {
		if len(x.given) == 0 {
			return errorf("conntrack: At least one option is required").advise("have --ctstate")
		}
		return nil
	}
	return x
}

func parseStates(m *rules.Conntrack, option, text string) *Error {
	given := strings.Split(strings.ToUpper(text), ",")
	for _, state := range given {
		switch {
		case slices.Contains(connectionStates, state):
		case slices.Contains([]string{"UNTRACKED", "SNAT", "DNAT"}, state):
			return errorf("%s %s has no meaning here", option, state).advise("usher translates no addresses, and knows all of its flows")
		default:
			return errorf("Bad %s \"%s\"", option, state).adviseOneOf(state, connectionStates)
		}
	}
	for _, state := range connectionStates {
		if slices.Contains(given, state) {
			m.States = append(m.States, state)
		}
	}
	return nil
}

func saveConntrack(b *strings.Builder, m *rules.Conntrack) {
	b.WriteString(" -m conntrack")
	if m.Not {
		b.WriteString(" !")
	}
	b.WriteString(" --ctstate " + strings.Join(m.States, ","))
}

func listConntrack(b *strings.Builder, m *rules.Conntrack) {
	if m.Not {
		b.WriteString(" !")
	}
	b.WriteString(" ctstate " + strings.Join(m.States, ","))
}
