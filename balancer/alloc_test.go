package balancer

import (
	"testing"
	"time"
)

// TestNoAllocation is not parallel: AllocsPerRun counts the whole process.
func TestNoAllocation(t *testing.T) {
	for _, scheduler := range Schedulers() {
		for _, limits := range []Limits{{}, {Max: 3, Upper: 2, Lower: 1}} {
			s := specs(100)
			for i := range s {
				s[i].Limits = limits
			}
			p := newPool(t, scheduler, s)
			tried, n, none := new(Tried), 0, 0
			tried.Add(p.Backends()[3])
			full := p.Backends()[7]
			for p.Rejoin(full, Stickiness{Overloaded: true}) && full.Active() < 3 {
			}
			got := testing.AllocsPerRun(1000, func() {
				n++
				f := client(n)
				f.Local, f.Now = f.Client, time.Duration(n)
				b := acquire(p, f, nil)
				c := acquire(p, f, tried)
				if b == nil || c == nil {
					none++
					return
				}
				if p.Rejoin(b, Stickiness{Overloaded: true}) {
					p.Release(b)
				}
				p.ObserveConnect(b, time.Millisecond, f.Now)
				p.Observe(b, time.Millisecond, f.Now)
				p.Rejoin(full, Stickiness{})
				p.Release(b)
				p.Release(c)
			})
			if got != 0 || none > 0 {
				t.Errorf("%s, %+v: %v allocations for two flows, %d without a backend", scheduler, limits, got, none)
			}
		}
	}
}
