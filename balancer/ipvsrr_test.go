package balancer

import (
	"slices"
	"testing"
)

// plainIPVSRR walks the list, newest first, from the last one picked.
type plainIPVSRR struct {
	list []*plainBackend
	last *plainBackend
}

func (r *plainIPVSRR) edit(members []*plainBackend) {
	r.list = newestPlain(members)
	if r.last == nil || !r.last.gone.Load() {
		return
	}
	var before *plainBackend
	for _, b := range r.list {
		if b.id > r.last.id {
			before = b
		}
	}
	r.last = before
}

func newestPlain(members []*plainBackend) []*plainBackend {
	list := slices.Clone(members)
	slices.SortFunc(list, func(a, b *plainBackend) int { return int(b.id) - int(a.id) })
	return list
}

func (r *plainIPVSRR) choose(candidates []*plainBackend) *plainBackend {
	some := newestPlain(candidates)
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

// TestIPVSRRKeepsPlace: what is no member for a while has had its turn all the same.
func TestIPVSRRKeepsPlace(t *testing.T) {
	t.Parallel()
	p := newForm(t, "rr", []string{IPVS}, specs(5))
	b := p.Backends()
	for _, tt := range []struct {
		name string
		do   func()
		want string
	}{
		{"last down and up again", func() { p.SetStatus(b[3], Down); p.SetStatus(b[3], Up) }, "CBAED"},
		{"last drained", func() { p.SetStatus(b[3], Drain) }, "CBAEC"},
		{"and back, with another last", func() { p.Resume(b[3]) }, "BAEDC"},
	} {
		if tt.name == "last down and up again" {
			letters(p, 2)
		}
		tt.do()
		if got := letters(p, len(tt.want)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
