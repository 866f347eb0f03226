package rules

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"usher/proxy/limit"
)

// TestStateIsRestored saves and restores sets whose flows have ended, as an upgrade does. From
// then on the two do and count the same.
func TestStateIsRestored(t *testing.T) {
	t.Parallel()
	const first = 1 // another one tests other cases
	for n := range 20 {
		seed := first + uint64(n)
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
		p := &pair{generator: g}
		p.compile(t, g.list(g.IntN(200)), seed)
		for i := range 200 {
			if err := p.step(); err != nil {
				t.Fatalf("seed %d, packet %d: %v", seed, i, err)
			}
		}
		for _, f := range p.flows {
			f.holds.Release()
		}
		data, err := cbor.Marshal(p.set.State())
		if err != nil {
			t.Fatal(err)
		}
		var state State
		if err := cbor.Unmarshal(data, &state); err != nil {
			t.Fatal(err)
		}
		restored := compile(t, p.set.list, nil, Options{Seed: seed, State: &state})
		for range 200 {
			p.now += time.Duration(g.IntN(1000)) * time.Millisecond
			packet := g.packet()
			var a, b limit.Holds
			want, got := p.set.Decide(packet, p.now, &a), restored.Decide(packet, p.now, &b)
			a.Release()
			b.Release()
			if want.Target != got.Target {
				t.Fatalf("seed %d: %+v: verdict %d, want %d", seed, packet, got.Target, want.Target)
			}
		}
		for i := range p.set.chains {
			_, want := p.set.Counters(i)
			_, got := restored.Counters(i)
			for n := range want {
				if want[n].state() != got[n].state() {
					t.Errorf("seed %d: chain %d, rule %d counted %v, want %v", seed, i, n, got[n].state(), want[n].state())
				}
			}
		}
	}
	if (*Set)(nil).State() != nil {
		t.Error("there is a state of no rules")
	}
}

// TestHostileState restores states with random numbers. They only make odd counters.
func TestHostileState(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	number := func() int64 { return oneOf(g, math.MinInt64, -1, 0, 1, math.MaxInt64, int64(g.Uint64())) }
	for range 50 {
		p := &pair{generator: g}
		p.compile(t, g.list(g.IntN(200)), seed)
		for range 50 {
			p.step()
		}
		state := p.set.State()
		for i := range state.Chains {
			for n := range state.Chains[i].Rules {
				r := &state.Chains[i].Rules[n]
				r.Matches = nil
				for range g.IntN(4) {
					r.Matches = append(r.Matches, number())
				}
			}
		}
		for i := range state.Hashlimits {
			for range 200 {
				b := limit.BucketState{Arrival: number(), Used: time.Duration(number())}
				b.Key[g.IntN(len(b.Key))] = byte(g.IntN(256))
				state.Hashlimits[i].Buckets = append(state.Hashlimits[i].Buckets, b)
			}
		}
		for i := range state.Recents {
			for range 300 {
				e := RecentEntryState{Address: oneOf(g, g.addr(), netip.Addr{})}
				for range g.IntN(300) {
					e.Stamps = append(e.Stamps, time.Duration(number()))
				}
				state.Recents[i].Entries = append(state.Recents[i].Entries, e)
			}
		}
		s := compile(t, p.set.list, nil, Options{State: state})
		for range 50 {
			var h limit.Holds
			s.Decide(g.packet(), time.Duration(g.Int64()), &h)
			h.Release()
		}
	}
}
