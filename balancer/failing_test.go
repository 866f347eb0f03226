package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestFailingGetsNoMoreThanItsShare: with some backends dead, each refused choice replaced
// by another, none of the dead is a newcomer's first choice more often than is fair. It is
// the same for refusals at once and for those that other newcomers come before.
func TestFailingGetsNoMoreThanItsShare(t *testing.T) {
	t.Parallel()
	for _, a := range Algorithms() {
		for _, flags := range [][]string{nil, {IPVS}} {
			if flags != nil && !slices.Contains(a.Flags, IPVS) {
				continue
			}
			for _, late := range []int{0, 20} {
				for _, weights := range [][]int{{1, 1}, {1, 9}, {1, 1, 1, 1, 1}, {5, 1, 2, 7, 3, 1}} {
					name := fmt.Sprint(a.Name, flags, weights, late)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						rnd := newRand(t)
						for _, dead := range slices.Compact([]int{1, len(weights) - 1}) {
							m := newMortals(t, rnd, Options{Scheduler: a.Name, Flags: flags}, weights)
							m.late = late
							for _, i := range rnd.Perm(len(weights))[:dead] {
								m.dead[m.p.Backends()[i]] = true
							}
							m.run(t, 1500)
							m.check(t, a, flags != nil, weights)
						}
					})
				}
			}
		}
	}
}

// TestFailingUnderBound: a bounded load that the living have reached does not send their
// clients to the dead.
func TestFailingUnderBound(t *testing.T) {
	t.Parallel()
	for _, a := range Algorithms() {
		if !a.Bounds {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			t.Parallel()
			rnd := newRand(t)
			weights := []int{1, 1, 1}
			m := newMortals(t, rnd, Options{Scheduler: a.Name, Balance: 110}, weights)
			m.dead[m.p.Backends()[rnd.IntN(3)]] = true
			m.run(t, 1500)
			m.check(t, a, false, weights)
		})
	}
}

// mortals are a pool of which some backends refuse every flow.
type mortals struct {
	p      *Pool
	twin   *Pool // the same with all alive
	rnd    *rand.Rand
	dead   map[*Backend]bool
	late   int // how many newcomers come before a refusal
	first  map[*Backend]int
	alive  map[Endpoint]int // first choices of the twin
	held   []*Backend
	trying []*attempt
}

type attempt struct {
	flow  Flow
	b     *Backend
	tried Tried
	until int // the newcomer before which it is refused
}

func newMortals(t *testing.T, rnd *rand.Rand, o Options, weights []int) *mortals {
	o.Random = rnd.Uint64
	m := &mortals{rnd: rnd, dead: map[*Backend]bool{}, first: map[*Backend]int{}, alive: map[Endpoint]int{}}
	m.p = poolOf(t, o, weighing(weights...))
	m.twin = poolOf(t, o, weighing(weights...))
	return m
}

// run sends newcomers, of which those that are served stay for a while.
func (m *mortals) run(t *testing.T, newcomers int) {
	for i := range newcomers {
		for len(m.trying) > 0 && m.trying[0].until <= i {
			m.refuse(t, m.trying[0], i)
			m.trying = m.trying[1:]
		}
		f := Flow{
			Client: netip.AddrPortFrom(ipv4(m.rnd.Uint32()), 40000),
			Local:  netip.AddrPortFrom(ipv4(m.rnd.Uint32N(20)), 80),
		}
		if b := acquire(m.twin, f, nil); b != nil {
			m.alive[b.Endpoint()]++
			m.twin.Release(b)
		}
		b := acquire(m.p, f, nil)
		if b == nil {
			continue // ipvs hashes of weight 0, thresholds of ovf
		}
		m.first[b]++
		a := &attempt{flow: f, b: b, until: i + m.late}
		m.settle(t, a, i)
		for len(m.held) > 50 || len(m.held) > 0 && m.rnd.IntN(3) == 0 {
			m.held = releaseOne(m.rnd, m.p, m.held)
		}
	}
}

// settle has the backend of an attempt take it up or refuse it, maybe later.
func (m *mortals) settle(t *testing.T, a *attempt, now int) {
	switch {
	case !m.dead[a.b]:
		a.b.ClearFailing()
		m.held = append(m.held, a.b)
	case a.until > now:
		m.trying = append(m.trying, a)
	default:
		m.refuse(t, a, now)
	}
}

func (m *mortals) refuse(t *testing.T, a *attempt, now int) {
	a.b.CountFailure(FailedOther)
	m.p.Release(a.b)
	a.tried.Add(a.b)
	if a.b = acquire(m.p, a.flow, &a.tried); a.b == nil {
		return // ovf: the rest is full
	}
	a.until = now + m.late
	m.settle(t, a, now)
}

// check compares the first choices of the dead with fair shares, and all that the living
// got with their shares where turns give them.
func (m *mortals) check(t *testing.T, a Algorithm, ipvs bool, weights []int) {
	t.Helper()
	all, weight, n := 0, 0, len(weights)
	for _, b := range m.p.Backends() {
		all += m.first[b]
		weight += b.Weight()
	}
	served, living := 0.0, 0
	even := slices.Max(weights) == 1
	for _, b := range m.p.Backends() {
		if !m.dead[b] {
			served += float64(b.Total())
			living += b.Weight()
		}
	}
	for i, b := range m.p.Backends() {
		if !m.dead[b] {
			if fair := served * float64(weights[i]) / float64(living); (a.Name == "wrr" || a.Name == "rr" && even) && math.Abs(float64(b.Total())-fair) > fair/5+5 {
				t.Errorf("%d of %d dead: weight %d of %d serves %d, fair is %.0f", len(m.dead), n, weights[i], living, b.Total(), fair)
			}
			continue
		}
		share := float64(weights[i]) / float64(weight)
		slack := 2.0
		switch a.Name {
		case "fo", "ovf":
			share = 1 // the first in the order gets all
		case "rr", "lc":
			share = 1 / float64(n)
		case "twos", "p2c", "ewma":
			if ipvs {
				share = float64(weights[i]+1) / float64(weight+1)
			}
			slack = 5 * math.Sqrt(float64(all)*share)
		case "mh", "sh", "dh", "ring", "hrw":
			share = float64(m.alive[b.Endpoint()]) / float64(all)
		case "lblc", "lblcr":
			slack += 20 // the destinations that it had
		}
		// Nobody knows of the first refusal before it has come.
		if most := share*float64(all) + slack + float64(m.late); float64(m.first[b]) > most {
			t.Errorf("%d of %d dead: weight %d of %d is first for %d of %d newcomers, fair is %.0f",
				len(m.dead), n, weights[i], weight, m.first[b], all, most)
		}
	}
}
