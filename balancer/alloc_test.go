package balancer

import (
	"runtime"
	"testing"
	"time"
)

// TestNoAllocation is not parallel: AllocsPerRun counts the whole process.
func TestNoAllocation(t *testing.T) {
	for _, o := range forms() {
		for _, limits := range []Limits{{}, {Max: 3, Upper: 2, Lower: 1}} {
			s := specs(100)
			for i := range s {
				s[i].Limits = limits
			}
			p := poolOf(t, o, s)
			one, many, n, none := new(Tried), new(Tried), 0, 0
			one.Add(p.Backends()[3])
			for _, b := range p.Backends()[:maxTried] {
				many.Add(b)
			}
			full := p.Backends()[97]
			for p.AcquireSticky(full, AffinityPolicy{Overloaded: true}) && full.Active() < 3 {
			}
			flow := func(tried *Tried) {
				n++
				f := visit(n)
				f.Now = time.Duration(n) * time.Millisecond
				b := acquire(p, f, tried)
				if b == nil {
					none++
					return
				}
				if p.AcquireSticky(b, AffinityPolicy{Overloaded: true}) {
					p.Release(b)
				}
				p.ObserveConnect(b, f.Now%5, f.Now)
				p.Observe(b, f.Now%7, f.Now)
				p.AcquireSticky(full, AffinityPolicy{})
				p.Release(b)
			}
			got := testing.AllocsPerRun(300, func() {
				flow(nil)
				flow(one)
				flow(many)
			})
			a, _ := lookup(o.Scheduler)
			refuses := limits.Max > 0 && o.Flags != nil && (a.Hashes || a.Name == "dh") // clients of the full one
			if got != 0 || none > 0 && !refuses {
				t.Errorf("%s, %+v: %v allocations for three flows, %d without a backend", formOf(o), limits, got, none)
			}
		}
	}
}

// TestLocalityMemory is not parallel: it measures the whole process. Any number
// of destinations cost what the documentation of destinations says, and in the steady
// state nothing is allocated.
func TestLocalityMemory(t *testing.T) {
	ofOneGoroutine(t)
	for _, o := range []Options{{Scheduler: "lblc"}, {Scheduler: "lblcr"}} {
		heap := func() int {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc)
		}
		before := heap()
		p := poolOf(t, o, specs(100))
		next := 0
		flow := func() {
			next++
			p.Release(acquire(p, toward(next, time.Duration(next)*time.Millisecond), nil))
		}
		for range 100_000 {
			flow()
		}
		most := 4 << 20
		if o.Scheduler == "lblcr" {
			most = 8 << 20
		}
		if grown := heap() - before; grown > most {
			t.Errorf("%s: %d bytes for 100000 destinations", o.Scheduler, grown)
		}
		if got := testing.AllocsPerRun(10_000, flow); got != 0 {
			t.Errorf("%s: %v allocations for a flow", o.Scheduler, got)
		}
		runtime.KeepAlive(p)
	}
}
