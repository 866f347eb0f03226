package balancer

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// lotteries are the schedulers that draw, in all their forms.
var lotteries = []struct {
	name     string
	options  Options
	distinct bool
}{
	{"twos", Options{Scheduler: "twos"}, false},
	{"twos ipvs", Options{Scheduler: "twos", Flags: []string{IPVS}}, false},
	{"p2c", Options{Scheduler: "p2c"}, true},
	{"ewma", Options{Scheduler: "ewma"}, true},
}

func eachLottery(t *testing.T, test func(t *testing.T, o Options, distinct bool)) {
	t.Helper()
	for _, l := range lotteries {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			o := l.options
			o.Initial, o.Random = Up, rand.Uint64
			test(t, o, l.distinct)
		})
	}
}

func poolOf(t testing.TB, o Options, s []Spec) *Pool {
	t.Helper()
	p, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	p.Update(s)
	return p
}

// TestLotteriesEqualPlain drives each scheduler and the plain one with the same random
// numbers and operations.
func TestLotteriesEqualPlain(t *testing.T) {
	t.Parallel()
	eachLottery(t, func(t *testing.T, o Options, distinct bool) {
		rnd := newRand(t)
		for range 8 {
			size, seed := 1+rnd.IntN(40), rnd.Uint64()
			source := rand.New(rand.NewPCG(seed, 1))
			o.Random = source.Uint64
			p := poolOf(t, o, boundedSpecs(rnd, size))
			m := &plainLottery{p: p, ipvs: len(o.Flags) > 0, distinct: distinct, random: rand.New(rand.NewPCG(seed, 1))}
			if p.Learns() {
				m.samples = map[*Backend]*[2]estimate{}
			}
			var held []*Backend
			now := time.Duration(0)
			for step := range 2000 {
				now += time.Duration(rnd.Int64N(int64(time.Second)))
				switch op := rnd.IntN(100); {
				case op < 55:
					tried := randomTried(rnd, p)
					want, wantBusy := m.acquire(tried)
					got, busy := p.Acquire(Flow{Now: now}, tried)
					if got != want[0] && got != want[len(want)-1] || busy != wantBusy {
						t.Fatalf("step %d, %d tried: %v, busy %v; want %v, %v", step, tried.Len(), got, busy, want, wantBusy)
					}
					if got != nil {
						held = append(held, got)
						took := time.Duration(1 + rnd.Int64N(int64(time.Second)>>rnd.IntN(20)))
						if rnd.IntN(2) == 0 {
							p.ObserveConnect(got, took, now)
							m.observe(got, 0, took, now)
						} else {
							p.Observe(got, took, now)
							m.observe(got, 1, took, now)
						}
					}
				case op < 90:
					held = releaseOne(rnd, p, held)
				case op < 97:
					if all := p.Backends(); len(all) > 0 {
						p.SetStatus(all[rnd.IntN(len(all))], []Status{Unknown, Up, Up, Down}[rnd.IntN(4)])
					}
				default:
					p.Update(boundedSpecs(rnd, size))
				}
			}
			for len(held) > 0 {
				held = releaseOne(rnd, p, held)
			}
			for _, b := range p.Backends() {
				if b.Active() != 0 {
					t.Errorf("%v ends with %d flows", b, b.Active())
				}
			}
		}
	})
}

func releaseOne(rnd *rand.Rand, p *Pool, held []*Backend) []*Backend {
	if len(held) == 0 {
		return held
	}
	i := rnd.IntN(len(held))
	p.Release(held[i])
	held[i] = held[len(held)-1]
	return held[:len(held)-1]
}

// boundedSpecs is randomSpecs, some with limits.
func boundedSpecs(rnd *rand.Rand, n int) []Spec {
	s := randomSpecs(rnd, n)
	for i := range s {
		switch rnd.IntN(4) {
		case 0:
			s[i].Limits.Max = 1 + rnd.IntN(5)
		case 1:
			s[i].Limits.Upper = 2 + rnd.IntN(5)
			s[i].Limits.Lower = rnd.IntN(3)
		}
	}
	return s
}

// TestLotteryShares: flows that end at once go by weight alone.
func TestLotteryShares(t *testing.T) {
	t.Parallel()
	eachLottery(t, func(t *testing.T, o Options, _ bool) {
		rnd := newRand(t)
		o.Random = rnd.Uint64
		s := specs(100)
		for i := range s {
			s[i].Weight = 1 + i
		}
		p := poolOf(t, o, s)
		const flows = 500_000
		got := make(map[*Backend]int)
		for i := range flows {
			b := acquire(p, client(i), nil)
			got[b]++
			p.Release(b)
		}
		chi := 0.
		for i, b := range p.Backends() {
			draws, all := float64(b.Weight()), 5050.
			if o.Flags != nil {
				all++
				if i == 99 {
					draws++
				}
			}
			want := flows * draws / all
			chi += (float64(got[b]) - want) * (float64(got[b]) - want) / want
		}
		if chi > 190 { // once in ten million with 99 degrees of freedom
			t.Errorf("chi-square %.0f", chi)
		}
	})
}

// TestLotteryLoads: flows that stay spread by weight.
func TestLotteryLoads(t *testing.T) {
	t.Parallel()
	eachLottery(t, func(t *testing.T, o Options, _ bool) {
		s := specs(100)
		for i := range s {
			s[i].Weight = 1 + i
		}
		p := poolOf(t, o, s)
		for _, b := range p.Backends() {
			p.Observe(b, time.Millisecond, 0)
		}
		picks(p, 5050*50)
		for _, b := range p.Backends() {
			want := float64(b.Weight()) * 50
			if got := float64(b.Active()); got < want*.9-5 || got > want*1.1+5 {
				t.Errorf("weight %d has %v flows, want about %v", b.Weight(), got, want)
			}
		}
	})
}

// TestLotteryMostLoaded: two choices leave the most loaded of many backends close to
// the mean, one does not.
func TestLotteryMostLoaded(t *testing.T) {
	t.Parallel()
	eachLottery(t, func(t *testing.T, o Options, _ bool) {
		const n, mean = 1000, 100
		rnd := newRand(t)
		o.Random = rnd.Uint64
		p := poolOf(t, o, specs(n))
		picks(p, n*mean)
		most := int64(0)
		for _, b := range p.Backends() {
			most = max(most, b.Active())
		}
		one := make(map[*Backend]int64)
		table, mostOfOne := newLots(membersOf(p)), int64(0)
		for range n * mean {
			b := table.draw(rnd.Uint64()).backend
			one[b]++
			mostOfOne = max(mostOfOne, one[b])
		}
		if most > mean+8 || mostOfOne < mean+20 {
			t.Errorf("the most loaded has %d flows with two draws and %d with one, of %d", most, mostOfOne, mean)
		}
	})
}

// TestLotteryFindsTheLast: the one of many that is left gets the flow, and without one
// busy says why.
func TestLotteryFindsTheLast(t *testing.T) {
	t.Parallel()
	eachLottery(t, func(t *testing.T, o Options, _ bool) {
		for _, size := range []int{1, 2, 30, 500} {
			s := specs(size)
			for i := range s {
				s[i].Limits.Max = 1
				s[i].Weight = 1 + i*i
			}
			p := poolOf(t, o, s)
			var last []*Backend
			for i := range size {
				b, busy := p.Acquire(client(i), nil)
				if b == nil || busy {
					t.Fatalf("flow %d of %d: %v, busy %v", i, size, b, busy)
				}
				last = append(last, b)
			}
			if b, busy := p.Acquire(client(0), nil); b != nil || !busy {
				t.Errorf("all full: %v, busy %v", b, busy)
			}
			tried := new(Tried)
			for _, b := range last {
				tried.Add(b)
			}
			if b, busy := p.Acquire(client(0), tried); b != nil || busy != (size > maxTried) {
				t.Errorf("%d of %d full ones tried: %v, busy %v", tried.Len(), size, b, busy)
			}
			p.Release(last[0])
			if b, busy := p.Acquire(client(0), tried); b != nil || busy != (size > maxTried) {
				t.Errorf("the one with room is tried: %v, busy %v", b, busy)
			}
			if b, _ := p.Acquire(client(0), nil); b != last[0] {
				t.Errorf("%v instead of the one with room", b)
			}
		}
		p := poolOf(t, o, nil)
		if b, busy := p.Acquire(client(0), nil); b != nil || busy {
			t.Errorf("empty pool: %v, busy %v", b, busy)
		}
	})
}

// TestLotteryKeepsMax has many flows race for the last room.
func TestLotteryKeepsMax(t *testing.T) {
	t.Parallel()
	eachLottery(t, func(t *testing.T, o Options, _ bool) {
		const n, most, workers = 5, 3, 8
		s := specs(n)
		for i := range s {
			s[i].Limits.Max = most
		}
		p := poolOf(t, o, s)
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range 20_000 {
					b, busy := p.Acquire(client(i+w), nil)
					if b == nil {
						if !busy {
							t.Error("none, and none busy")
						}
						continue
					}
					if got := b.Active(); got > most {
						t.Errorf("%v has %d flows", b, got)
					}
					p.Observe(b, time.Duration(i), time.Duration(i)*time.Millisecond)
					if i%100 == 99 {
						// One more, which workers*2 > n*most makes hard to get.
						if c := acquire(p, client(i), nil); c != nil {
							p.Release(c)
						}
					}
					p.Release(b)
				}
			})
		}
		wg.Wait()
		for _, b := range p.Backends() {
			if b.Active() != 0 {
				t.Errorf("%v ends with %d flows", b, b.Active())
			}
		}
	})
}

// TestP2CWithTwo is least connections: both are always compared.
func TestP2CWithTwo(t *testing.T) {
	t.Parallel()
	for _, weights := range [][2]int{{1, 1}, {1, 3}, {1000, 1}} {
		s := specs(2)
		s[0].Weight, s[1].Weight = weights[0], weights[1]
		p := newPool(t, "p2c", s)
		a, b := p.Backends()[0], p.Backends()[1]
		for i := range 10 * (weights[0] + weights[1]) {
			x, y := a.Active()*int64(weights[1]), b.Active()*int64(weights[0])
			if got := acquire(p, client(i), nil); x < y && got != a || y < x && got != b {
				t.Fatalf("weights %v: flow %d went to %v", weights, i, got)
			}
		}
		if a.Active() != int64(10*weights[0]) && fmt.Sprint(weights) == "[1 1]" {
			t.Errorf("equal weights: %d and %d flows", a.Active(), b.Active())
		}
	}
}
