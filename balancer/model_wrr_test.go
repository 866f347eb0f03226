package balancer

import (
	"math/big"
	"slices"
)

// wrrRule is wrr with fractions of any size: the time of the next turn of each backend,
// in rounds.
type wrrRule struct {
	noState
	now     *big.Rat
	members []*modelBackend
	turns   map[*modelBackend]*wrrTurn
	// plays says whether it can be the turn of a member.
	plays func(b *modelBackend) bool
}

type wrrTurn struct {
	next   *big.Rat
	weight int
	phase  int64 // in parts of a turn
	full   bool
	in     bool
	owed   bool
}

func newWRRRule() *wrrRule {
	return &wrrRule{
		now: new(big.Rat), turns: map[*modelBackend]*wrrTurn{},
		plays: func(b *modelBackend) bool { return !b.full() },
	}
}

// parts returns x turns of a backend, in rounds.
func (t *wrrTurn) parts(x *big.Int) *big.Rat {
	return new(big.Rat).SetFrac(x, big.NewInt(int64(t.weight)<<turnBits))
}

// floor is the time x in parts of the backend's turns, rounded down.
func (t *wrrTurn) floor(x *big.Rat) *big.Int {
	y := new(big.Rat).Mul(x, new(big.Rat).SetInt64(int64(t.weight)<<turnBits))
	return new(big.Int).Div(y.Num(), y.Denom())
}

// ahead is how many parts of its turns it is until the next one, rounded up.
func (r *wrrRule) ahead(t *wrrTurn) int64 {
	if t.next == nil || t.next.Cmp(r.now) <= 0 {
		return 0
	}
	return new(big.Int).Sub(t.floor(t.next), t.floor(r.now)).Int64()
}

func (r *wrrRule) enter(t *wrrTurn, weight int) {
	ahead, old := r.ahead(t), t.weight
	t.weight = weight
	here := t.floor(r.now)
	switch {
	case ahead > 0 && weight == old:
	case ahead > 0:
		t.next = t.parts(here.Add(here, big.NewInt(ahead-1)))
	case t.in && !t.full || t.owed:
		t.next = t.parts(here)
	default:
		t.owed = true
		round := new(big.Int).Div(here, big.NewInt(int64(weight)<<turnBits))
		for ; ; round.Add(round, big.NewInt(1)) {
			for s := range int64(weight) {
				at := new(big.Int).Mul(round, big.NewInt(int64(weight)<<turnBits))
				at.Add(at, big.NewInt(s<<turnBits+t.phase))
				if at.Cmp(here) >= 0 {
					t.next = t.parts(at)
					return
				}
			}
		}
	}
}

func (r *wrrRule) edit(members []*modelBackend) {
	for i, b := range members {
		t := r.turns[b]
		if t == nil {
			t = new(wrrTurn)
			r.turns[b] = t
		}
		t.phase = (2*int64(i) + 1) << turnBits / (2 * int64(len(members)))
		if !t.in || t.weight != b.weight {
			r.enter(t, b.weight)
		}
		r.see(b)
		t.in = true
	}
	for b, t := range r.turns {
		t.in = slices.Contains(members, b)
	}
	r.members = members
}

// see notices that b has room again.
func (r *wrrRule) see(b *modelBackend) {
	t := r.turns[b]
	if t.full && !b.full() {
		r.enter(t, b.weight)
	}
	t.full = b.full()
}

func (r *wrrRule) settle() {
	for _, b := range r.members {
		r.see(b)
	}
}

func (r *wrrRule) pick(candidates []*modelBackend) *modelBackend {
	var best *modelBackend
	for _, b := range candidates {
		if best == nil {
			best = b
			continue
		}
		c := r.turns[b].next.Cmp(r.turns[best].next)
		if c < 0 || c == 0 && (b.picked < best.picked || b.picked == best.picked && b.id < best.id) {
			best = b
		}
	}
	return best
}

func (r *wrrRule) chosen(b *modelBackend) {
	var first *big.Rat
	for _, m := range r.members {
		if t := r.turns[m]; r.plays(m) && (first == nil || t.next.Cmp(first) < 0) {
			first = t.next
		}
	}
	if first != nil && first.Cmp(r.now) > 0 {
		r.now = first
	}
	t := r.turns[b]
	t.owed = false
	if r.ahead(t) >= 1<<turnBits {
		return
	}
	round := func(x *big.Rat) *big.Int { return new(big.Int).Div(x.Num(), x.Denom()) }
	next := new(big.Rat).Add(t.next, t.parts(big.NewInt(1<<turnBits)))
	if at := round(next); at.Cmp(round(t.next)) > 0 {
		begin := new(big.Rat).SetInt(at)
		in := t.floor(next.Sub(next, begin)).Int64()
		switch d := t.phase - in; {
		case d > 1<<turnBits/8:
			in += 1 << turnBits / 8
		case d < -1<<turnBits/8:
			in -= 1 << turnBits / 8
		default:
			in = t.phase
		}
		next = begin.Add(begin, t.parts(big.NewInt(in)))
	}
	t.next = next
}

// wlcRule compares all that have flows, and lets those that are idle go round as in wrr.
type wlcRule struct {
	*wrrRule
}

func newWLCRule() wlcRule {
	r := wlcRule{newWRRRule()}
	r.plays = func(b *modelBackend) bool { return b.active == 0 && !b.full() }
	return r
}

func (r wlcRule) pick(candidates []*modelBackend) *modelBackend {
	var idle []*modelBackend
	for _, b := range candidates {
		if b.active == 0 {
			idle = append(idle, b)
		}
	}
	if idle != nil {
		return r.wrrRule.pick(idle)
	}
	return orderRule{compare: byShare}.pick(candidates)
}

func (r wlcRule) chosen(b *modelBackend) {
	if b.active == 0 {
		r.wrrRule.chosen(b)
	}
}

// settle has turns that went by wait until now.
func (r wlcRule) settle() {
	r.wrrRule.settle()
	for _, b := range r.members {
		if t := r.turns[b]; b.active == 0 && t.next.Cmp(r.now) < 0 {
			t.next = t.parts(t.floor(r.now))
		}
	}
}

func (r *wrrRule) choose(c choice) ([]*modelBackend, bool) { return only(r.pick(c.candidates), c) }

func (r wlcRule) choose(c choice) ([]*modelBackend, bool) { return only(r.pick(c.candidates), c) }
