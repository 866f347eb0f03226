package rules

import (
	"net/netip"
	"slices"
	"time"

	"usher/proxy/limit"
)

// State is what the rules of a set have counted and remember, as plain data. Counts of
// living flows are not in it; see Rejoin.
type State struct {
	Chains     []ChainState
	Hashlimits []HashlimitState
	Recents    []RecentState
}

type ChainState struct {
	Name   string
	Policy CounterState
	Rules  []RuleState
}

// RuleState is the state of a rule. Its key stands for the rule's words.
type RuleState struct {
	Key     string
	Counter CounterState
	Matches []int64 // of those with a number as state, in order
}

type CounterState struct{ Flows, Datagrams, Bytes uint64 }

type HashlimitState struct {
	Key     string
	Buckets []limit.BucketState
}

type RecentState struct {
	Key     string
	Entries []RecentEntryState
}

type RecentEntryState struct {
	Address netip.Addr
	Stamps  []time.Duration
}

// State returns the state of the set. Its size is bounded by the rules and their tables.
func (s *Set) State() *State {
	if s == nil {
		return nil
	}
	state := &State{}
	for _, c := range s.chains {
		saved := ChainState{Name: c.name}
		if c.policy != nil {
			saved.Policy = c.policy.state()
		}
		for _, r := range c.rules {
			saved.Rules = append(saved.Rules, RuleState{r.key, r.counter.state(), r.numbers()})
		}
		state.Chains = append(state.Chains, saved)
	}
	for _, h := range s.hashlimits {
		state.Hashlimits = append(state.Hashlimits, HashlimitState{h.key, h.buckets.State()})
	}
	for name, l := range s.recents {
		state.Recents = append(state.Recents, RecentState{recentKey(name, l), l.state()})
	}
	return state
}

func (c *Counter) state() CounterState {
	return CounterState{c.Flows.Load(), c.Datagrams.Load(), c.Bytes.Load()}
}

func (c *Counter) restore(s CounterState) {
	c.Flows.Store(s.Flows)
	c.Datagrams.Store(s.Datagrams)
	c.Bytes.Store(s.Bytes)
}

// numbers returns the states of a rule's matches that are one number.
func (r *rule) numbers() (all []int64) {
	for _, m := range r.matches {
		switch m := m.(type) {
		case *limitMatcher:
			all = append(all, m.bucket.State())
		case *statisticMatcher:
			all = append(all, int64(m.count.Load()))
		}
	}
	return all
}

// restore sets the state of a rule as far as it fits.
func (r *rule) restore(s *RuleState) {
	r.counter.restore(s.Counter)
	rest := s.Matches
	for _, m := range r.matches {
		if len(rest) == 0 {
			return
		}
		switch m := m.(type) {
		case *limitMatcher:
			m.bucket.Restore(rest[0])
		case *statisticMatcher:
			m.count.Store(uint64(rest[0]))
		default:
			continue
		}
		rest = rest[1:]
	}
}

func (l *recentList) state() (all []RecentEntryState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		all = append(all, RecentEntryState{e.address, slices.Clone(e.stamps)})
	}
	return all
}

// restore adds addresses to an empty list, as many as it may have.
func (l *recentList) restore(all []RecentEntryState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, saved := range all {
		known := slices.ContainsFunc(l.entries, func(e recentEntry) bool { return e.address == saved.Address })
		if known || len(saved.Stamps) == 0 || !saved.Address.IsValid() {
			continue
		}
		l.addLocked(saved.Address, saved.Stamps[0])
		for _, stamp := range saved.Stamps[1:] {
			l.stampLocked(len(l.entries)-1, stamp)
		}
	}
}
