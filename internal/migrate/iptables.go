package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"usher/internal/config"
	"usher/internal/iptables"
	"usher/internal/iptables/nat"
)

// readIPTables makes rules of the chains that INPUT of the table filter comes to, and services of the tables nat and mangle.
func readIPTables(b *builder, text string) error {
	r := &tablesReader{b: b, lines: make(map[int]*statement), appended: make(map[chainName][]*statement)}
	r.split(text)
	tables := iptables.NewTables()
	_, err := iptables.Restore(tables, text, iptables.RestoreOptions{Refused: r.refuse})
	if e, ok := errors.AsType[*iptables.Error](err); ok && e != nil {
		return lineError(e)
	}
	r.readServices(tables)
	r.readFilter(tables.Table("filter"))
	b.reason = func(s *statement) (string, bool) { return r.rest(s) }
	return nil
}

// chainName names a chain of a table.
type chainName struct{ table, chain string }

// tablesReader finds the lines of a text that rules are from.
type tablesReader struct {
	b         *builder
	lines     map[int]*statement
	tables    map[*statement]string
	appended  map[chainName][]*statement // -A, in their order, without those that are refused
	headers   map[chainName]*statement   // :CHAIN
	forwarded []*config.Service          // whose clients do not pass INPUT where iptables runs
}

// split enters the lines of a text.
func (r *tablesReader) split(text string) {
	r.tables, r.headers = make(map[*statement]string), make(map[chainName]*statement)
	number, table := 0, ""
	for line := range strings.Lines(text) {
		number++
		bare := strings.TrimSpace(line)
		if bare == "" || bare[0] == '#' {
			continue
		}
		s := &statement{line: number, last: number, text: bare}
		if bare[0] == '[' {
			_, bare, _ = strings.Cut(bare, "]")
		}
		s.words = strings.Fields(bare)
		if len(s.words) == 0 {
			continue
		}
		r.b.add(s)
		r.lines[number] = s
		switch {
		case bare[0] == '*':
			table = bare[1:]
			s.done()
		case bare == "COMMIT":
			s.done()
		case bare[0] == ':':
			r.headers[chainName{table, s.words[0][1:]}] = s
		case s.words[0] == "-A" || s.words[0] == "--append":
			key := chainName{table, s.has(1)}
			r.appended[key] = append(r.appended[key], s)
		}
		r.tables[s] = table
	}
}

// refuse notes a line that usher cannot do.
func (r *tablesReader) refuse(table string, line int, _ string, err *iptables.Error) {
	if s := r.lines[line]; s != nil {
		r.b.lose(s, "", "%s", err.Error())
	}
}

// lineError is the error of a text that is none of iptables-save.
func lineError(err *iptables.Error) error {
	return fmt.Errorf("line %d: %s", err.Line, strings.TrimSpace(err.Error()))
}

// linesOf returns the lines that the rules of a chain are from, or nil if that cannot be told.
func (r *tablesReader) linesOf(table string, c *iptables.Chain) []*statement {
	var kept []*statement
	for _, s := range r.appended[chainName{table, c.Name}] {
		if !s.isMet {
			kept = append(kept, s)
		}
	}
	if len(kept) != len(c.Rules) {
		return nil
	}
	return kept
}

// readServices makes services of the tables nat and mangle.
func (r *tablesReader) readServices(tables *iptables.Tables) {
	lines := make(map[*iptables.Rule]*statement)
	var all []*statement
	for _, name := range []string{"nat", "mangle", "raw"} {
		table := tables.Table(name)
		for _, c := range table.Chains() {
			from := r.linesOf(name, c)
			for i, s := range from {
				lines[c.Rules[i]] = s
			}
			all = append(all, from...)
		}
	}
	result := nat.Plan(tables, &nat.Env{})
	for _, rest := range result.Rest {
		s := lines[rest.Rule]
		if s == nil {
			s = r.headers[chainName{rest.Table, rest.Chain}]
		}
		switch {
		case s == nil:
		case rest.IsServed:
			r.b.tell(s, "", "%s", rest.Reason)
		default:
			r.b.lose(s, "", "%s", rest.Reason)
		}
	}
	for i, s := range result.Services {
		var from *statement
		for _, rules := range result.Origins[i].Backends {
			if len(rules) > 0 && from == nil {
				from = lines[rules[len(rules)-1]]
			}
		}
		if from == nil {
			from = &statement{text: s.Name}
		}
		r.b.ready(s, from)
		if !slices.ContainsFunc(s.Backends, func(b config.Backend) bool { return b.Addr.IP.IsLoopback() }) {
			r.forwarded = append(r.forwarded, s)
		}
	}
	r.loseMarks(tables.Table("mangle"), result.Marks)
	for _, g := range result.Guards {
		r.b.rules = append(r.b.rules, &word{g.Line, &statement{text: g.Line}})
	}
	for _, s := range all {
		s.done()
	}
}

// loseMarks says of rules that name addresses for ipvsadm -f where the servers of these are.
func (r *tablesReader) loseMarks(table *iptables.Table, marks map[uint32][]config.Addr) {
	for _, c := range table.Chains() {
		for i, s := range r.linesOf("mangle", c) {
			mark, isMark := c.Rules[i].Options.(*iptables.Mark)
			if isMark && len(marks[mark.Value]) > 0 {
				r.b.lose(s, "", "a mark has its servers in ipvsadm: give those of -f %d a service with these addresses", mark.Value)
			}
		}
	}
}

// readFilter makes rules of the chains that INPUT comes to.
func (r *tablesReader) readFilter(table *iptables.Table) {
	input := table.Chain("INPUT")
	if input == nil {
		return
	}
	header := r.headers[chainName{"filter", "INPUT"}]
	if header != nil && (input.Policy != "ACCEPT" || len(input.Rules) > 0) {
		r.letIn(header)
	}
	reached := reachedFrom(table, input)
	for _, c := range reached[1:] {
		s := r.headers[chainName{"filter", c.Name}]
		if s == nil {
			continue
		}
		s.done()
		r.b.rules = append(r.b.rules, &word{"-N " + c.Name, s})
	}
	for _, c := range reached {
		from := r.linesOf("filter", c)
		for i, rule := range c.Rules {
			if from == nil {
				break
			}
			if _, err := rule.Front(); err != nil {
				r.b.lose(from[i], "", "%s", err.Error())
				continue
			}
			from[i].done()
			r.b.rules = append(r.b.rules, &word{strings.Join(cutCounters(from[i].text), " "), from[i]})
		}
	}
	if header == nil {
		return
	}
	header.done()
	if input.Policy != "ACCEPT" {
		r.b.policy = input.Policy
	}
}

// letIn lets in whom INPUT does not judge where iptables runs: clients that are sent on to another machine.
func (r *tablesReader) letIn(header *statement) {
	for _, s := range r.forwarded {
		for _, l := range s.Listeners {
			line := "-A INPUT"
			if l.IP.IsValid() && !l.IP.IsUnspecified() {
				line += " -d " + l.IP.String()
			}
			line += fmt.Sprintf(" -p %s --dport %d", l.Network, l.Port)
			if l.Ports > 1 {
				line += fmt.Sprintf(":%d", int(l.Port)+l.Ports-1)
			}
			r.b.rules = append(r.b.rules, &word{line + " -j ACCEPT", header})
			r.b.tell(header, "", "INPUT judges the clients of all services here. Those of the table nat pass FORWARD there: rules let them in first")
		}
	}
}

// cutCounters returns the line of a rule without the counters before it, as one word.
func cutCounters(text string) []string {
	if strings.HasPrefix(text, "[") {
		_, text, _ = strings.Cut(text, "]")
	}
	return []string{strings.TrimSpace(text)}
}

// reachedFrom returns a chain and those that its rules lead to, each once.
func reachedFrom(table *iptables.Table, c *iptables.Chain) []*iptables.Chain {
	reached, seen := []*iptables.Chain{c}, map[string]bool{c.Name: true}
	for i := 0; i < len(reached); i++ {
		for _, rule := range reached[i].Rules {
			if to := table.Chain(rule.Target); rule.IsJump && to != nil && !seen[to.Name] {
				seen[to.Name] = true
				reached = append(reached, to)
			}
		}
	}
	return reached
}

// rest says what of a line is lost that neither rules nor services have.
func (r *tablesReader) rest(s *statement) (reason string, lost bool) {
	table := r.tables[s]
	isHeader := s.words[0][0] == ':'
	switch {
	case isHeader && s.has(1) != "DROP":
		return "", false
	case isHeader && table == "filter":
		return "usher forwards no packets, and its own connections leave through no filter: the chains behind INPUT judge clients", true
	case isHeader:
		return "only INPUT of the table filter has a policy here", true
	case table == "filter":
		return "INPUT does not lead to this rule: usher judges the clients that come to it", true
	case table == "nat" || table == "mangle" || table == "raw":
		return "no service comes of it", true
	}
	return unknownDirective, true
}
