package iptables

import (
	"cmp"
	"maps"
	"slices"
)

// Tables are the tables of iptables. One that was cloned must not change any more: its readers keep it.
type Tables struct {
	tables [len(tableNames)]*Table
	owned  [len(tableNames)]bool // made by this copy, which may change them in place
}

// tableNames are the tables, in the order of iptables-save.
var tableNames = [...]string{"mangle", "raw", "filter", "nat"}

// builtinChains returns the built-in chains of a table, in the order of a listing.
func builtinChains(table string) []string {
	switch table {
	case "filter":
		return []string{"INPUT", "FORWARD", "OUTPUT"}
	case "nat":
		return []string{"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}
	case "raw":
		return []string{"PREROUTING", "OUTPUT"}
	}
	return []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
}

// Table is one table.
type Table struct {
	Name    string
	IsMade  bool           // a command has used it: iptables-save writes it from then on
	chains  []*Chain       // the built-in ones, then the others in the order in which they were made; nil: it is removed
	index   map[string]int // of chains by name
	removed int            // chains that are nil
	rules   int
	jumps   jumps
	ownsMap bool            // the index is of this copy
	owned   map[*Chain]bool // chains of this copy: whether their rules are, too
}

// Chain is a chain of a table. Callers must not change it.
type Chain struct {
	Name           string
	IsBuiltin      bool
	Policy         string // of a built-in chain: ACCEPT or DROP
	Packets, Bytes uint64 // that the policy decided, beyond what its live counter says
	References     int    // rules that jump or go to it
	Rules          []*Rule

	isMade bool // a built-in chain has been used
}

// NewTables returns the tables of a machine on which no command has run.
func NewTables() *Tables {
	t := &Tables{}
	for i, name := range tableNames {
		t.tables[i], t.owned[i] = newTable(name), true
	}
	return t
}

func newTable(name string) *Table {
	t := &Table{Name: name, index: make(map[string]int), ownsMap: true, owned: make(map[*Chain]bool)}
	for _, chain := range builtinChains(name) {
		t.add(&Chain{Name: chain, IsBuiltin: true, Policy: "ACCEPT"})
	}
	return t
}

// Clone returns a copy, which shares with the original all that neither changes. It costs the same for any number of
// rules.
func (t *Tables) Clone() *Tables { return &Tables{tables: t.tables} }

// All returns the tables in the order of iptables-save.
func (t *Tables) All() []*Table { return t.tables[:] }

// Table returns a table by name; nil: there is none.
func (t *Tables) Table(name string) *Table {
	if i := builtinTable(name); i >= 0 {
		return t.tables[i]
	}
	return nil
}

// builtinTable returns the index of a table, or -1.
func builtinTable(name string) int { return slices.Index(tableNames[:], name) }

// change returns a table that may be changed in place.
func (t *Tables) change(name string) *Table {
	i := builtinTable(name)
	if !t.owned[i] {
		table := *t.tables[i]
		table.chains, table.ownsMap, table.owned = slices.Clone(table.chains), false, make(map[*Chain]bool)
		table.jumps = jumps{}
		t.tables[i], t.owned[i] = &table, true
	}
	return t.tables[i]
}

// reset makes a table as no command has used it.
func (t *Tables) reset(name string) *Table {
	i := builtinTable(name)
	t.tables[i], t.owned[i] = newTable(name), true
	return t.tables[i]
}

// Chain returns a chain by name; nil: there is none.
func (t *Table) Chain(name string) *Chain {
	if i, ok := t.index[name]; ok {
		return t.chains[i]
	}
	return nil
}

// made returns a chain that is there in a kernel, too: a built-in one is from its first use on.
func (t *Table) made(name string) *Chain {
	if c := t.Chain(name); c != nil && (c.isMade || !c.IsBuiltin) {
		return c
	}
	return nil
}

// Chains returns the chains in the order of every output: the built-in ones, then the others by name.
func (t *Table) Chains() []*Chain {
	all := t.inOrder()
	builtin := len(builtinChains(t.Name))
	slices.SortFunc(all[builtin:], func(a, b *Chain) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// inOrder returns the chains in the order in which they were made.
func (t *Table) inOrder() []*Chain {
	all := make([]*Chain, 0, len(t.chains)-t.removed)
	for _, c := range t.chains {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// Len returns how many rules there are.
func (t *Table) Len() int { return t.rules }

// add adds a chain.
func (t *Table) add(c *Chain) {
	t.ownMap()
	t.index[c.Name] = len(t.chains)
	t.chains = append(t.chains, c)
	t.owned[c] = true
}

// remove removes a user chain.
func (t *Table) remove(c *Chain) {
	t.ownMap()
	t.chains[t.index[c.Name]] = nil
	delete(t.index, c.Name)
	if t.removed++; t.removed > len(t.chains)/2 {
		t.chains = t.inOrder()
		t.removed = 0
		for i, c := range t.chains {
			t.index[c.Name] = i
		}
	}
}

// rename gives a user chain another name, also in the rules that jump to it.
func (t *Table) rename(c *Chain, name string) {
	t.ownMap()
	t.jumps = jumps{}
	at := t.index[c.Name]
	old := c.Name
	delete(t.index, old)
	t.index[name] = at
	renamed := *c
	renamed.Name = name
	renamed.Rules = slices.Clone(c.Rules)
	t.chains[at] = &renamed
	t.owned[&renamed] = true
	if renamed.References == 0 {
		return
	}
	for _, from := range t.inOrder() {
		for i, r := range from.Rules {
			if r.IsJump && r.Target == old {
				from = t.own(from, true)
				other := *r
				other.Target, other.origin = name, nil
				from.Rules[i] = &other
			}
		}
	}
}

func (t *Table) ownMap() {
	if !t.ownsMap {
		t.index, t.ownsMap = maps.Clone(t.index), true
	}
}

// own returns a chain that may be changed in place, and its rules as well if withRules is set.
func (t *Table) own(c *Chain, withRules bool) *Chain {
	ownsRules, isOwned := t.owned[c]
	if !isOwned {
		other := *c
		other.Rules = slices.Clip(other.Rules)
		t.chains[t.index[c.Name]] = &other
		c = &other
	}
	if withRules && !ownsRules {
		c.Rules = slices.Clone(c.Rules)
	}
	t.owned[c] = ownsRules || withRules
	return c
}

// use makes a built-in chain one that is there in a kernel, and the table, too.
func (t *Table) use(c *Chain) *Chain {
	t.IsMade = true
	if c == nil || !c.IsBuiltin || c.isMade {
		return c
	}
	c = t.own(c, false)
	c.isMade = true
	return c
}

// insert inserts a rule at an index.
func (t *Table) insert(c *Chain, at int, r *Rule) {
	c = t.own(c, false)
	c.Rules = slices.Insert(c.Rules, at, r)
	t.owned[c] = true // they were clipped, so that they are a copy now
	t.rules++
	t.refer(c, r, 1)
}

// delete removes the rule at an index.
func (t *Table) delete(c *Chain, at int) {
	c = t.own(c, true)
	r := c.Rules[at]
	c.Rules = slices.Delete(c.Rules, at, at+1)
	t.rules--
	t.refer(c, r, -1)
}

// replace puts a rule in place of the one at an index.
func (t *Table) replace(c *Chain, at int, r *Rule) {
	c = t.own(c, true)
	old := c.Rules[at]
	c.Rules[at] = r
	t.refer(c, r, 1)
	t.refer(c, old, -1)
}

// flush removes all rules of a chain.
func (t *Table) flush(c *Chain) {
	if len(c.Rules) == 0 {
		return
	}
	rules := c.Rules
	c = t.own(c, false)
	c.Rules = nil
	t.rules -= len(rules)
	for _, r := range rules {
		t.refer(c, r, -1)
	}
}

// refer counts a rule that jumps to a chain, or did.
func (t *Table) refer(from *Chain, r *Rule, n int) {
	if !r.IsJump {
		return
	}
	if to := t.Chain(r.Target); to != nil {
		t.own(to, false).References += n
	}
	t.jumps.count(jump{from.Name, r.Target}, n)
}
