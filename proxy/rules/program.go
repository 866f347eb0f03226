package rules

// program is a chain, and the chains inlined that it jumps to, as steps in order.
type program struct {
	steps []step
	index *index // nil: there are so few steps that each one is looked at
}

// step is a rule at one place of a program.
type step struct {
	rule    *rule
	matches []matcher // to evaluate, if the step is a candidate of the index
	call    *program  // of a jump to a chain that is not inlined
	// next is the step to go on with if the rule does not match: after an inlined chain for
	// the jump to it.
	next int
	// end is where to go on after the chain that the rule is in.
	end int
}

const (
	// leastIndexed is how many steps a program with an index has: below, a look at each step
	// is as fast.
	leastIndexed = 16
	// leastInlined is how many steps more all programs may have by chains that are inlined at
	// several places, or as many as there are rules if that is more.
	leastInlined = 4096
)

// linker makes the programs of a set.
type linker struct {
	chains   []*chain
	isInline map[*chain]bool
	programs map[*chain]*program // of chains that are called
}

// link returns the program of the first chain. The order of the chains has each one after
// those that it jumps to.
func link(chains []*chain, order []int) *program {
	l := &linker{chains: chains, isInline: map[*chain]bool{}, programs: map[*chain]*program{}}
	references, rules := l.references(order)
	budget := max(rules, leastInlined)
	size := map[*chain]int{}
	for _, i := range order {
		c := chains[i]
		n := references[c]
		if n == 0 && i > 0 {
			continue
		}
		size[c] = len(c.rules)
		for _, r := range c.rules {
			if r.jump != nil && l.isInline[r.jump] {
				size[c] += size[r.jump]
			}
		}
		if copies := (n - 1) * size[c]; i > 0 && copies <= budget {
			l.isInline[c] = true
			budget -= copies
		} else {
			l.programs[c] = l.program(c, size[c])
		}
	}
	return l.programs[chains[0]]
}

// references returns how many jumps there are to each chain from those that a packet can
// come to, and how many rules those have.
func (l *linker) references(order []int) (of map[*chain]int, rules int) {
	of = map[*chain]int{}
	for at := len(order) - 1; at >= 0; at-- {
		c := l.chains[order[at]]
		if order[at] != 0 && of[c] == 0 {
			continue
		}
		rules += len(c.rules)
		for _, r := range c.rules {
			if r.jump != nil {
				of[r.jump]++
			}
		}
	}
	return of, rules
}

// program makes the program of a chain that has so many steps.
func (l *linker) program(c *chain, steps int) *program {
	b := builder{linker: l, isIndexed: steps >= leastIndexed}
	b.add(c, anything())
	p := &program{steps: b.steps}
	if b.isIndexed {
		p.index = newIndex(b.conditions)
	}
	return p
}

// builder makes the steps of one program, and the conditions of each for the index.
type builder struct {
	*linker
	isIndexed  bool
	steps      []step
	conditions []conditions
}

// add adds the steps of a chain that is reached under conditions.
func (b *builder) add(c *chain, reached conditions) {
	var own []int
	for _, r := range c.rules {
		met, rest := reached.and(r)
		if !b.isIndexed {
			rest = r.matches
		}
		at := len(b.steps)
		own = append(own, at)
		isInline := r.jump != nil && b.isInline[r.jump]
		if either, ok := first(rest).(*eitherPortMatcher); ok && b.isIndexed && !isInline {
			// The rule takes two steps in place of one that the index could not find.
			var source conditions
			source, met = met.split(either)
			rest = rest[1:]
			b.push(r, source, rest)
			at++
			own = append(own, at)
		}
		b.push(r, met, rest)
		if isInline {
			b.add(r.jump, met)
			b.steps[at].next = len(b.steps)
		}
	}
	for _, at := range own {
		b.steps[at].end = len(b.steps)
	}
}

func (b *builder) push(r *rule, met conditions, rest []matcher) {
	s := step{rule: r, matches: rest, next: len(b.steps) + 1}
	if r.jump != nil {
		s.call = b.programs[r.jump]
	}
	b.steps = append(b.steps, s)
	b.conditions = append(b.conditions, met)
}

func first(all []matcher) matcher {
	if len(all) == 0 {
		return nil
	}
	return all[0]
}
