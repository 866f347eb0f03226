package iptables

import (
	"errors"
	"slices"

	"usher/internal/nearest"
	"usher/proxy/rules"
)

const (
	// maxRules bounds the rules of a list, and of a table.
	maxRules = 100_000
	// maxChains bounds the chains of a list, and so how deep jumps can go.
	maxChains = 4096
	// maxTableChains bounds the chains of a table.
	maxTableChains = 100_000
)

// Build makes a list of commands, one a line, as iptables would do one after the other. The policy is ACCEPT, and is
// not set by a line. The chains are in the order of Lines. The error is an *Error with the index of its line.
func Build(lines []string) (*rules.List, error) {
	input := &rules.Chain{Name: rules.Input, Policy: rules.Accept}
	b := listBuilder{
		list:   &rules.List{Chains: []*rules.Chain{input}},
		chains: map[string]*rules.Chain{rules.Input: input},
		jumps:  make(map[*rules.Rule]place),
	}
	for i, line := range lines {
		if err := b.add(i, line); err != nil {
			err.Line = i
			return nil, err.at(0)
		}
	}
	if err := b.checkLoops(); err != nil {
		return nil, err
	}
	if err := b.checkDepth(); err != nil {
		return nil, err
	}
	b.list.Chains = sorted(b.list.Chains)
	return b.list, nil
}

// place is where the target of a jump stands.
type place struct{ line, offset int }

// listBuilder carries out commands.
type listBuilder struct {
	list   *rules.List
	chains map[string]*rules.Chain
	jumps  map[*rules.Rule]place
	rules  int
}

func (b *listBuilder) add(i int, line string) *Error {
	cmd, err := ParseRule(line)
	if err != nil {
		return err.(*Error)
	}
	chain := b.chains[cmd.Chain]
	switch cmd.Op {
	case NewChain:
		return b.newChain(cmd.Chain).at(cmd.chainAt)
	case SetPolicy:
		return errorf("command -P has no use here").advise("the policy is an option of its own")
	}
	switch {
	case chain == nil:
		return b.noChain("No chain/target/match by that name.", cmd.Chain).withStatus(statusAbsent).at(cmd.chainAt)
	case cmd.Op == Insert && cmd.Number > len(chain.Rules)+1:
		return errorf("Index of insertion too big.").advise("%s has %d rules", cmd.Chain, len(chain.Rules)).withStatus(statusAbsent).at(cmd.numberAt)
	}
	if b.rules += len(cmd.Rules); b.rules > maxRules {
		return errorf("there are more than %d rules", maxRules)
	}
	made := make([]*rules.Rule, len(cmd.Rules))
	for i, r := range cmd.Rules {
		front, err := r.Front()
		if err != nil {
			return err.(*Error)
		}
		made[i] = front
	}
	for _, r := range made {
		if r.Target == rules.Jump {
			if b.chains[r.Chain] == nil {
				return b.noChain("Chain '"+r.Chain+"' does not exist", r.Chain).at(cmd.targetAt)
			}
			b.jumps[r] = place{i, cmd.targetAt}
		}
	}
	at := len(chain.Rules)
	if cmd.Op == Insert {
		at = max(cmd.Number, 1) - 1
	}
	chain.Rules = slices.Insert(chain.Rules, at, made...)
	return nil
}

func (b *listBuilder) newChain(name string) *Error {
	switch {
	case name == rules.Input:
		return errorf("Chain already exists.").advise("%s is built in", name).withStatus(statusAbsent)
	case b.chains[name] != nil:
		return errorf("Chain already exists.").advise("-N %s stands above", name).withStatus(statusAbsent)
	case len(b.chains) == maxChains:
		return errorf("there are more than %d chains", maxChains)
	}
	c := &rules.Chain{Name: name}
	b.chains[name] = c
	b.list.Chains = append(b.list.Chains, c)
	return nil
}

// noChain returns the error of a chain that is not there, in iptables' words.
func (b *listBuilder) noChain(message, name string) *Error {
	have := slices.Clone(targetNames)
	for _, c := range b.list.Chains {
		have = append(have, c.Name)
	}
	err := errorf("%s", message)
	if near := nearest.Word(name, have); near != "" {
		return err.advise("did you mean %s?", near)
	}
	return err.advise("-N %s before it makes the chain %s", name, name)
}

// checkLoops refuses chains that jump to each other in a circle. The line is the last one of the circle.
func (b *listBuilder) checkLoops() *Error {
	const (
		isOpen = 1 + iota // its jumps are being followed
		isDone
	)
	state := make(map[string]int, len(b.chains))
	var open []*rules.Rule // the jumps that led here
	var visit func(c *rules.Chain) *Error
	visit = func(c *rules.Chain) *Error {
		state[c.Name] = isOpen
		for _, r := range c.Rules {
			if r.Target != rules.Jump || state[r.Chain] == isDone {
				continue
			}
			open = append(open, r)
			if state[r.Chain] == isOpen {
				return b.loop(open)
			}
			if err := visit(b.chains[r.Chain]); err != nil {
				return err
			}
			open = open[:len(open)-1]
		}
		state[c.Name] = isDone
		return nil
	}
	for _, c := range b.list.Chains {
		if state[c.Name] == 0 {
			if err := visit(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkDepth refuses jumps that package rules cannot follow.
func (b *listBuilder) checkDepth() *Error {
	e, ok := errors.AsType[*rules.ChainError](rules.Check(b.list))
	if !ok {
		return nil
	}
	var at place
	if e.Rule >= 0 {
		at = b.jumps[b.chains[e.Chain].Rules[e.Rule]]
	}
	err := errorf("Too many links: %v", e.Err).withStatus(statusRefused)
	err.Line = at.line
	return err.at(at.offset)
}

// loop returns the error of jumps of which the last one leads back to the chain of an earlier one.
func (b *listBuilder) loop(jumps []*rules.Rule) *Error {
	last := jumps[len(jumps)-1]
	way, at := last.Chain, b.jumps[last]
	begin := len(jumps) - 1
	for begin > 0 && jumps[begin-1].Chain != last.Chain {
		begin--
	}
	for _, r := range jumps[begin:] {
		way += " → " + r.Chain
		if p := b.jumps[r]; p.line > at.line {
			at = p
		}
	}
	err := errorf("Too many links: the chains make a loop: %s", way).withStatus(statusRefused)
	err.Line = at.line
	return err.at(at.offset)
}
