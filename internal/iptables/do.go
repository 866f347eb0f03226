package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// Options say how commands are done. The zero ones do all that iptables does, and count nothing.
type Options struct {
	Names    Names
	Counters Counters
	// Check refuses rules that nothing can be made of, and CheckPolicy policies. The error is an *Error.
	Check       func(table, chain string, r *Rule) error
	CheckPolicy func(table, chain, policy string) error
}

// Do does the command, and returns what it prints. The error is an *Error; the tables are spoilt then, so that callers
// give a clone. A command that only reads does not change them.
func (c *Command) Do(t *Tables, o Options) (string, error) {
	d := doing{Command: c, tables: t, options: o}
	if err := d.do(); err != nil {
		return d.out.String(), err.at(0)
	}
	return d.out.String(), nil
}

// doing is a command that is being done.
type doing struct {
	*Command
	tables  *Tables
	options Options
	out     strings.Builder
}

func (d *doing) do() *Error {
	switch d.Op {
	case PrintVersion:
		d.out.WriteString("iptables " + Version + "\n")
		return nil
	case PrintHelp:
		d.out.WriteString(Help)
		return nil
	case Append, Insert:
		return d.add()
	case Delete:
		return d.deleteRules()
	case DeleteNumber:
		return d.deleteNumber()
	case Replace:
		return d.replaceRule()
	case CheckRule:
		return d.checkRules()
	case Flush:
		return d.flush()
	case NewChain:
		return d.newChain()
	case DeleteChain:
		return d.deleteChain()
	case RenameChain:
		return d.renameChain()
	case SetPolicy:
		return d.setPolicy()
	}
	return d.listAndZero()
}

func (d *doing) listAndZero() *Error {
	switch {
	case d.Op&List != 0:
		if err := d.list(); err != nil {
			return err
		}
	case d.Op&ListRules != 0:
		if err := d.listRules(); err != nil {
			return err
		}
	}
	switch {
	case d.Op&Zero != 0:
		return d.zero()
	case d.Op&ZeroNumber != 0:
		return d.zeroNumber()
	}
	return nil
}

const (
	noSuchChain = "No chain/target/match by that name."
	badRule     = "Bad rule (does a matching rule exist in that chain?)."
)

// checkTarget refuses a rule whose target is no chain.
func (d *doing) checkTarget(t *Table, r *Rule) *Error {
	if r.IsJump && t.Chain(r.Target) == nil {
		return errorf("Chain '%s' does not exist", r.Target).at(d.targetAt)
	}
	return nil
}

// admit refuses a rule that the kernel would refuse, or that nothing can be made of. change is the kernel's word.
func (d *doing) admit(t *Table, c *Chain, r *Rule, change string) *Error {
	if reason := invalid(t.Name, c, r); reason != "" {
		return kernelError(change, reason, "rule in chain "+c.Name)
	}
	if to := t.Chain(r.Target); r.IsJump && to.IsBuiltin {
		reason := "No such file or directory"
		if to.isMade {
			reason = "Operation not supported"
		}
		return kernelError(change, reason, "rule in chain "+c.Name)
	}
	if d.options.Check != nil {
		if err := d.options.Check(t.Name, c.Name, r); err != nil {
			return err.(*Error)
		}
	}
	if t.rules >= maxRules {
		return refusal("there are more than %d rules", maxRules).advise("usher bounds the rules of a table")
	}
	return nil
}

// add is -A and -I.
func (d *doing) add() *Error {
	t := d.tables.change(d.Table)
	change := "RULE_APPEND"
	if d.Op == Insert {
		change = "RULE_INSERT"
	}
	for _, r := range d.Rules {
		if err := d.checkTarget(t, r); err != nil {
			return err
		}
		if d.Verbose && d.Op == Append {
			writeChanged(&d.out, r)
		}
		c := t.use(t.Chain(d.Chain))
		if c == nil {
			return absent(noSuchChain).at(d.chainAt)
		}
		at := len(c.Rules)
		if d.Op == Insert {
			if at = max(d.Number, 1) - 1; at > len(c.Rules) {
				return absent("Index of insertion too big.").at(d.numberAt)
			}
		}
		if d.Verbose && d.Op == Insert {
			writeChanged(&d.out, r)
		}
		if at == len(c.Rules) && at > 0 {
			change = "RULE_APPEND"
		}
		if err := d.admit(t, c, r, change); err != nil {
			return err
		}
		t.insert(c, at, r)
	}
	return d.checkLoops(t, change)
}

// checkLoops refuses jumps that do not end.
func (d *doing) checkLoops(t *Table, change string) *Error {
	if t.checkJumps() {
		return nil
	}
	return kernelError(change, "Too many links", "rule in chain "+t.jumps.last.from)
}

// find returns the index of a rule of a chain, or -1.
func (d *doing) find(t *Table, r *Rule) (*Chain, int) {
	c := t.made(d.Chain)
	if c == nil {
		return nil, -1
	}
	text := r.String()
	return c, slices.IndexFunc(c.Rules, func(other *Rule) bool { return other.isLike(r) && other.String() == text })
}

// isLike compares what is cheap to compare.
func (r *Rule) isLike(other *Rule) bool {
	return r.Target == other.Target && r.Source == other.Source && r.Destination == other.Destination &&
		r.Protocol == other.Protocol && len(r.Matches) == len(other.Matches)
}

// deleteRules is -D with a rule.
func (d *doing) deleteRules() *Error {
	t := d.tables.change(d.Table)
	for _, r := range d.Rules {
		if err := d.checkTarget(t, r); err != nil {
			return err
		}
		c, at := d.find(t, r)
		if at < 0 {
			return absent(badRule)
		}
		if d.Verbose {
			writeChanged(&d.out, c.Rules[at])
		}
		t.delete(c, at)
	}
	return nil
}

// deleteNumber is -D with a number.
func (d *doing) deleteNumber() *Error {
	t := d.tables.change(d.Table)
	c := t.made(d.Chain)
	switch {
	case c == nil:
		return absent(noSuchChain).at(d.chainAt)
	case d.Number > len(c.Rules):
		return absent("Index of deletion too big.").at(d.numberAt)
	}
	t.delete(c, d.Number-1)
	return nil
}

// replaceRule is -R.
func (d *doing) replaceRule() *Error {
	t := d.tables.change(d.Table)
	r := d.Rules[0]
	if err := d.checkTarget(t, r); err != nil {
		return err
	}
	c := t.made(d.Chain)
	switch {
	case c == nil:
		return absent(noSuchChain).at(d.chainAt)
	case d.Number > len(c.Rules):
		return absent("Index of replacement too big.").at(d.numberAt)
	}
	if d.Verbose {
		writeChanged(&d.out, r)
	}
	if err := d.admit(t, c, r, "RULE_REPLACE"); err != nil {
		return err
	}
	t.replace(c, d.Number-1, r)
	return d.checkLoops(t, "RULE_REPLACE")
}

// checkRules is -C.
func (d *doing) checkRules() *Error {
	t := d.tables.Table(d.Table)
	for _, r := range d.Rules {
		if err := d.checkTarget(t, r); err != nil {
			return err
		}
		c, at := d.find(t, r)
		if at < 0 {
			return absent(badRule)
		}
		if d.Verbose {
			writeChanged(&d.out, c.Rules[at])
		}
	}
	return nil
}

// flush is -F.
func (d *doing) flush() *Error {
	t := d.tables.Table(d.Table)
	if d.Chain != "" {
		t = d.tables.change(d.Table)
		c := t.use(t.Chain(d.Chain))
		if c == nil {
			return absent(noSuchChain).at(d.chainAt)
		}
		if d.Verbose {
			fmt.Fprintf(&d.out, "Flushing chain `%s'\n", c.Name)
		}
		t.flush(c)
		return nil
	}
	if !t.IsMade && !d.Verbose {
		return nil
	}
	t = d.tables.change(d.Table)
	for _, c := range t.Chains() {
		if d.Verbose {
			fmt.Fprintf(&d.out, "Flushing chain `%s'\n", c.Name)
			c = t.use(c)
		}
		t.flush(t.Chain(c.Name))
	}
	return nil
}
