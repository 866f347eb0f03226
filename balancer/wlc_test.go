package balancer

import "testing"

// TestWLCOneAtATime: flows that each find everybody idle follow the weights, exactly over
// a cycle.
func TestWLCOneAtATime(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for _, n := range []int{1, 2, 10, 100} {
		s, all := specs(n), 0
		for i := range s {
			s[i].Weight = 1 + rnd.IntN(100)
			all += s[i].Weight
		}
		p := newPool(t, "wlc", s)
		for cycle := range 3 {
			letters(p, all)
			for i, b := range p.Backends() {
				if want := uint64((cycle + 1) * s[i].Weight); b.Total() != want {
					t.Fatalf("%d backends: weight %d got %d flows in %d cycles", n, s[i].Weight, b.Total(), cycle+1)
				}
			}
		}
	}
}

// TestWLCLongFlow: a backend whose flow lasted while others had hundreds of turns gets its
// share afterwards, and not the turns that went by.
func TestWLCLongFlow(t *testing.T) {
	t.Parallel()
	for _, weight := range []int{1, 3, 50} {
		p := newPool(t, "wlc", weighing(weight, 1, 2))
		b := p.Backends()[0]
		if !p.Rejoin(b, Stickiness{}) {
			t.Fatal("no room to begin with")
		}
		letters(p, 2000)
		if b.Total() != 1 {
			t.Errorf("weight %d: %d flows while it had one and others none", weight, b.Total()-1)
		}
		p.Release(b)
		const cycles = 4
		letters(p, cycles*(weight+3))
		if got := int(b.Total() - 1); got < (cycles-1)*weight || got > (cycles+1)*weight {
			t.Errorf("weight %d: %d flows in %d cycles", weight, got, cycles)
		}
	}
}
