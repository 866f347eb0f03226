package balancer

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
)

var bounding = []string{"mh", "ring", "hrw"}

func boundedPool(tb testing.TB, scheduler string, balance int, s []Spec) *Pool {
	tb.Helper()
	p, err := NewPool(Options{Scheduler: scheduler, Balance: balance, Initial: Up})
	if err != nil {
		tb.Fatal(err)
	}
	p.Update(s)
	return p
}

// plainBound is ceil(balance/100 · flows · weight/all).
func plainBound(balance, flows, weight, all int) int64 {
	x := new(big.Int).Mul(big.NewInt(int64(balance)), big.NewInt(int64(flows)))
	x.Mul(x, big.NewInt(int64(weight)))
	d := new(big.Int).Mul(big.NewInt(100), big.NewInt(int64(all)))
	x.Add(x, d).Sub(x, big.NewInt(1))
	return x.Div(x, d).Int64()
}

func TestBoundMost(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for range 10_000 {
		b := bound{percent: 101 + rnd.Uint64N(maxBalance-100)}
		flows, weight := 1+rnd.IntN(1<<rnd.IntN(26)), 1+rnd.IntN(1<<rnd.IntN(38))
		all := weight + rnd.IntN(1<<rnd.IntN(50))
		if got, want := b.most(int64(flows), uint64(weight), uint64(all)), plainBound(int(b.percent), flows, weight, all); got != want {
			t.Fatalf("%d %% of %d flows for %d of %d: %d, want %d", b.percent, flows, weight, all, got, want)
		}
	}
	// A sum that has wrapped around is no bound, and no panic.
	b := bound{percent: maxBalance}
	for _, all := range []uint64{0, 1, 100} {
		if got := b.most(1<<40, 1<<38, all); got != maxFlows {
			t.Errorf("weight of more than all: bound %d", got)
		}
	}
}

// TestBoundNeverExceeded walks at random, mostly with few clients, beside plain counts.
func TestBoundNeverExceeded(t *testing.T) {
	t.Parallel()
	for _, scheduler := range bounding {
		for _, balance := range []int{101, 125, 200, 1000} {
			t.Run(fmt.Sprintf("%s/%d", scheduler, balance), func(t *testing.T) {
				t.Parallel()
				rnd := newRand(t)
				s, all := specs(1+rnd.IntN(20)), 0
				for i := range s {
					s[i].Weight = 1 + rnd.IntN(10)
					all += s[i].Weight
				}
				p := boundedPool(t, scheduler, balance, s)
				free := newPool(t, scheduler, s)
				var held []*Backend
				active := map[*Backend]int64{}
				for step := range 3000 {
					f := client(int(rnd.ExpFloat64() * 3))
					b, busy := p.Acquire(f, nil)
					if b == nil {
						t.Fatalf("step %d: no backend, busy %v", step, busy)
					}
					held = append(held, b)
					active[b]++
					most := func(b *Backend) int64 { return plainBound(balance, len(held), b.Weight(), all) }
					if active[b] > most(b) {
						t.Fatalf("step %d: %v has %d of %d flows, its bound is %d", step, b, active[b], len(held), most(b))
					}
					// Whoever is not at the bound keeps its clients.
					home := acquire(free, f, nil)
					free.Release(home)
					for _, own := range p.Backends() {
						if own.String() == home.String() && own != b && active[own] < most(own) {
							t.Fatalf("step %d: %v has room and its client goes to %v", step, own, b)
						}
					}
					for len(held) > 0 && rnd.IntN(100) < 45 {
						k := rnd.IntN(len(held))
						p.Release(held[k])
						active[held[k]]--
						held[k] = held[len(held)-1]
						held = held[:len(held)-1]
					}
				}
			})
		}
	}
}

// TestBoundGivesWay: with backends tried and full, whoever has room is found, the least
// loaded first.
func TestBoundGivesWay(t *testing.T) {
	t.Parallel()
	for _, scheduler := range bounding {
		t.Run(scheduler, func(t *testing.T) {
			t.Parallel()
			rnd := newRand(t)
			for round := range 12 {
				n := 2 + rnd.IntN(8)
				s := specs(n)
				for i := range s {
					s[i].Weight = 1 + rnd.IntN(5)
					s[i].Limits.Max = rnd.IntN(10)
				}
				p := boundedPool(t, scheduler, 110, s)
				var tried Tried
				for _, b := range p.Backends()[:rnd.IntN(n)] {
					tried.Add(b)
				}
				all, flows := 0, 0
				for _, b := range p.Backends() {
					all += b.Weight()
				}
				for step := range 60 {
					var least *Backend
					full, below := false, map[*Backend]bool{}
					for _, b := range p.Backends() {
						switch {
						case tried.Has(b):
							continue
						case b.busy():
							full = true
							continue
						case least == nil || b.Active()*int64(least.Weight()) < least.Active()*int64(b.Weight()):
							least = b
						}
						if b.Active() < plainBound(110, flows+1, b.Weight(), all) {
							below[b] = true
						}
					}
					b, busy := p.Acquire(client(step%3), &tried)
					switch {
					case b == nil && (least != nil || busy != full):
						t.Fatalf("round %d, step %d: nobody, busy %v; %v has room, some are full: %v", round, step, busy, least, full)
					case b != nil && len(below) > 0 && !below[b]:
						t.Fatalf("round %d, step %d: got %v, want one of %v", round, step, b, below)
					case b != nil && len(below) == 0 && b != least &&
						(b.Active()-1)*int64(least.Weight()) > least.Active()*int64(b.Weight()):
						t.Fatalf("round %d, step %d: got %v, want %v", round, step, b, least)
					case b != nil:
						flows++
					}
				}
				total := p.scheduler.(*hashing).bound.flows.Load()
				sum := int64(0)
				for _, b := range p.Backends() {
					sum += b.Active()
				}
				if total != sum {
					t.Fatalf("round %d: counts %d flows, backends have %d", round, total, sum)
				}
			}
		})
	}
}

// TestBoundConcurrent has flows begin from all sides and end only when all have begun:
// then no backend may be above the bound at the end. All are of one client.
func TestBoundConcurrent(t *testing.T) {
	t.Parallel()
	for _, scheduler := range bounding {
		t.Run(scheduler, func(t *testing.T) {
			t.Parallel()
			const workers, flows, balance = 8, 500, 120
			s, all := specs(12), 0
			for i := range s {
				s[i].Weight = 1 + i
				all += s[i].Weight
			}
			p := boundedPool(t, scheduler, balance, s)
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for range flows {
						if acquire(p, client(1), nil) == nil {
							t.Error("no backend")
							return
						}
					}
				})
			}
			wg.Wait()
			for _, b := range p.Backends() {
				if most := plainBound(balance, workers*flows, b.Weight(), all); b.Active() > most {
					t.Errorf("%v has %d of %d flows, its bound is %d", b, b.Active(), workers*flows, most)
				}
			}
			releaseAll(p)
			if n := p.scheduler.(*hashing).bound.flows.Load(); n != 0 {
				t.Errorf("with all released, %d flows count", n)
			}
		})
	}
}

func TestBoundChurn(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"mh", "ring"} {
		p := boundedPool(t, scheduler, 125, specs(10))
		churn(t, p, func(rnd *rand.Rand, s []Spec) { s[rnd.IntN(len(s))].Limits.Max = rnd.IntN(20) })
		if n := p.scheduler.(*hashing).bound.flows.Load(); n != 0 {
			t.Errorf("%s: with all released, %d flows count", scheduler, n)
		}
	}
}

// TestBoundHotClient: without the bound one backend gets all.
func TestBoundHotClient(t *testing.T) {
	t.Parallel()
	for _, balance := range []int{0, 125} {
		p := boundedPool(t, "mh", balance, specs(10))
		for range 1000 {
			acquire(p, client(1), nil)
		}
		most := int64(0)
		for _, b := range p.Backends() {
			most = max(most, b.Active())
		}
		want := map[int]int64{0: 1000, 125: 125}[balance]
		if most != want {
			t.Errorf("balance %d: the client's backend has %d flows, want %d", balance, most, want)
		}
	}
}

// TestHashingNoAllocation covers what TestNoAllocation does not reach. It is not
// parallel: AllocsPerRun counts the whole process.
func TestHashingNoAllocation(t *testing.T) {
	pools := map[string]*Pool{}
	for _, scheduler := range bounding {
		pools[scheduler+" bounded"] = boundedPool(t, scheduler, 125, specs(100))
	}
	for _, scheduler := range []string{"sh", "dh", "mh"} {
		p, err := NewPool(Options{Scheduler: scheduler, Flags: []string{IPVS}, Initial: Up})
		if err != nil {
			t.Fatal(err)
		}
		p.Update(specs(100))
		pools[scheduler+" ipvs"] = p
	}
	for name, p := range pools {
		tried, n := new(Tried), 0
		for _, b := range p.Backends()[:maxTried] {
			tried.Add(b)
		}
		six := Flow{Client: netip.MustParseAddrPort("[2001:db8::1]:9")}
		if got := testing.AllocsPerRun(1000, func() {
			n++
			a, b, c := acquire(p, client(n), nil), acquire(p, client(n), tried), acquire(p, six, nil)
			p.Release(a)
			p.Release(b)
			p.Release(c)
		}); got != 0 {
			t.Errorf("%s: %v allocations for three flows", name, got)
		}
	}
}

// TestBoundUneven: a backend with next to no weight gets its one flow, no more.
func TestBoundUneven(t *testing.T) {
	t.Parallel()
	p := boundedPool(t, "hrw", 101, weighted(math.MaxInt32, 1))
	for range 1000 {
		acquire(p, client(3), nil)
	}
	if n := p.Backends()[1].Active(); n > 1 {
		t.Errorf("weight 1 of 2^31 has %d of 1000 flows", n)
	}
}
