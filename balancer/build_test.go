package balancer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestChoicesWaitForNoBuild holds the locks of those who change the pool. Flows begin and
// end all the same: they never ask for these, so no build, however long, holds them up.
func TestChoicesWaitForNoBuild(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		s := specs(50)
		for i := range s {
			s[i].Limits = Limits{Max: 5, Upper: 3}
		}
		p := newPool(t, scheduler, s)
		p.build.Lock()
		p.mu.Lock()
		done := make(chan struct{})
		go func() {
			defer close(done)
			comeAndGo(p, client)
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("a choice waits for those who change the pool")
		}
		p.mu.Unlock()
		p.build.Unlock()
		<-done
		wantIdle(t, p.Backends())
	})
}

// comeAndGo has flows begin, come back, be learnt from and end, and counts those that
// got no backend.
func comeAndGo(p *Pool, flow func(int) Flow) (refused int) {
	for i := range 1000 {
		b := acquire(p, flow(i), nil)
		if b == nil {
			refused++
			continue
		}
		if p.AcquireSticky(b, AffinityPolicy{}) {
			p.Release(b)
		}
		p.ObserveConnect(b, time.Millisecond, time.Duration(i))
		p.Observe(b, time.Millisecond, time.Duration(i))
		p.Release(b)
	}
	return refused
}

// gated blocks the first call of a function that builds a table until gate is closed.
func gated[T any](build func([]member) T, entered, gate chan struct{}) func([]member) T {
	var once sync.Once
	return func(members []member) T {
		once.Do(func() {
			close(entered)
			<-gate
		})
		return build(members)
	}
}

// TestBuildHoldsUpNobody changes a weight and blocks while the table for it is built.
// Flows begin, come back, are learnt from and end meanwhile.
func TestBuildHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for _, a := range Algorithms() {
		for _, form := range [][]string{nil, {IPVS}} {
			if form != nil && !slices.Contains(a.Flags, IPVS) {
				continue
			}
			s := specs(10)
			p := poolOf(t, Options{Scheduler: a.Name, Flags: form, Random: rand.Uint64}, s)
			entered, gate := make(chan struct{}), make(chan struct{})
			switch x := schedulerOf(p).(type) {
			case *hashing:
				x.build = gated(x.build, entered, gate)
			case *ipvsHash:
				x.fill = gated(x.fill, entered, gate)
			case *twoChoices:
				x.build = gated(x.build, entered, gate)
			case *ewma:
				x.build = gated(x.build, entered, gate)
			case *heapScheduler, *locality[*Backend], *locality[serverSet], *roundRobin, *ipvsRR, *ipvsWRR:
				continue // no table: a place in a heap at a time, or a list
			default:
				t.Fatalf("%s: unknown %T", a.Name, x)
			}
			t.Run(a.Name+strings.Join(form, " "), func(t *testing.T) {
				t.Parallel()
				var updating sync.WaitGroup
				defer updating.Wait()
				defer close(gate)
				s[3].Weight = 7
				updating.Go(func() { update(p, s) })
				<-entered
				done := make(chan struct{})
				go func() {
					defer close(done)
					if refused := comeAndGo(p, visit); refused > 0 {
						t.Errorf("%d flows have no backend", refused)
					}
				}()
				select {
				case <-done:
				case <-time.After(time.Minute):
					t.Fatal("a choice waits for a table")
				}
				wantIdle(t, p.Backends())
			})
		}
	}
}

// TestMaglevClaimsAreFew counts the slots that are looked at until all are claimed: about
// ln(slots) for each, however many backends there are.
func TestMaglevClaimsAreFew(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 10, 1000, 10_000} {
		ways := make([]permutation, n)
		for i := range ways {
			ways[i] = newPermutation(endpoint(i).String())
		}
		slots := slices.Repeat([]int32{-1}, maglevSize)
		looks := 0
		for claimed := range maglevSize {
			w := &ways[claimed%n]
			from := w.slot
			slot := w.claim(slots)
			slots[slot] = 1
			for looks++; from != slot; looks++ {
				from = (from + w.skip) % maglevSize
			}
		}
		if most := 16 * maglevSize; looks > most {
			t.Errorf("%d backends look at %d slots, want at most %d", n, looks, most)
		}
	}
}
