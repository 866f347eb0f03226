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

// tableMatchNames are those that only tables have.
var tableMatchNames = []string{"addrtype", "icmp", "mark"}

// targetNames are the targets that a rule can have, apart from user chains.
var targetNames = []string{"ACCEPT", "DROP", "REJECT", "LOG", "RETURN"}

// tableTargetNames are those that only tables have.
var tableTargetNames = []string{"DNAT", "MARK", "MASQUERADE", "REDIRECT", "SNAT"}

// newMatch returns a match extension of matchNames or tableMatchNames.
func (p *parser) newMatch(name string) *extension {
	switch name {
	case "addrtype":
		return newAddrtype()
	case "comment":
		return newComment()
	case "connlimit":
		return newConnlimit()
	case "conntrack":
		return newConntrack(p.grammar)
	case "hashlimit":
		return newHashlimit()
	case "icmp":
		return newICMP()
	case "limit":
		return newLimit()
	case "mark":
		return newMarkMatch()
	case "multiport":
		return newMultiport()
	case "recent":
		return newRecent()
	case "state":
		return newState(p.grammar)
	case "statistic":
		return newStatistic()
	case "tcp":
		return newPorts(rules.TCP, p.grammar)
	}
	return newPorts(rules.UDP, p.grammar)
}

// load adds an extension to the rule.
func (p *parser) load(name string, at word) *extension {
	x := p.newMatch(name)
	x.name, x.at = name, at
	p.loaded = append(p.loaded, x)
	return x
}

func (p *parser) loadMatch(name string, not bool) *Error {
	if not {
		return errorf("unexpected ! flag before --match")
	}
	isOfTables := p.grammar == forTables && slices.Contains(tableMatchNames, name)
	if isOfTables || slices.Contains(matchNames, name) {
		p.load(name, p.last())
		return nil
	}
	reason, known := refusedMatches[name]
	switch {
	case known && p.grammar == forTables:
		o := &Other{Name: name}
		p.loaded = append(p.loaded, &extension{name: name, at: p.last(), match: o, other: o})
		return nil
	case known:
		return errorf("match `%s' has no meaning here", name).advise("%s", reason)
	case p.grammar == forTables:
		return errorf("Couldn't load match `%s':No such file or directory", name).withBlank()
	}
	return errorf("Couldn't load match `%s'", name).adviseOneOf(strings.ToLower(name), matchNames)
}

// ownerOf returns what has to stand before an option that no extension so far has.
func (p *parser) ownerOf(option string) string {
	for _, name := range matchNames {
		if name != "tcp" && name != "udp" && findFlag(p.newMatch(name).flags, option) != nil {
			return "-m " + name
		}
	}
	for _, name := range targetNames {
		if findFlag(p.newTarget(name).flags, option) != nil {
			return "-j " + name
		}
	}
	return ""
}

// loadTarget reads the target of a rule, which may be a user chain.
func (p *parser) loadTarget(name string) *Error {
	at := p.last()
	p.cmd.targetAt = at.offset
	if p.grammar == forDoor {
		if err := checkDoorTarget(name); err != nil {
			return err
		}
	}
	if err := checkTarget(name); err != nil {
		return err
	}
	p.rule.Target = name
	isOfTables := p.grammar == forTables && slices.Contains(tableTargetNames, name)
	if isOfTables || slices.Contains(targetNames, name) {
		x := p.newTarget(name)
		x.name, x.at = name, at
		p.loaded = append(p.loaded, x)
		return nil
	}
	if _, known := refusedTargets[name]; known {
		o := &Other{Name: name}
		p.loaded = append(p.loaded, &extension{name: name, at: at, options: o, other: o})
		return nil
	}
	p.rule.IsJump = true
	return nil
}

// checkDoorTarget refuses what the front door cannot do, and what is no chain.
func checkDoorTarget(name string) *Error {
	if reason, known := refusedTargets[name]; known {
		return errorf("target %s has no meaning here", name).advise("%s", reason)
	}
	if reason, known := refusedChains[name]; known {
		return errorf("chain `%s' has no meaning here", name).advise("%s", reason)
	}
	if name == rules.Input {
		return errorf("chain `%s' is built in: no rule jumps to it", name).withStatus(statusRefused)
	}
	if slices.Contains(targetNames, name) {
		return nil
	}
	return checkChain(name)
}

// checkTarget refuses what cannot be the name of a target.
func checkTarget(name string) *Error {
	switch {
	case name == "":
		return errorf("Invalid target name (too short)")
	case len(name) > maxChainName:
		return errorf("Invalid target name `%s' (%d chars max)", name, maxChainName)
	case strings.ContainsAny(name, " \t\n\v\f\r"):
		return errorf("Invalid target name `%s'", name)
	}
	return nil
}

// isTarget reports whether a word is a target, so that no chain has its name.
func isTarget(name string) bool {
	_, refused := refusedTargets[name]
	return refused || slices.Contains(targetNames, name) || slices.Contains(tableTargetNames, name)
}
