package balancer

import (
	"cmp"
	"slices"
)

// orderRule is a rule that follows from the flows at present.
type orderRule struct {
	noState
	compare func(a, b *modelBackend) int // equal ones: see ties
	ties    ties
	isOver  func(b *modelBackend) bool // nil: none is
}

func (r orderRule) over(b *modelBackend) bool { return r.isOver != nil && r.isOver(b) }

func (r orderRule) pick(candidates []*modelBackend) *modelBackend {
	var best *modelBackend
	for _, b := range candidates {
		if best == nil || r.before(b, best) {
			best = b
		}
	}
	return best
}

func (r orderRule) before(a, b *modelBackend) bool {
	if c := r.compare(a, b); c != 0 {
		return c < 0
	}
	switch r.ties {
	case newestFirst:
		return a.id > b.id
	case firstListed:
		return a.order < b.order
	}
	if a.picked != b.picked {
		return a.picked < b.picked
	}
	return a.id < b.id
}

func byFlows(a, b *modelBackend) int { return cmp.Compare(a.active, b.active) }
func byShare(a, b *modelBackend) int { return cmp.Compare(a.active*b.weight, b.active*a.weight) }
func byDelay(a, b *modelBackend) int {
	return cmp.Compare((a.active+1)*b.weight, (b.active+1)*a.weight)
}
func byWeight(a, b *modelBackend) int { return cmp.Compare(b.weight, a.weight) }
func byIdle(a, b *modelBackend) int {
	switch {
	case a.active == 0 && b.active == 0:
		return 0
	case a.active == 0:
		return -1
	case b.active == 0:
		return 1
	}
	return byDelay(a, b)
}

// modelRules are those that must equal a scheduler, by its name and its flag.
var modelRules = map[string]func() modelRule{
	"rr":       func() modelRule { return new(rrRule) },
	"rr ipvs":  func() modelRule { return new(ipvsRRRule) },
	"wrr":      func() modelRule { return newWRRRule() },
	"wrr ipvs": func() modelRule { return &ipvsWRRRule{last: -1} },
	"lc":       func() modelRule { return orderRule{compare: byFlows} },
	"lc ipvs":  func() modelRule { return orderRule{compare: byFlows, ties: newestFirst} },
	"wlc":      func() modelRule { return newWLCRule() },
	"wlc ipvs": func() modelRule { return orderRule{compare: byShare, ties: newestFirst} },
	"sed":      func() modelRule { return orderRule{compare: byDelay} },
	"sed ipvs": func() modelRule { return orderRule{compare: byDelay, ties: newestFirst} },
	"nq":       func() modelRule { return orderRule{compare: byIdle} },
	"nq ipvs":  func() modelRule { return orderRule{compare: byIdle, ties: newestFirst} },
	"fo":       func() modelRule { return orderRule{compare: byWeight, ties: firstListed} },
	"fo ipvs":  func() modelRule { return orderRule{compare: byWeight, ties: newestFirst} },
	"ovf": func() modelRule {
		return orderRule{compare: byWeight, ties: firstListed, isOver: func(b *modelBackend) bool { return b.active >= b.weight }}
	},
	"ovf ipvs": func() modelRule {
		return orderRule{compare: byWeight, ties: newestFirst, isOver: func(b *modelBackend) bool { return b.active > b.weight }}
	},
}

// rrRule keeps the list and whose turn it is.
type rrRule struct {
	noState
	list []*modelBackend
	turn int
}

func (r *rrRule) edit(members []*modelBackend) {
	turn := 0
	for i := range r.list {
		if at := slices.Index(members, r.list[(r.turn+i)%len(r.list)]); at >= 0 {
			turn = at
			break
		}
	}
	r.list, r.turn = members, turn
}

func (r *rrRule) pick(candidates []*modelBackend) *modelBackend {
	for i := range r.list {
		at := (r.turn + i) % len(r.list)
		if b := r.list[at]; slices.Contains(candidates, b) {
			r.turn = (at + 1) % len(r.list)
			return b
		}
	}
	if len(r.list) > 0 { // where it stands after a flow that nobody could take is of no account
		r.turn = (r.turn + 1 + maxTried) % len(r.list)
	}
	return nil
}

// ipvsRRRule walks the list, newest first, from the last one picked.
type ipvsRRRule struct {
	noState
	list  []*modelBackend
	edits []Spec // what an edit would show in
	last  *modelBackend
}

func (r *ipvsRRRule) edit(members []*modelBackend) {
	list := newestOf(members)
	var edits []Spec
	for _, b := range list {
		edits = append(edits, Spec{Weight: b.weight, Limits: b.limits})
	}
	if slices.Equal(list, r.list) && slices.Equal(edits, r.edits) {
		return // to a scheduler that is no news
	}
	r.list, r.edits = list, edits
	if r.last == nil || !r.last.gone.Load() {
		return
	}
	var before *modelBackend
	for _, b := range r.list {
		if b.id > r.last.id {
			before = b
		}
	}
	r.last = before
}

func newestOf(members []*modelBackend) []*modelBackend {
	list := slices.Clone(members)
	slices.SortFunc(list, func(a, b *modelBackend) int { return int(b.id) - int(a.id) })
	return list
}

func (r *ipvsRRRule) pick(candidates []*modelBackend) *modelBackend {
	some := newestOf(candidates)
	if len(some) == 0 {
		return nil
	}
	next := some[0]
	for _, b := range some {
		if r.last != nil && b.id < r.last.id {
			next = b
			break
		}
	}
	r.last = next
	return next
}

// ipvsWRRRule goes through the places of the kernel's walk, level by level, one at a
// time.
type ipvsWRRRule struct {
	noState
	list             []*modelBackend
	edits            []Spec // what an edit would show in
	last             int
	step, top, level int
}

func (r *ipvsWRRRule) edit(members []*modelBackend) {
	list := newestOf(members)
	var edits []Spec
	most := 0
	for _, b := range list {
		edits = append(edits, Spec{Weight: b.weight, Limits: b.limits})
		most = max(most, b.weight)
	}
	r.step = 1
	for d := most; d > 1; d-- {
		if !slices.ContainsFunc(list, func(b *modelBackend) bool { return b.weight%d > 0 }) {
			r.step = d
			break
		}
	}
	if slices.Equal(list, r.list) && slices.Equal(edits, r.edits) {
		return
	}
	r.list, r.edits, r.last = list, edits, -1
	r.top = most - (r.step - 1)
	if r.level > r.top || r.level == 0 {
		r.level = r.top
	} else if r.step > 1 {
		r.level = (r.level/r.step)*r.step + 1
	}
}

func (r *ipvsWRRRule) pick(candidates []*modelBackend) *modelBackend {
	last, level := r.last, r.level
	places := (r.top + 2) * (len(r.list) + 1)
	for range places {
		if last++; last == len(r.list) {
			last = -1
			if level -= r.step; level <= 0 {
				level = r.top
			}
			continue
		}
		if b := r.list[last]; b.weight >= level && slices.Contains(candidates, b) {
			r.last, r.level = last, level
			return b
		}
	}
	if r.last < 0 || r.level > r.step {
		r.last, r.level = -1, r.top
	}
	return nil
}

func (r orderRule) choose(c choice) ([]*modelBackend, bool) { return only(r.pick(c.candidates), c) }

func (r *rrRule) choose(c choice) ([]*modelBackend, bool) { return only(r.pick(c.candidates), c) }

func (r *ipvsRRRule) choose(c choice) ([]*modelBackend, bool) { return only(r.pick(c.candidates), c) }

func (r *ipvsWRRRule) choose(c choice) ([]*modelBackend, bool) { return only(r.pick(c.candidates), c) }
