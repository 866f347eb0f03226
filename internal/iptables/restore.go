package iptables

import (
	"fmt"
	"strconv"
	"strings"
)

// RestoreOptions are those of iptables-restore.
type RestoreOptions struct {
	Options
	Counted  bool   // takes the counters of the text
	KeepAll  bool   // --noflush: a table keeps what the text does not name
	Test     bool   // changes nothing
	Verbose  bool   // prints comments and what changes
	Table    string // the only one that is changed; empty: all
	Resolver Resolver
	// Refused is told of lines that usher cannot do; they are left out. Nil: the first one is the error.
	Refused func(table string, line int, text string, err *Error)
}

// Restore changes tables as iptables-restore does: each table at its COMMIT, or not at all. It returns what the program
// prints. The error is an *Error with the number of its line; tables that were committed before it are changed.
func Restore(t *Tables, text string, o RestoreOptions) (string, error) {
	r := restoring{o: o, tables: t, parser: parser{grammar: forTables, isRestore: true, resolver: o.Resolver}}
	for line := range strings.Lines(text) {
		r.line++
		if err := r.read(strings.TrimSuffix(line, "\n"), line); err != nil {
			return r.out.String(), r.place(err)
		}
	}
	if r.table != "" {
		err := absent("COMMIT expected at line %d", r.line+1)
		err.isPlain = true
		return r.out.String(), r.place(err)
	}
	return r.out.String(), nil
}

// restoring is a text that is being read.
type restoring struct {
	o      RestoreOptions
	tables *Tables // with the tables that were committed
	parser parser
	out    strings.Builder
	line   int
	table  string // empty: before a table or behind its COMMIT
	seen   bool   // some table was named, so that -T leaves out what follows
	queue  []queued
}

// queued is a line of a table that waits for its COMMIT.
type queued struct {
	line int
	text string
	do   func(t *Tables, o Options) (string, error)
}

// place gives an error the number of its line.
func (r *restoring) place(err *Error) *Error {
	if err.Line == 0 {
		err.Line = r.line
	}
	return err.at(0)
}

// read reads a line.
func (r *restoring) read(line, whole string) *Error {
	switch {
	case line == "":
		return nil
	case line[0] == '#':
		if r.o.Verbose {
			r.out.WriteString(whole)
		}
		return nil
	case len(line) > maxRestoreLine:
		return errorf("a line has at most %d bytes, not %d", maxRestoreLine, len(line))
	case r.table != "" && line == "COMMIT":
		return r.commit()
	case r.table == "" && line[0] == '*':
		return r.begin(line[1:])
	case r.table == "" && r.isLeftOut():
		return nil
	case r.table == "":
		err := absent("line %d failed", r.line)
		err.isPlain = true
		return err
	case line[0] == ':':
		return r.chain(line[1:])
	}
	return r.command(line)
}

// maxRestoreLine bounds a line, as iptables-restore does.
const maxRestoreLine = 10 << 10

// isLeftOut reports whether lines are of a table that -T leaves out.
func (r *restoring) isLeftOut() bool { return r.seen && r.o.Table != "" }

// begin begins a table.
func (r *restoring) begin(line string) *Error {
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
		return errorf("iptables-restore: line %d table name invalid", r.line)
	case builtinTable(words[0]) < 0:
		return errorf("iptables-restore: line %d table name '%s' invalid", r.line, words[0])
	}
	r.seen = true
	if r.o.Table != "" && r.o.Table != words[0] {
		return nil
	}
	r.table, r.queue = words[0], nil
	if r.o.KeepAll {
		return nil
	}
	if r.o.Verbose {
		r.enqueue("", (&Command{Table: r.table, Op: Flush, Verbose: true}).Do)
		r.enqueue("", (&Command{Table: r.table, Op: DeleteChain, Verbose: true}).Do)
		return nil
	}
	name := r.table
	r.enqueue("", func(t *Tables, _ Options) (string, error) {
		if t.Table(name).IsMade {
			t.reset(name)
		}
		return "", nil
	})
	return nil
}

func (r *restoring) enqueue(text string, do func(*Tables, Options) (string, error)) {
	r.queue = append(r.queue, queued{r.line, text, do})
}

// chain reads a line that makes a chain, or sets the policy of a built-in one.
func (r *restoring) chain(line string) *Error {
	words := strings.Fields(line)
	if len(words) == 0 {
		return errorf("iptables-restore: line %d chain name invalid", r.line)
	}
	name := words[0]
	if err := checkChain(name); err != nil {
		return err
	}
	if len(words) < 2 {
		return errorf("iptables-restore: line %d policy invalid", r.line)
	}
	table, policy := r.table, words[1]
	c := r.tables.Table(table).Chain(name)
	if c == nil || !c.IsBuiltin {
		r.enqueue(":"+line, func(t *Tables, o Options) (string, error) { return "", makeChain(t, table, name) })
		return nil
	}
	cmd := &Command{Table: table, Op: SetPolicy, Chain: name, Policy: policy}
	if r.o.Counted {
		var ok bool
		if len(words) > 2 {
			cmd.packets, cmd.bytes, ok = parseCounters(words[2])
		}
		if !ok {
			return errorf("invalid policy counters for chain '%s'", name)
		}
	}
	r.enqueue(":"+line, cmd.setChain)
	return nil
}

// makeChain makes a user chain, or an empty one of it.
func makeChain(t *Tables, table, name string) error {
	to := t.change(table)
	to.IsMade = true
	if c := to.Chain(name); c != nil {
		to.flush(c)
		return nil
	}
	if len(to.index) >= maxTableChains {
		return refusal("there are more than %d chains", maxTableChains).advise("usher bounds the chains of a table")
	}
	to.add(&Chain{Name: name})
	return nil
}

// setChain sets the policy and the counters of a built-in chain. The policy - is that which it has.
func (c *Command) setChain(t *Tables, o Options) (string, error) {
	if c.Policy == "-" {
		to := t.change(c.Table)
		to.use(to.Chain(c.Chain))
		return "", nil
	}
	if _, err := c.Do(t, o); err != nil {
		return "", err
	}
	to := t.change(c.Table)
	chain := to.own(to.Chain(c.Chain), false)
	packets, bytes := o.Counters.ofPolicy(chain)
	chain.Packets, chain.Bytes = chain.Packets+c.packets-packets, chain.Bytes+c.bytes-bytes
	return "", nil
}

// parseCounters reads [PACKETS:BYTES].
func parseCounters(text string) (packets, bytes uint64, ok bool) {
	if len(text) < 2 || text[0] != '[' || text[len(text)-1] != ']' {
		return 0, 0, false
	}
	p, b, _ := strings.Cut(text[1:len(text)-1], ":")
	var err [2]error
	packets, err[0] = strconv.ParseUint(p, 10, 64)
	bytes, err[1] = strconv.ParseUint(b, 10, 64)
	return packets, bytes, err[0] == nil && err[1] == nil
}

// command reads a line in iptables' words, with counters before it or not.
func (r *restoring) command(line string) *Error {
	rest, counters := line, ""
	if line[0] == '[' {
		var found bool
		if counters, rest, found = strings.Cut(line, "]"); !found {
			return errorf("Bad line %d: need ]", r.line)
		}
		counters += "]"
		if len(counters) > 2 && !strings.Contains(counters, ":") {
			return errorf("Bad line %d: need ]", r.line)
		}
	}
	words, err := split(rest)
	if err != nil {
		return r.refuse(line, err)
	}
	r.parser.table = r.table
	if err := r.parser.parse(words, len(rest)); err != nil {
		return r.refuse(line, err)
	}
	cmd := r.parser.cmd
	cmd.Verbose = cmd.Verbose || r.o.Verbose && !r.o.KeepAll
	if packets, bytes, ok := parseCounters(counters); ok && r.o.Counted {
		for _, rule := range cmd.Rules {
			rule.Packets, rule.Bytes = packets, bytes
		}
	}
	r.enqueue(line, cmd.Do)
	return nil
}

// refuse leaves a line out that usher cannot do, if the caller wants to be told of it.
func (r *restoring) refuse(line string, err *Error) *Error {
	if !err.IsRefusal || r.o.Refused == nil {
		return err
	}
	err.Line = r.line
	r.o.Refused(r.table, r.line, line, err)
	return nil
}

// commit carries out the lines of a table.
func (r *restoring) commit() *Error {
	name, end := r.table, r.line
	r.table = ""
	after := r.tables.Clone()
	var refused []*Error
	for _, q := range r.queue {
		out, failed := q.do(after, r.o.Options)
		r.out.WriteString(out)
		if failed == nil {
			continue
		}
		err := failed.(*Error)
		if err.IsRefusal && r.o.Refused != nil {
			err.Line = q.line
			r.o.Refused(name, q.line, q.text, err)
			continue
		}
		if err.Status == statusRefused && !err.IsRefusal {
			err.Message = fmt.Sprintf("\nline %d:%s", q.line, err.Message)
			refused = append(refused, err)
			continue
		}
		if err.Line = q.line; err.Status == statusUsage {
			err.Line = end
		}
		return err
	}
	if len(refused) > 0 {
		for _, e := range refused[1:] {
			refused[0].Message += e.Message
		}
		return refused[0]
	}
	if !r.o.Test {
		r.tables.tables = after.tables
		r.tables.owned = [len(tableNames)]bool{}
	}
	return nil
}
