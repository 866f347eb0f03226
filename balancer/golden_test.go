package balancer

import (
	"slices"
	"strings"
	"testing"
)

// TestRuleCorners has what each scheduler does where the others differ. Backends are A, B,
// C … in the order of the list; short flows end before the next begins, long ones stay.
func TestRuleCorners(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		scheduler      string
		weights        []int
		short, long    string
		ipvs, ipvsLong string
	}{
		// Ties: in turn; the kernel's newest first, whose idle newest gets everything.
		{"lc", []int{1, 1, 1}, "ABCABC", "ABCABC", "CCCCCC", "CBACBA"},
		{"lc", []int{9, 1, 1}, "ABCABC", "ABCABC", "CCCCCC", "CBACBA"},
		{"wlc", []int{1, 1, 1}, "ABCABC", "ABCABC", "CCCCCC", "CBACBA"},
		{"wlc", []int{4, 2, 1}, "ABAABACABAABAC", "ABCABAA", "CCCCCC", "CBAABAA"},
		{"sed", []int{4, 2, 1}, "AAAAAA", "ABAACBA", "AAAAAA", "ABAACBA"},
		{"sed", []int{1, 1}, "ABAB", "ABAB", "BBBB", "BABA"},
		{"nq", []int{4, 2, 1}, "ABCABC", "ABCAABA", "CCCCCC", "CBAAABA"},
		{"fo", []int{1, 3, 3}, "BBBB", "BBBB", "CCCC", "CCCC"},
		{"ovf", []int{1, 3, 2}, "BBBB", "BBBCCA--", "BBBB", "BBBBCCCAA--"},
		{"ovf", []int{2, 2}, "AAAA", "AABB--", "BBBB", "BBBAAA--"},
	} {
		for _, form := range []struct {
			flags       []string
			short, long string
		}{{nil, tt.short, tt.long}, {[]string{IPVS}, tt.ipvs, tt.ipvsLong}} {
			p := poolOf(t, Options{Scheduler: tt.scheduler, Flags: form.flags}, weighing(tt.weights...))
			if got := letters(p, len(form.short)); got != form.short {
				t.Errorf("%s %v %v, short flows: %s, want %s", tt.scheduler, form.flags, tt.weights, got, form.short)
			}
			p = poolOf(t, Options{Scheduler: tt.scheduler, Flags: form.flags}, weighing(tt.weights...))
			if got := held(p, len(form.long)); got != form.long {
				t.Errorf("%s %v %v, long flows: %s, want %s", tt.scheduler, form.flags, tt.weights, got, form.long)
			}
		}
	}
}

// TestListedOrder: what the operator lists first goes first, also after another order.
func TestListedOrder(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"fo", "ovf"} {
		s := weighing(5, 5, 5)
		p := newPool(t, scheduler, s)
		if got := letters(p, 2); got != "AA" {
			t.Errorf("%s: %s, want AA", scheduler, got)
		}
		s[0], s[1], s[2] = s[1], s[2], s[0]
		update(p, s)
		if got := letters(p, 2); got != "BB" {
			t.Errorf("%s in another order: %s, want BB", scheduler, got)
		}
		setStatus(p, p.Backends()[0], Down)
		if got := letters(p, 2); got != "CC" {
			t.Errorf("%s with the first one down: %s, want CC", scheduler, got)
		}
	}
}

// TestOverflowAndPersistence: a flow that may not pass thresholds may not pass the weight.
func TestOverflowAndPersistence(t *testing.T) {
	t.Parallel()
	p := newPool(t, "ovf", weighing(2, 1))
	b := p.Backends()[0]
	if got := held(p, 2); got != "AA" {
		t.Fatal(got)
	}
	if p.AcquireSticky(b, AffinityPolicy{}) {
		t.Error("a third flow for weight 2")
	}
	if !p.AcquireSticky(b, AffinityPolicy{Overloaded: true}) {
		t.Error("persistence that may pass was refused")
	}
	if b, busy := p.Acquire(client(0), nil); b != p.Backends()[1] || busy {
		t.Errorf("%v, busy %v; want the other one", b, busy)
	}
	if b, busy := p.Acquire(client(0), nil); b != nil || !busy {
		t.Errorf("%v, busy %v; want none and busy", b, busy)
	}
}

func TestWRROrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		weights []int
		want    string
	}{
		{[]int{1}, "AAA"},
		{[]int{1, 1, 1}, "ABCABC"},
		{[]int{7, 7, 7}, "ABCABCABCABC"},
		{[]int{2, 1}, "AABAAB"},
		{[]int{5, 1, 1}, "AAABACAAAABACA"},
		{[]int{4, 1, 1, 1, 1}, "AABCADAEAABCADAE"}, // the light ones lie among the heavy one's
		{[]int{maxWeight, maxWeight}, "ABABAB"},
	} {
		p := newPool(t, "wrr", weighing(tt.weights...))
		if got := letters(p, len(tt.want)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.weights, got, tt.want)
		}
	}
}

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
		p := newIPVS(t, "rr", specs(5))
		letters(p, tt.before)
		update(p, listed(tt.after...))
		if got := letters(p, len(tt.want)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestIPVSRRKeepsPlace: what is no member for a while has had its turn all the same.
func TestIPVSRRKeepsPlace(t *testing.T) {
	t.Parallel()
	p := newIPVS(t, "rr", specs(5))
	b := p.Backends()
	for _, tt := range []struct {
		name string
		do   func()
		want string
	}{
		{"last down and up again", func() { setStatus(p, b[3], Down); setStatus(p, b[3], Up) }, "CBAED"},
		{"last drained", func() { setAdmin(p, Drain, b[3]) }, "CBAEC"},
		{"and back, with another last", func() { setAdmin(p, Ready, b[3]) }, "BAEDC"},
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
		p := newIPVS(t, "wrr", weighing(tt.weights...))
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
		p := newIPVS(t, "wrr", weighing(tt.before...))
		letters(p, tt.picks)
		update(p, weighing(tt.after...))
		if got := letters(p, len(tt.want)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}

	// Added one by one, as ipvsadm does, the level stays at 1 until the first round is over.
	p := newIPVS(t, "wrr", nil)
	for n := range 3 {
		update(p, weighing(4, 3, 2)[:n+1])
	}
	if got, want := letters(p, 12), "CBA"+"ABACBACBA"; got != want {
		t.Errorf("added one by one: %s, want %s", got, want)
	}

	// Another order is not an edit.
	p = newIPVS(t, "wrr", weighing(4, 3, 2))
	letters(p, 3)
	s := weighing(4, 3, 2)
	slices.Reverse(s)
	update(p, s)
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
	p := newIPVS(t, "wrr", s)
	if !p.AcquireSticky(p.Backends()[0], AffinityPolicy{}) {
		t.Fatal("no room to begin with")
	}
	if got, want := letters(p, 6), "BCBBCB"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestGoesOn changes the list in the middle of a round of equal weights.
func TestGoesOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before int // picks of a round of A to E
		after  []int
		want   string // by when they were added
	}{
		{"none gone", 2, []int{0, 1, 2, 3, 4}, "CDEABCDE"},
		{"one at the end", 2, []int{0, 1, 2, 3, 4, 9}, "CDEFABCDEF"},
		{"one before gone", 2, []int{1, 2, 3, 4}, "CDEBCDEB"},
		{"next gone", 2, []int{0, 1, 3, 4}, "DEABDE"},
		{"one inserted in front", 2, []int{9, 0, 1, 2, 3, 4}, "CDEFABCDEFAB"},
		{"last gone when it is next", 4, []int{0, 1, 2, 3}, "ABCDA"},
	} {
		for _, scheduler := range []string{"rr", "wrr"} {
			p := newPool(t, scheduler, specs(5))
			letters(p, tt.before)
			update(p, listed(tt.after...))
			if got := letters(p, len(tt.want)); got != tt.want {
				t.Errorf("%s, %s: %s, want %s", scheduler, tt.name, got, tt.want)
			}
		}
	}
}

// TestRoundRobinAllGone begins a list of others at its head.
func TestRoundRobinAllGone(t *testing.T) {
	t.Parallel()
	p := newPool(t, "rr", specs(5))
	letters(p, 2)
	update(p, listed(7, 8))
	if got := letters(p, 4); got != "FGFG" {
		t.Errorf("%s, want FGFG", got)
	}
}

// TestRoundRobinPastManyFull has more full backends in a row than a flow takes turns for:
// the one behind them must not get more than the others.
func TestRoundRobinPastManyFull(t *testing.T) {
	t.Parallel()
	const n, full, rounds = 4, 3 * maxTried, 50
	s := specs(full + n)
	for i := range s[:full] {
		s[i].Limits.Max = 1
	}
	p := newPool(t, "rr", s)
	picks(p, full)
	for range n * rounds {
		acquire(p, client(0), nil)
	}
	for _, b := range p.Backends()[full:] {
		if b.Active() != rounds {
			t.Errorf("%v got %d flows, want %d", b, b.Active(), rounds)
		}
	}
}

// TestIPVSRRNewestGone: the pointer goes back to the head of the list, before newer ones.
func TestIPVSRRNewestGone(t *testing.T) {
	t.Parallel()
	p := newIPVS(t, "rr", specs(5))
	letters(p, 1)
	update(p, specs(4))
	update(p, listed(0, 1, 2, 3, 9))
	if got := letters(p, 6); got != "FDCBAF" {
		t.Errorf("%s, want FDCBAF", got)
	}
}
