package iptables

import (
	"slices"

	"usher/proxy/rules"
)

// ParseRule reads a command of the front door: -A, -I, -N or -P. A line that begins with a condition is -A INPUT. The
// error is an *Error.
func ParseRule(line string) (Command, error) {
	words, err := split(line)
	if err == nil {
		p := parser{grammar: forDoor}
		p.start(words, len(line))
		if err = p.doorCommand(); err == nil {
			return p.cmd, nil
		}
	}
	return Command{}, err.at(0)
}

// doorCommand reads the words of a line.
func (p *parser) doorCommand() *Error {
	if len(p.words) == 0 {
		return errorf("the rule is empty").advise("a rule has a target at least, as in -j DROP")
	}
	if err := p.options(); err != nil {
		return err
	}
	c := &p.cmd
	switch c.Op {
	case 0:
		c.Op, c.Chain = Append, rules.Input
	case Append, Insert, NewChain, SetPolicy:
	default:
		return errorf("command -%c has no use here", c.Op.letter()).advise("%s", refusedCommands[c.Op.letter()]).at(c.operationAt)
	}
	if p.not {
		return errorf("nothing behind \"!\"").at(p.last().offset)
	}
	if err := p.doorChain(); err != nil {
		return err.at(c.chainAt)
	}
	if err := p.finish(); err != nil {
		return err
	}
	if err := p.expand(); err != nil {
		return err
	}
	return p.checkOptions().at(c.operationAt)
}

// doorChain refuses chains that new flows do not come to.
func (p *parser) doorChain() *Error {
	c := &p.cmd
	reason, isRefused := refusedChains[c.Chain]
	switch {
	case c.Op == SetPolicy && c.Chain != rules.Input:
		return absent("Bad built-in chain name.").advise("%s alone has a policy", rules.Input)
	case c.Op == SetPolicy:
		_, err := parsePolicy(c.Policy)
		return err.at(c.policyAt)
	case isRefused && c.Op == NewChain:
		return absent("Chain already exists.").advise("%s", reason)
	case isRefused:
		return errorf("chain `%s' has no meaning here", c.Chain).advise("%s", reason)
	case c.Op == Append && c.Chain == rules.Input:
		return nil
	}
	return p.checkNewChain(c.Chain)
}

// Front returns a rule of the table filter as one of the front door's. The error is an *Error with the reason why there
// is none.
func (r *Rule) Front() (*rules.Rule, error) {
	if err := r.checkFront(); err != nil {
		return nil, err.at(0)
	}
	f := &rules.Rule{Source: r.Source, Destination: r.Destination, Interface: r.In, Protocol: r.Protocol, NotProtocol: r.NotProtocol}
	for _, m := range r.Matches {
		switch m := m.(type) {
		case *State: // which is a rules.Match by what it embeds
			f.Matches = append(f.Matches, &m.Conntrack)
		case rules.Match:
			f.Matches = append(f.Matches, m)
		}
	}
	switch o := r.Options.(type) {
	case *Reject:
		f.Target = rules.Reject
		if o.With != rejectDefault {
			f.RejectWith = o.With
		}
	case *Log:
		f.Target, f.LogPrefix, f.LogLevel = rules.Log, o.Prefix, o.Level
	default:
		f.Target, f.Chain = plainTarget(r)
	}
	return f, nil
}

// plainTarget returns a target without options.
func plainTarget(r *Rule) (target rules.Target, chain string) {
	switch {
	case r.IsJump:
		return rules.Jump, r.Target
	case r.Target == "ACCEPT":
		return rules.Accept, ""
	case r.Target == "DROP":
		return rules.Drop, ""
	case r.Target == "RETURN":
		return rules.Return, ""
	}
	return rules.Continue, ""
}

// checkFront refuses what the front door cannot judge.
func (r *Rule) checkFront() *Error {
	switch {
	case r.Fragment != AnyFragment:
		return refusal("option -f has no meaning here").advise("%s", sees)
	case r.Out.Name != "":
		return refusal("option -o has no meaning here").advise("%s", refusedFlags["-o"])
	case r.IsGoto:
		return refusal("option -g has no meaning here").advise("%s", refusedFlags["-g"])
	case r.Protocol != rules.All && r.Protocol != rules.TCP && r.Protocol != rules.UDP:
		return refusal("protocol %s has no meaning here", protocolName(r.Protocol)).advise("%s", carries)
	}
	if !r.fitsProtocol() || r.NotProtocol && slices.ContainsFunc(r.Matches, hasPorts) {
		return refusal("ports need -p tcp or -p udp").advise("write a rule for each protocol")
	}
	for _, m := range r.Matches {
		if err := checkFrontMatch(m); err != nil {
			return err
		}
	}
	if reason, known := refusedTargets[r.Target]; known {
		return refusal("target %s has no meaning here", r.Target).advise("%s", reason)
	}
	if l, isLog := r.Options.(*Log); isLog && l.Flags != 0 {
		return refusal("LOG writes no headers of packets").advise("%s", sees)
	}
	return nil
}

// hasPorts reports whether a match is a condition on ports.
func hasPorts(m Match) bool {
	switch m.(type) {
	case *rules.Ports, *rules.Multiport:
		return true
	}
	return false
}

func checkFrontMatch(m Match) *Error {
	switch m := m.(type) {
	case *Other:
		return refusedMatch(m.Name)
	case *Addrtype:
		return refusedMatch("addrtype")
	case *MarkMatch:
		return refusedMatch("mark")
	case *ICMP:
		return refusedMatch("icmp")
	case *rules.Conntrack:
		return checkFrontStates("ctstate", m)
	case *State:
		return checkFrontStates("state", &m.Conntrack)
	}
	return nil
}

func refusedMatch(name string) *Error {
	return refusal("match `%s' has no meaning here", name).advise("%s", refusedMatches[name])
}

// ruleOf returns a rule of the front door as one of the table filter.
func ruleOf(r *rules.Rule) *Rule {
	t := &Rule{Source: r.Source, Destination: r.Destination, In: r.Interface, Protocol: r.Protocol, NotProtocol: r.NotProtocol}
	for _, m := range r.Matches {
		t.Matches = append(t.Matches, m)
	}
	t.Target, t.IsJump = TargetName(r), r.Target == rules.Jump
	switch r.Target {
	case rules.Reject:
		t.Options = &Reject{With: rejectDefault}
		if r.RejectWith != "" {
			t.Options = &Reject{With: r.RejectWith}
		}
	case rules.Log:
		t.Options = &Log{Prefix: r.LogPrefix, Level: r.LogLevel}
	}
	return t
}

// TargetName returns the word behind -j; a rule that only counts has none.
func TargetName(r *rules.Rule) string {
	switch r.Target {
	case rules.Accept:
		return "ACCEPT"
	case rules.Drop:
		return "DROP"
	case rules.Reject:
		return "REJECT"
	case rules.Return:
		return "RETURN"
	case rules.Log:
		return "LOG"
	case rules.Jump:
		return r.Chain
	}
	return ""
}
