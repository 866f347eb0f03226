package balancer

import (
	"slices"
	"testing"
)

// plainIPVSRR walks the list, newest first, from the last one picked.
type plainIPVSRR struct {
	list []*plainBackend
	last int
}

func (r *plainIPVSRR) edit(members []*plainBackend) {
	list := newestPlain(members)
	if r.last >= 0 {
		id := r.list[r.last].id
		r.last = -1
		for i, b := range list {
			if b.id >= id { // itself, or whoever stands before its place
				r.last = i
			}
		}
	}
	r.list = list
}

func newestPlain(members []*plainBackend) []*plainBackend {
	list := slices.Clone(members)
	slices.SortFunc(list, func(a, b *plainBackend) int { return int(b.id) - int(a.id) })
	return list
}

func (r *plainIPVSRR) choose(candidates []*plainBackend) *plainBackend {
	for i := range r.list {
		at := (r.last + 1 + i) % len(r.list)
		if b := r.list[at]; slices.Contains(candidates, b) {
			r.last = at
			return b
		}
	}
	return nil
}

func (*plainIPVSRR) over(*plainBackend) bool { return false }
func (*plainIPVSRR) chosen(*plainBackend)    {}
func (*plainIPVSRR) settle()                 {}

func TestIPVSRROrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before int    // picks of a round of E D C B A
		after  []int  // the new list
		want   string // by when they were added
	}{
		{"same", 2, []int{0, 1, 2, 3, 4}, "CBAEDCBA"},
		{"other order", 2, []int{4, 2, 0, 1, 3}, "CBAEDCBA"},
		{"last picked gone", 2, []int{0, 1, 2, 4}, "CBAECBA"},
		{"next gone", 2, []int{0, 1, 3, 4}, "BAEDBA"},
		{"first gone after its pick", 1, []int{0, 1, 2, 3}, "DCBADC"},
		{"new one waits for the round", 2, []int{0, 1, 2, 3, 4, 9}, "CBAFEDCBA"},
		{"new one when the round is over", 5, []int{0, 1, 2, 3, 4, 9}, "FEDCBAF"},
		{"all gone", 2, nil, "--"},
	} {
		p := newForm(t, "rr", []string{IPVS}, specs(5))
		letters(p, tt.before)
		s := make([]Spec, len(tt.after))
		for i, n := range tt.after {
			s[i] = Spec{Endpoint: endpoint(n), Weight: 1}
		}
		p.Update(s)
		if got := letters(p, len(tt.want)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
