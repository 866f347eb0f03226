package rules

// inheritance finds what a new set takes over: counters and states of a set before, or else
// of a saved state.
type inheritance struct {
	policies   map[string]*Counter
	rules      map[ruleID][]*rule // with equal keys, in order
	hashlimits map[string]*hashlimit
	recents    map[string]*recentList

	savedPolicies   map[string]CounterState
	savedRules      map[ruleID][]*RuleState
	savedHashlimits map[string]*HashlimitState
	savedRecents    map[string]*RecentState
}

type ruleID struct{ chain, key string }

func newInheritance(before *Set, saved *State) *inheritance {
	b := &inheritance{
		policies: map[string]*Counter{}, rules: map[ruleID][]*rule{},
		savedPolicies: map[string]CounterState{}, savedRules: map[ruleID][]*RuleState{},
		savedHashlimits: map[string]*HashlimitState{}, savedRecents: map[string]*RecentState{},
		hashlimits: map[string]*hashlimit{}, recents: map[string]*recentList{},
	}
	if before != nil {
		b.addSet(before)
	}
	if saved != nil {
		b.addState(saved)
	}
	return b
}

func (b *inheritance) addSet(before *Set) {
	for _, c := range before.chains {
		if c.policy != nil {
			b.policies[c.name] = c.policy
		}
		for _, r := range c.rules {
			id := ruleID{c.name, r.key}
			b.rules[id] = append(b.rules[id], r)
		}
	}
	for _, h := range before.hashlimits {
		b.hashlimits[h.key] = h
	}
	for name, l := range before.recents {
		b.recents[recentKey(name, l)] = l
	}
}

func (b *inheritance) addState(saved *State) {
	for i := range saved.Chains {
		c := &saved.Chains[i]
		b.savedPolicies[c.Name] = c.Policy
		for i := range c.Rules {
			id := ruleID{c.Name, c.Rules[i].Key}
			b.savedRules[id] = append(b.savedRules[id], &c.Rules[i])
		}
	}
	for i := range saved.Hashlimits {
		b.savedHashlimits[saved.Hashlimits[i].Key] = &saved.Hashlimits[i]
	}
	for i := range saved.Recents {
		b.savedRecents[saved.Recents[i].Key] = &saved.Recents[i]
	}
}

// policy returns the counter of a chain's policy.
func (b *inheritance) policy(chain string) *Counter {
	if c := b.policies[chain]; c != nil {
		return c
	}
	c := new(Counter)
	c.restore(b.savedPolicies[chain])
	return c
}

// rule gives a rule the counter and the states of the first equal one that is left.
func (b *inheritance) rule(chain string, r *rule) {
	id := ruleID{chain, r.key}
	if equal := b.rules[id]; len(equal) > 0 {
		b.rules[id] = equal[1:]
		r.inherit(equal[0])
		return
	}
	r.counter = new(Counter)
	if equal := b.savedRules[id]; len(equal) > 0 {
		b.savedRules[id] = equal[1:]
		r.restore(equal[0])
	}
}

// inherit takes over the counter and the states of an equal rule. Tables that have a name
// are taken over by their names, for all rules at once.
func (r *rule) inherit(from *rule) {
	r.counter = from.counter
	for i, m := range r.matches {
		switch m := m.(type) {
		case *limitMatcher:
			m.bucket = from.matches[i].(*limitMatcher).bucket
		case *connlimitMatcher:
			m.counts = from.matches[i].(*connlimitMatcher).counts
		case *statisticMatcher:
			before := from.matches[i].(*statisticMatcher)
			m.seed, m.count = before.seed, before.count
		}
	}
}

// hashlimit gives a new table the buckets of an equal one.
func (b *inheritance) hashlimit(h *hashlimit) {
	if before := b.hashlimits[h.key]; before != nil {
		h.buckets = before.buckets
	} else if saved := b.savedHashlimits[h.key]; saved != nil {
		h.buckets.Restore(saved.Buckets)
	}
}

// recentList returns the list of an equal name and shape, or the new one.
func (b *inheritance) recentList(name string, l *recentList) *recentList {
	key := recentKey(name, l)
	if before := b.recents[key]; before != nil {
		return before
	}
	if saved := b.savedRecents[key]; saved != nil {
		l.restore(saved.Entries)
	}
	return l
}
