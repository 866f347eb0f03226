package iptables

import (
	"fmt"
	"strings"
)

// newChain is -N.
func (d *doing) newChain() *Error {
	t := d.tables.change(d.Table)
	if t.Chain(d.Chain) != nil {
		return absent("Chain already exists.").at(d.chainAt)
	}
	if len(t.index) >= maxTableChains {
		return refusal("there are more than %d chains", maxTableChains).advise("usher bounds the chains of a table")
	}
	t.IsMade = true
	t.add(&Chain{Name: d.Chain})
	return nil
}

// deleteChain is -X. A chain is deleted if it is empty and no rule jumps to it; a built-in one is so in its first state.
func (d *doing) deleteChain() *Error {
	t := d.tables.change(d.Table)
	if d.Chain == "" {
		return d.deleteChains(t)
	}
	c := t.made(d.Chain)
	switch {
	case c == nil:
		return absent(noSuchChain).at(d.chainAt)
	case c.IsBuiltin && c.Policy != "ACCEPT":
		return absent("Directory not empty.").at(d.chainAt)
	}
	if d.Verbose && !c.IsBuiltin {
		fmt.Fprintf(&d.out, "Deleting chain `%s'\n", c.Name)
	}
	if len(c.Rules) > 0 || c.References > 0 {
		return chainInUse(c)
	}
	if c.IsBuiltin {
		t.own(c, false).isMade = false
		return nil
	}
	t.remove(c)
	return nil
}

func chainInUse(c *Chain) *Error {
	return kernelError("CHAIN_DEL", "Device or resource busy", "chain "+c.Name)
}

// deleteChains is -X for all chains.
func (d *doing) deleteChains(t *Table) *Error {
	all := t.inOrder()
	if d.Verbose {
		all = t.Chains()
	}
	var failed *Error
	for _, c := range all {
		switch {
		case c.IsBuiltin:
			if c.isMade && c.Policy == "ACCEPT" && len(c.Rules) == 0 {
				t.own(c, false).isMade = false
			}
			continue
		case d.Verbose:
			fmt.Fprintf(&d.out, "Deleting chain `%s'\n", c.Name)
		}
		if len(c.Rules) == 0 && c.References == 0 {
			t.remove(c)
		} else if failed == nil {
			failed = chainInUse(c)
		}
	}
	return failed
}

// renameChain is -E.
func (d *doing) renameChain() *Error {
	t := d.tables.change(d.Table)
	if t.Chain(d.NewName) != nil {
		return absent("File exists.")
	}
	c := t.Chain(d.Chain)
	if c == nil || c.IsBuiltin {
		return absent(noSuchChain).at(d.chainAt)
	}
	if err := checkChain(d.NewName); err != nil {
		return err
	}
	t.rename(c, d.NewName)
	return nil
}

// setPolicy is -P.
func (d *doing) setPolicy() *Error {
	t := d.tables.change(d.Table)
	c := t.Chain(d.Chain)
	if _, err := parsePolicy(d.Policy); err != nil {
		err.Advice = ""
		err.isInvalid = true
		return err.at(d.policyAt)
	}
	if c == nil || !c.IsBuiltin {
		return absent("Bad built-in chain name.").at(d.chainAt)
	}
	if d.options.CheckPolicy != nil {
		if err := d.options.CheckPolicy(t.Name, c.Name, d.Policy); err != nil {
			return err.(*Error)
		}
	}
	t.own(t.use(c), false).Policy = d.Policy
	return nil
}

// zero is -Z for a chain or all of them.
func (d *doing) zero() *Error {
	t := d.tables.change(d.Table)
	all := t.Chains()
	if d.Chain != "" {
		c := t.made(d.Chain)
		if c == nil && d.Op&(List|ListRules) != 0 {
			c = t.Chain(d.Chain)
		}
		if c == nil {
			return absent(noSuchChain).at(d.chainAt)
		}
		all = []*Chain{c}
	}
	for _, c := range all {
		if c.IsBuiltin && !c.isMade && d.Op&(List|ListRules) == 0 {
			continue
		}
		if c = t.use(c); d.Verbose {
			fmt.Fprintf(&d.out, "Zeroing chain `%s'\n", c.Name)
		}
		c = t.own(c, true)
		packets, bytes := d.options.Counters.ofPolicy(c)
		c.Packets, c.Bytes = c.Packets-packets, c.Bytes-bytes
		for i := range c.Rules {
			d.zeroRule(c, i)
		}
	}
	return nil
}

// zeroRule sets the counters of a rule to what its live ones say with the opposite sign.
func (d *doing) zeroRule(c *Chain, at int) {
	r := c.Rules[at]
	if packets, bytes := d.options.Counters.ofRule(r); packets != 0 || bytes != 0 {
		c.Rules[at] = r.withCounters(r.Packets-packets, r.Bytes-bytes)
	}
}

// zeroNumber is -Z for one rule. One that is not there is no error.
func (d *doing) zeroNumber() *Error {
	t := d.tables.change(d.Table)
	c := t.made(d.Chain)
	if c == nil {
		return absent(badRule).at(d.chainAt)
	}
	if d.Number <= len(c.Rules) {
		d.zeroRule(t.own(c, true), d.Number-1)
	}
	return nil
}

// listing returns the options of a listing.
func (d *doing) listing() *ListingOptions {
	return &ListingOptions{Verbose: d.Verbose, LineNumbers: d.LineNumbers, Exact: d.Exact, Numeric: d.Numeric,
		Names: d.options.Names, Counters: d.options.Counters}
}

// listed returns the chains that a listing shows.
func (d *doing) listed() ([]*Chain, *Error) {
	t := d.tables.Table(d.Table)
	if d.Chain == "" {
		return t.Chains(), nil
	}
	c := t.Chain(d.Chain)
	if c == nil {
		err := absent("chain `%s' in table `%s' is incompatible, use 'nft' tool.", d.Chain, d.Table).at(d.chainAt)
		err.isIncompatible = true
		return nil, err
	}
	return []*Chain{c}, nil
}

// list is -L.
func (d *doing) list() *Error {
	chains, err := d.listed()
	if err != nil {
		return err
	}
	o := d.listing()
	for i, c := range chains {
		if d.Number > 0 {
			if d.Number <= len(c.Rules) {
				writeRow(&d.out, d.Number, c.Rules[d.Number-1], o)
			}
			continue
		}
		if i > 0 {
			d.out.WriteByte('\n')
		}
		c.write(&d.out, o)
	}
	return nil
}

// listRules is -S.
func (d *doing) listRules() *Error {
	chains, err := d.listed()
	if err != nil {
		return err
	}
	for _, c := range chains {
		if d.Number == 0 {
			d.writeChain(c)
		}
	}
	for _, c := range chains {
		for i, r := range c.Rules {
			if d.Number == 0 || d.Number == i+1 {
				d.writeRule(c, r)
			}
		}
	}
	return nil
}

// writeChain writes the command that makes a chain.
func (d *doing) writeChain(c *Chain) {
	if !c.IsBuiltin {
		d.out.WriteString("-N " + c.Name + "\n")
		return
	}
	d.out.WriteString("-P " + c.Name + " " + c.Policy)
	if d.Verbose {
		packets, bytes := d.options.Counters.ofPolicy(c)
		fmt.Fprintf(&d.out, " -c %d %d", packets, bytes)
	}
	d.out.WriteByte('\n')
}

func (d *doing) writeRule(c *Chain, r *Rule) {
	d.out.WriteString("-A " + c.Name)
	r.saveConditions(&d.out)
	if d.Verbose {
		packets, bytes := d.options.Counters.ofRule(r)
		fmt.Fprintf(&d.out, " -c %d %d", packets, bytes)
	}
	saveTarget(&d.out, r)
	d.out.WriteByte('\n')
}

// invalid returns the error of the kernel for a rule that it refuses in a chain; empty: none.
func invalid(table string, c *Chain, r *Rule) string {
	in := func(chains string) bool { return !c.IsBuiltin || strings.Contains(chains, c.Name) }
	isValid := true
	switch r.Target {
	case "DNAT", "REDIRECT":
		isValid = table == "nat" && in("PREROUTING OUTPUT")
	case "MASQUERADE":
		isValid = table == "nat" && in("POSTROUTING")
	case "SNAT":
		isValid = table == "nat" && in("POSTROUTING INPUT")
	case "REJECT":
		o, _ := r.Options.(*Reject)
		isValid = in("INPUT FORWARD OUTPUT") && (o == nil || o.With != rejectReset || r.isTCP())
	}
	if !isValid || !r.fitsProtocol() || isNever(r.Source) || isNever(r.Destination) {
		return "Invalid argument"
	}
	return ""
}
