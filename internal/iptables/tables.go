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
	Name     string
	IsMade   bool // a command has used it: iptables-save writes it from then on
	builtin  []*Chain
	user     map[string]*Chain
	ownsUser bool            // the map is of this copy
	owned    map[*Chain]bool // chains that are of this copy
	rules    int
}

// Chain is a chain of a table. Callers must not change it.
type Chain struct {
	Name           string
	IsBuiltin      bool
	Policy         string // of a built-in chain: ACCEPT or DROP
	Packets, Bytes uint64 // that the policy decided, beyond what its live counter says
	References     int    // rules that jump or go to it
	Rules          []*Rule
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
	t := &Table{Name: name, user: make(map[string]*Chain), ownsUser: true, owned: make(map[*Chain]bool)}
	for _, chain := range builtinChains(name) {
		c := &Chain{Name: chain, IsBuiltin: true, Policy: "ACCEPT"}
		t.builtin = append(t.builtin, c)
		t.owned[c] = true
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
	if i := slices.Index(tableNames[:], name); i >= 0 {
		return t.tables[i]
	}
	return nil
}

// Replace takes a table of other tables in place of the one of its name.
func (t *Tables) Replace(table *Table) {
	i := slices.Index(tableNames[:], table.Name)
	t.tables[i], t.owned[i] = table, false
}

// change returns a table that may be changed in place.
func (t *Tables) change(name string) *Table {
	i := slices.Index(tableNames[:], name)
	if !t.owned[i] {
		table := *t.tables[i]
		table.builtin, table.ownsUser, table.owned = slices.Clone(table.builtin), false, make(map[*Chain]bool)
		t.tables[i], t.owned[i] = &table, true
	}
	return t.tables[i]
}

// Chain returns a chain by name; nil: there is none.
func (t *Table) Chain(name string) *Chain {
	for _, c := range t.builtin {
		if c.Name == name {
			return c
		}
	}
	return t.user[name]
}

// Chains returns the chains in the order of every output: the built-in ones, then the others by name.
func (t *Table) Chains() []*Chain {
	user := slices.SortedFunc(maps.Values(t.user), func(a, b *Chain) int { return cmp.Compare(a.Name, b.Name) })
	return slices.Concat(t.builtin, user)
}

// Len returns how many rules there are.
func (t *Table) Len() int { return t.rules }
