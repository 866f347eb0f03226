package iptables

import (
	"math"
	"strconv"
	"strings"

	"usher/proxy/rules"
)

// Op is a set of what a command does: one, or a listing that also sets counters to zero.
type Op uint32

// The operations, in the order in which iptables numbers them.
const (
	Insert       Op = 1 << iota // -I
	Delete                      // -D with a rule
	DeleteNumber                // -D with a number
	Replace                     // -R
	Append                      // -A
	List                        // -L
	Flush                       // -F
	Zero                        // -Z
	NewChain                    // -N
	DeleteChain                 // -X
	SetPolicy                   // -P
	RenameChain                 // -E
	ListRules                   // -S
	ZeroNumber                  // -Z with a number
	CheckRule                   // -C
	PrintVersion                // -V
	PrintHelp                   // -h
)

// letters are those of the operations.
const letters = "IDDRALFZNXPESZCVh"

// letter returns the letter of the first operation of a set.
func (o Op) letter() byte {
	for i := range len(letters) {
		if o&(1<<i) != 0 {
			return letters[i]
		}
	}
	return '?'
}

// Command is one command.
type Command struct {
	Table   string
	Op      Op
	Chain   string // empty: all chains
	Rules   []*Rule
	Number  int    // of a rule, from 1; 0: none is given
	Policy  string // of SetPolicy
	NewName string // of RenameChain

	Numeric, Verbose, Exact, LineNumbers bool

	hasCounters    bool
	packets, bytes uint64

	operationAt, chainAt, numberAt, policyAt, targetAt int // offsets of their words
}

// IsReading reports whether the command changes nothing.
func (c *Command) IsReading() bool {
	return c.Op&^(List|ListRules|CheckRule|PrintVersion|PrintHelp) == 0
}

// ParseArgs reads the arguments of iptables, without the name of the program. The error is an *Error.
func ParseArgs(args []string, resolver Resolver) (*Command, error) {
	p := parser{grammar: forTables, resolver: resolver}
	words := make([]word, len(args))
	for i, a := range args {
		words[i] = word{text: a}
	}
	if err := p.parse(words, 0); err != nil {
		return nil, err
	}
	return &p.cmd, nil
}

// parse reads a line of the grammar for tables.
func (p *parser) parse(words []word, end int) *Error {
	p.start(words, end)
	err := p.options()
	if err == nil && p.cmd.Op&(PrintVersion|PrintHelp) == 0 {
		err = p.complete()
	}
	return err.at(0)
}

// complete checks a line that is read, in iptables' order, and makes its rules.
func (p *parser) complete() *Error {
	c := &p.cmd
	if c.Table == "nat" && (c.Policy == "DROP" || p.rule.Target == "DROP") {
		return errorf("\nThe \"nat\" table is not intended for filtering, the use of DROP is therefore inhibited.\n\n")
	}
	if err := p.finish(); err != nil {
		return err
	}
	switch {
	case c.Op == 0:
		return errorf("no command specified")
	case p.not:
		return errorf("nothing appropriate following !")
	}
	if err := p.expand(); err != nil {
		return err
	}
	if c.Op == Replace && len(c.Rules) != 1 {
		return errorf("Replacement rule does not specify a unique address")
	}
	if err := p.checkOptions(); err != nil {
		return err
	}
	if len(c.Chain) > maxChainName {
		return errorf("chain name `%s' too long (must be under %d chars)", c.Chain, maxChainName+1)
	}
	if c.Op&(Append|Delete|DeleteNumber|CheckRule|Insert|Replace) != 0 {
		if err := p.checkInterfaces(); err != nil {
			return err
		}
	}
	if builtinTable(c.Table) < 0 {
		return noTable(c.Table)
	}
	return nil
}

// noTable returns the error of a table that is not there.
func noTable(name string) *Error {
	return errorf("table '%s' does not exist", name).withStatus(statusNoTable)
}

// checkInterfaces refuses an interface that no packet of a built-in chain has.
func (p *parser) checkInterfaces() *Error {
	for _, side := range []struct {
		letter byte
		chains string
	}{{'o', "PREROUTING INPUT"}, {'i', "POSTROUTING OUTPUT"}} {
		if !strings.ContainsRune(p.given, rune(side.letter)) {
			continue
		}
		for chain := range strings.FieldsSeq(side.chains) {
			if chain == p.cmd.Chain {
				return errorf("Can't use -%c with %s", side.letter, chain).withBlank()
			}
		}
	}
	return nil
}

// Options that a command may have beside -v: of rules, of rules without counters, and of listings.
const (
	ruleOptions    = "sdpjioc" + "f"
	listingOptions = "nx0"
)

// checkOptions refuses options that no operation of the command knows. The order is that of iptables.
func (p *parser) checkOptions() *Error {
	var legal string
	for o := Insert; o <= CheckRule; o <<= 1 {
		switch p.cmd.Op & o {
		case Insert, Replace, Append:
			legal += ruleOptions
		case Delete, CheckRule:
			legal += strings.Replace(ruleOptions, "c", "", 1)
		case List:
			legal += listingOptions
		case SetPolicy:
			legal += "c"
		}
	}
	for _, letter := range "nsdpjxio0cf" {
		if strings.ContainsRune(p.given, letter) && !strings.ContainsRune(legal, letter) {
			return errorf("Illegal option `-%c' with this command", letter)
		}
	}
	return nil
}

// commandFlags are the options that name an operation.
func (p *parser) commandFlags() []flag {
	operation := func(takes takes, op Op, set func(v string) *Error, names ...string) flag {
		return flag{names: names, takes: takes, set: func(v string, not bool) *Error {
			if err := p.addOperation(op, not); err != nil {
				return err
			}
			if v != "" || takes == aValue {
				p.cmd.Chain, p.cmd.chainAt = v, p.last().offset
			}
			return set(v)
		}}
	}
	alone := func(string) *Error { return nil }
	number := func(string) *Error { return p.number() }
	return []flag{
		operation(aValue, Append, alone, "-A", "--append"),
		operation(aValue, Delete, func(string) *Error {
			return p.numberOf(DeleteNumber)
		}, "-D", "--delete"),
		operation(aValue, CheckRule, alone, "-C", "--check"),
		operation(aValue, Insert, number, "-I", "--insert"),
		operation(aValue, Replace, func(string) *Error {
			if err := p.number(); err != nil || p.cmd.Number > 0 {
				return err
			}
			return errorf("-R requires a rule number")
		}, "-R", "--replace"),
		operation(perhaps, List, p.chainAndNumber, "-L", "--list"),
		operation(perhaps, ListRules, p.chainAndNumber, "-S", "--list-rules"),
		operation(perhaps, Flush, p.optionalChain, "-F", "--flush"),
		operation(perhaps, Zero, func(v string) *Error {
			if err := p.optionalChain(v); err != nil {
				return err
			}
			return p.numberOf(ZeroNumber)
		}, "-Z", "--zero"),
		{names: []string{"-N", "--new-chain"}, set: func(v string, not bool) *Error {
			if err := p.checkNewChain(v); err != nil {
				return err
			}
			p.cmd.Chain, p.cmd.chainAt = v, p.last().offset
			return p.addOperation(NewChain, not)
		}},
		operation(perhaps, DeleteChain, p.optionalChain, "-X", "--delete-chain"),
		operation(aValue, RenameChain, func(string) *Error {
			return p.second(&p.cmd.NewName, "-E requires old-chain-name and new-chain-name")
		}, "-E", "--rename-chain"),
		operation(aValue, SetPolicy, func(string) *Error {
			return p.second(&p.cmd.Policy, "-P requires a chain and a policy")
		}, "-P", "--policy"),
		{names: []string{"-V", "--version"}, takes: nothing, set: p.stop(PrintVersion)},
		{names: []string{"-h", "--help"}, takes: perhaps, set: p.stop(PrintHelp)},
	}
}

// stop returns what makes the rest of a line without meaning.
func (p *parser) stop(op Op) func(string, bool) *Error {
	return func(string, bool) *Error {
		p.cmd.Op, p.next, p.within = op, len(p.words), 0
		return nil
	}
}

// addOperation adds an operation to a command. A listing can set counters to zero.
func (p *parser) addOperation(op Op, not bool) *Error {
	if not {
		return errorf("unexpected '!' flag")
	}
	var beside Op
	switch op {
	case List, ListRules:
		beside = Zero | ZeroNumber
	case Zero:
		beside = List | ListRules
	}
	if other := p.cmd.Op &^ beside; other != 0 {
		return errorf("Cannot use -%c with -%c", op.letter(), other.letter())
	}
	p.cmd.Op |= op
	return nil
}

// number reads the number of a rule, if the next word is no option.
func (p *parser) number() *Error {
	w, ok := p.more()
	if !ok {
		return nil
	}
	n, err := parseNumber(w.text, 1, math.MaxInt32)
	if err != nil {
		return errorf("Invalid rule number `%s'", w.text).at(w.offset)
	}
	p.cmd.Number, p.cmd.numberAt = int(n), w.offset
	return nil
}

// numberOf reads the number of a rule, which makes another operation of the command.
func (p *parser) numberOf(op Op) *Error {
	before := p.next
	if err := p.number(); err != nil || p.next == before {
		return err
	}
	p.cmd.Op = op
	return nil
}

func (p *parser) optionalChain(value string) *Error {
	if value != "" {
		return nil
	}
	if w, ok := p.more(); ok {
		p.cmd.Chain, p.cmd.chainAt = w.text, w.offset
	}
	return nil
}

func (p *parser) chainAndNumber(value string) *Error {
	if err := p.optionalChain(value); err != nil {
		return err
	}
	return p.number()
}

// second reads the second word of a command.
func (p *parser) second(to *string, message string) *Error {
	w, ok := p.more()
	if !ok {
		return errorf("%s", message)
	}
	*to, p.cmd.policyAt = w.text, w.offset
	return nil
}

// setCounters reads -c PACKETS BYTES, or both in one word with a comma.
func (p *parser) setCounters(value string) *Error {
	packets, bytes, hasBytes := strings.Cut(value, ",")
	if !hasBytes {
		w, ok := p.more()
		if !ok {
			return errorf("-c requires packet and byte counter")
		}
		bytes = w.text
	}
	var err error
	if p.cmd.packets, err = strconv.ParseUint(packets, 10, 64); err != nil {
		return errorf("-c packet counter not numeric")
	}
	if p.cmd.bytes, err = strconv.ParseUint(bytes, 10, 64); err != nil {
		return errorf("-c byte counter not numeric")
	}
	p.cmd.hasCounters = true
	return nil
}

// maxChainName is the longest name of a chain, in bytes.
const maxChainName = 28

// checkNewChain refuses what cannot be the name of a chain.
func (p *parser) checkNewChain(name string) *Error {
	if name == "" && p.grammar == forTables {
		return errorf("chain name may not clash with target name")
	}
	return checkChain(name)
}

func checkChain(name string) *Error {
	switch {
	case len(name) > maxChainName:
		return errorf("chain name `%s' too long (must be under %d chars)", name, maxChainName+1)
	case name == "":
		return errorf("Invalid chain name `%s'", name)
	case name[0] == '-' || name[0] == '!':
		return errorf("chain name not allowed to start with `%c'", name[0])
	case isTarget(name):
		return errorf("chain name may not clash with target name")
	}
	if err := checkName("chain name", name, maxChainName); err != nil {
		return errorf("Invalid chain name `%s'", name).advise("%s", err.Advice)
	}
	return nil
}

func parsePolicy(text string) (rules.Target, *Error) {
	switch text {
	case "ACCEPT":
		return rules.Accept, nil
	case "DROP":
		return rules.Drop, nil
	}
	return 0, absent("Bad policy name.").advise("a policy is ACCEPT or DROP")
}
