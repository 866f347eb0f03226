package balancer

import (
	"slices"
	"strings"
	"testing"
)

// plainIPVSWRR goes through the places of the kernel's walk, level by level, one at a
// time.
type plainIPVSWRR struct {
	list             []*plainBackend
	edits            []Spec // what an edit would show in
	last             int
	step, top, level int
}

func (r *plainIPVSWRR) edit(members []*plainBackend) {
	list := newestPlain(members)
	var edits []Spec
	most := 0
	for _, b := range list {
		edits = append(edits, Spec{Weight: b.weight, Limits: b.limits})
		most = max(most, b.weight)
	}
	r.step = 1
	for d := most; d > 1; d-- {
		if !slices.ContainsFunc(list, func(b *plainBackend) bool { return b.weight%d > 0 }) {
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

func (r *plainIPVSWRR) choose(candidates []*plainBackend) *plainBackend {
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

func (*plainIPVSWRR) over(*plainBackend) bool { return false }
func (*plainIPVSWRR) chosen(*plainBackend)    {}
func (*plainIPVSWRR) settle()                 {}

// TestIPVSWRRVectors has two cycles of each.
func TestIPVSWRRVectors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		weights []int
		want    string
	}{
		{[]int{4, 3, 2}, "ABACBACBA"},
		{[]int{5, 1, 1}, "AAAACBA"},
		{[]int{30, 10, 20}, "ACACBA"},
		{[]int{1, 1, 1}, "CBA"},
		{[]int{6, 6}, "BA"},
		{[]int{maxWeight, maxWeight}, "BA"},
		{[]int{1}, "A"},
	} {
		p := newForm(t, "wrr", []string{IPVS}, weighing(tt.weights...))
		want := strings.Repeat(tt.want, 2)
		if got := letters(p, len(want)); got != want {
			t.Errorf("%v: %s, want %s", tt.weights, got, want)
		}
	}
}

// TestIPVSWRREdits: the walk begins at the head, on the level at which it was.
func TestIPVSWRREdits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before []int
		picks  int
		after  []int
		want   string
	}{
		{"in the middle of a level", []int{4, 3, 2}, 4, []int{4, 3, 2, 2}, "DCBADCBA" + "ABADCBA"},
		{"level over the top", []int{4, 3, 2}, 1, []int{2, 3, 2}, "BCBACBA"},
		{"level rounded to the step", []int{4, 3, 2}, 2, []int{6, 3, 9}, "CACBA"},
		{"all gone and others", []int{4, 3, 2}, 2, nil, "--"},
		{"same list", []int{4, 3, 2}, 4, []int{4, 3, 2}, "BACBA"},
	} {
		p := newForm(t, "wrr", []string{IPVS}, weighing(tt.before...))
		letters(p, tt.picks)
		p.Update(weighing(tt.after...))
		if got := letters(p, len(tt.want)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}

	// Added one by one, as ipvsadm does, the level stays at 1 until the first round is over.
	p := newForm(t, "wrr", []string{IPVS}, nil)
	for n := range 3 {
		p.Update(weighing(4, 3, 2)[:n+1])
	}
	if got, want := letters(p, 12), "CBA"+"ABACBACBA"; got != want {
		t.Errorf("added one by one: %s, want %s", got, want)
	}

	// Another order is not an edit.
	p = newForm(t, "wrr", []string{IPVS}, weighing(4, 3, 2))
	letters(p, 3)
	s := weighing(4, 3, 2)
	slices.Reverse(s)
	p.Update(s)
	if got, want := letters(p, 6), "CBACBA"; got != want {
		t.Errorf("after another order: %s, want %s", got, want)
	}
}

// TestIPVSWRRPassesOverLevels: with the heaviest backend full, the levels that nobody else
// reaches must not be walked one by one.
func TestIPVSWRRPassesOverLevels(t *testing.T) {
	t.Parallel()
	s := weighing(maxWeight, 2, 1)
	s[0].Limits.Max = 1
	p := newForm(t, "wrr", []string{IPVS}, s)
	if !p.Rejoin(p.Backends()[0], Stickiness{}) {
		t.Fatal("no room to begin with")
	}
	if got, want := letters(p, 6), "BCBBCB"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
