package iptables

import (
	"slices"
	"strings"

	"usher/proxy/rules"
)

// connectionStates are the states of a rule, in the order in which iptables writes them. Rules see new flows, so that
// NEW is always true. The others never are: a flow that was let in is not judged again.
var connectionStates = []string{"INVALID", "NEW", "RELATED", "ESTABLISHED"}

// tableStates are those of tables, in the order of iptables.
var tableStates = []string{"INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT"}

// newConntrack is -m conntrack.
func newConntrack(g grammar) *extension {
	m := &rules.Conntrack{}
	x := &extension{match: m}
	x.flags = []flag{{names: []string{"--ctstate"}, canBeNot: true, set: func(v string, not bool) *Error {
		m.Not = not
		return parseStates(m, "ctstate", v, g)
	}}}
	x.check = func(*Rule) *Error {
		if len(x.given) == 0 {
			return errorf("conntrack: At least one option is required").advise("have --ctstate")
		}
		return nil
	}
	return x
}

// newState is -m state, the older form, which the front door writes as -m conntrack.
func newState(g grammar) *extension {
	m := &State{}
	x := &extension{match: m}
	if g == forDoor {
		x.match = &m.Conntrack
	}
	x.flags = []flag{{names: []string{"--state"}, canBeNot: true, isNeeded: true, set: func(v string, not bool) *Error {
		m.Not = not
		return parseStates(&m.Conntrack, "state", v, g)
	}}}
	return x
}

func parseStates(m *rules.Conntrack, option, text string, g grammar) *Error {
	given := strings.Split(strings.ToUpper(text), ",")
	for _, state := range given {
		if !slices.Contains(tableStates, state) || option == "state" && strings.HasSuffix(state, "NAT") {
			return errorf("Bad %s \"%s\"", option, state).adviseOneOf(state, connectionStates)
		}
	}
	for _, state := range tableStates {
		if slices.Contains(given, state) {
			m.States = append(m.States, state)
		}
	}
	if g == forDoor {
		if err := checkFrontStates(option, m); err != nil {
			return errorf("%s", err.Message).advise("%s", err.Advice)
		}
	}
	return nil
}

// checkFrontStates refuses states that no flow of a proxy has.
func checkFrontStates(option string, m *rules.Conntrack) *Error {
	for _, state := range m.States {
		if !slices.Contains(connectionStates, state) {
			return refusal("%s %s has no meaning here", option, state).advise("usher translates no addresses, and knows all of its flows")
		}
	}
	return nil
}

func saveState(b *strings.Builder, m *State) {
	b.WriteString(" -m state")
	saveCondition(b, " --state ", strings.Join(m.States, ","), m.Not)
}

func listState(b *strings.Builder, m *State) {
	if m.Not {
		b.WriteString(" !")
	}
	b.WriteString(" state " + strings.Join(m.States, ","))
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
