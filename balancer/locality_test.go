package balancer

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestLocalityConcurrent has flows to many destinations while backends come and go.
func TestLocalityConcurrent(t *testing.T) {
	t.Parallel()
	eachLocality(t, func(t *testing.T, o Options) {
		const workers, flows, size = 4, 20_000, 20
		seed := newRand(t).Uint64()
		p := poolOf(t, o, specs(size))
		backends := p.Backends()
		var flowing, changing sync.WaitGroup
		done := make(chan struct{})
		for w := range workers {
			flowing.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(w)))
				for i := range flows {
					now := time.Duration(i) * time.Second * time.Duration(1+w)
					b := acquire(p, toward(rnd.IntN(1000), now), nil)
					c := acquire(p, toward(rnd.IntN(50_000), now), nil)
					p.Release(b)
					p.Release(c)
				}
			})
		}
		changing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				b := backends[i%(size-1)] // one always stays
				p.SetStatus(b, Drain)
				p.Resume(b)
			}
		})
		flowing.Wait()
		close(done)
		changing.Wait()
		for _, b := range backends {
			if b.Active() != 0 {
				t.Errorf("%v ends with %d flows", b, b.Active())
			}
		}
	})
}

// TestLocalityMemory is not parallel: it measures the whole process. Any number
// of destinations cost what the documentation of destinations says, and in the steady
// state nothing is allocated.
func TestLocalityMemory(t *testing.T) {
	for _, o := range []Options{{Scheduler: "lblc"}, {Scheduler: "lblcr"}} {
		o.Initial = Up
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
		for range 200_000 {
			flow()
		}
		most := 4 << 20
		if o.Scheduler == "lblcr" {
			most = 8 << 20
		}
		if grown := heap() - before; grown > most {
			t.Errorf("%s: %d bytes for 200000 destinations", o.Scheduler, grown)
		}
		if got := testing.AllocsPerRun(10_000, flow); got != 0 {
			t.Errorf("%s: %v allocations for a flow", o.Scheduler, got)
		}
		runtime.KeepAlive(p)
	}
}
