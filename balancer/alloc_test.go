package balancer

import "testing"

// TestNoAllocation is not parallel: AllocsPerRun counts the whole process.
func TestNoAllocation(t *testing.T) {
	for _, scheduler := range Schedulers() {
		p := newPool(t, scheduler, specs(100))
		tried, n := new(Tried), 0
		tried.Add(p.Backends()[3])
		got := testing.AllocsPerRun(1000, func() {
			n++
			b := p.Acquire(client(n), nil)
			c := p.Acquire(client(n), tried)
			p.Release(b)
			p.Release(c)
		})
		if got != 0 {
			t.Errorf("%s: %v allocations for two flows", scheduler, got)
		}
	}
}
