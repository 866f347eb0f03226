package iptables

import (
	"slices"
	"strings"

	"usher/proxy/rules"
)

// matchNames are the match extensions, in alphabetical order.
var matchNames = []string{
	"comment", "connlimit", "conntrack", "hashlimit", "limit", "multiport", "recent", "state", "statistic", "tcp", "udp",
}

// targetNames are the targets that a rule can have, apart from user chains.
var targetNames = []string{"ACCEPT", "DROP", "REJECT", "LOG", "RETURN"}

// newMatch returns a match extension of matchNames.
func newMatch(name string) *extension {
	switch name {
	case "comment":
		return newComment()
	case "connlimit":
		return newConnlimit()
	case "conntrack":
		return newConntrack("ctstate")
	case "hashlimit":
		return newHashlimit()
	case "limit":
		return newLimit()
	case "multiport":
		return newMultiport()
	case "recent":
		return newRecent()
	case "state":
		return newConntrack("state")
	case "statistic":
		return newStatistic()
	case "tcp":
		return newPorts(rules.TCP)
	}
	return newPorts(rules.UDP)
}

// load adds an extension to the rule.
func (p *parser) load(name string, at word) *extension {
	x := newMatch(name)
	x.name, x.at = name, at
	p.loaded = append(p.loaded, x)
	return x
}

func (p *parser) loadMatch(name string) *Error {
	if slices.Contains(matchNames, name) {
		p.load(name, p.words[p.next-1])
		return nil
	}
	if reason, known := refusedMatches[name]; known {
		return errorf("match `%s' has no meaning here", name).advise("%s", reason)
	}
	return errorf("Couldn't load match `%s'", name).adviseOneOf(strings.ToLower(name), matchNames)
}

// ownerOf returns what has to stand before an option that no extension so far has.
func ownerOf(option string) string {
	for _, name := range matchNames {
		if name != "tcp" && name != "udp" && findFlag(newMatch(name).flags, option) != nil {
			return "-m " + name
		}
	}
	for _, name := range targetNames {
		if findFlag(newTarget(name, new(rules.Rule)).flags, option) != nil {
			return "-j " + name
		}
	}
	return ""
}

func (p *parser) loadTarget(name string) *Error {
	if reason, known := refusedTargets[name]; known {
		return errorf("target %s has no meaning here", name).advise("%s", reason)
	}
	if reason, known := refusedChains[name]; known {
		return errorf("chain `%s' has no meaning here", name).advise("%s", reason)
	}
	at := p.words[p.next-1]
	p.cmd.targetAt = at.offset
	if slices.Contains(targetNames, name) {
		x := newTarget(name, p.rule)
		x.name, x.at = name, at
		p.loaded = append(p.loaded, x)
		return nil
	}
	if name == rules.Input {
		return errorf("chain `%s' is built in: no rule jumps to it", name).withStatus(statusRefused)
	}
	if err := checkChain(name); err != nil {
		return err
	}
	p.rule.Target, p.rule.Chain = rules.Jump, name
	return nil
}

// isTarget reports whether a word is a target, so that no chain has its name.
func isTarget(name string) bool {
	_, refused := refusedTargets[name]
	return refused || slices.Contains(targetNames, name)
}
