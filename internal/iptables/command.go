package iptables

import (
	"strconv"

	"usher/proxy/rules"
)

// Op is what a command does.
type Op uint8

const (
	Append   Op = iota // -A
	Insert             // -I
	NewChain           // -N
	Policy             // -P
)

// Command is one command.
type Command struct {
	Op     Op
	Chain  string
	Rules  []*rules.Rule // of Append and Insert: several where an address is a list
	Index  int           // of Insert, from 1: the first rule is inserted there
	Policy rules.Target  // of Policy: Accept or Drop

	chainAt, indexAt, targetAt int // offsets of their words
}

// ParseRule reads a command: -A, -I, -N or -P. A line that begins with a condition is -A INPUT. The error is an *Error.
func ParseRule(line string) (Command, error) {
	words, err := split(line)
	if err == nil {
		p := parser{words: words, end: len(line), rule: new(rules.Rule)}
		if err = p.command(); err == nil {
			return p.cmd, nil
		}
	}
	return Command{}, err.at(0)
}

// command reads the words of a line.
func (p *parser) command() *Error {
	p.cmd.Chain = rules.Input
	if len(p.words) == 0 {
		return errorf("the rule is empty").advise("a rule has a target at least, as in -j DROP").at(0)
	}
	if err := p.skipTable(); err != nil {
		return err
	}
	name := p.peek()
	switch name.text {
	case "-A", "--append":
		p.next++
		return p.append()
	case "-I", "--insert":
		p.next++
		p.cmd.Op = Insert
		return p.insert()
	case "-N", "--new", "--new-chain":
		p.next++
		p.cmd.Op = NewChain
		return p.newChain()
	case "-P", "--policy":
		p.next++
		p.cmd.Op = Policy
		return p.policy()
	}
	if advice, known := refusedCommands[name.text]; known {
		return errorf("command %s has no use here", name.text).advise("%s", advice).at(name.offset)
	}
	return p.parseRule()
}

// skipTable reads -t, whose only value is filter.
func (p *parser) skipTable() *Error {
	if name := p.peek(); name.text != "-t" && name.text != "--table" {
		return nil
	}
	p.next++
	table, err := p.value("-t")
	if err != nil {
		return err
	}
	if reason, known := refusedTables[table.text]; known {
		return errorf("table `%s' has no meaning here", table.text).advise("%s", reason).at(table.offset)
	}
	if table.text != "filter" {
		return errorf("can't initialize iptables table `%s': Table does not exist", table.text).at(table.offset)
	}
	return nil
}

func (p *parser) append() *Error {
	if err := p.chain("-A"); err != nil {
		return err
	}
	return p.parseRule()
}

func (p *parser) insert() *Error {
	if err := p.chain("-I"); err != nil {
		return err
	}
	p.cmd.Index = 1
	if at := p.peek(); at.text != "" && at.text[0] >= '0' && at.text[0] <= '9' {
		p.next++
		n, err := strconv.Atoi(at.text)
		if err != nil || n < 1 {
			return errorf("Invalid rule number `%s'", at.text).at(at.offset)
		}
		p.cmd.Index, p.cmd.indexAt = n, at.offset
	}
	return p.parseRule()
}

// chain reads the name of a chain that has rules.
func (p *parser) chain(option string) *Error {
	name, err := p.value(option)
	if err != nil {
		return err
	}
	p.cmd.Chain, p.cmd.chainAt = name.text, name.offset
	if reason, known := refusedChains[name.text]; known {
		return errorf("chain `%s' has no meaning here", name.text).advise("%s", reason).at(name.offset)
	}
	return checkChain(name.text).at(name.offset)
}

func (p *parser) newChain() *Error {
	name, err := p.value("-N")
	if err != nil {
		return err
	}
	p.cmd.Chain, p.cmd.chainAt = name.text, name.offset
	if reason, known := refusedChains[name.text]; known {
		return errorf("Chain already exists.").advise("%s", reason).withStatus(statusAbsent).at(name.offset)
	}
	if err := checkChain(name.text); err != nil {
		return err.at(name.offset)
	}
	return p.end0()
}

func (p *parser) policy() *Error {
	name, err := p.value("-P")
	if err != nil {
		return err
	}
	if name.text != rules.Input {
		return errorf("Bad built-in chain name.").advise("%s alone has a policy", rules.Input).withStatus(statusAbsent).at(name.offset)
	}
	target, err := p.value("-P")
	if err != nil {
		return err
	}
	if p.cmd.Policy, err = parsePolicy(target.text); err != nil {
		return err.at(target.offset)
	}
	return p.end0()
}

func parsePolicy(text string) (rules.Target, *Error) {
	switch text {
	case "ACCEPT":
		return rules.Accept, nil
	case "DROP":
		return rules.Drop, nil
	}
	return 0, errorf("Bad policy name.").advise("a policy is ACCEPT or DROP").withStatus(statusAbsent)
}

// maxChainName is the longest name of a chain, in bytes.
const maxChainName = 28

// checkChain refuses what cannot be the name of a chain.
func checkChain(name string) *Error {
	switch {
	case name == "":
		return errorf("Invalid chain name `%s'", name)
	case name[0] == '-' || name[0] == '!':
		return errorf("chain name not allowed to start with `%c'", name[0])
	case len(name) > maxChainName:
		return errorf("chain name `%s' too long (must be under %d chars)", name, maxChainName+1)
	case isTarget(name):
		return errorf("chain name may not clash with target name")
	}
	if err := checkName("chain name", name, maxChainName); err != nil {
		return errorf("Invalid chain name `%s'", name).advise("%s", err.Advice)
	}
	return nil
}
