package rules

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/proxy/limit"
)

// TestSharedLimits has many goroutines decide at once, while the list is compiled anew: no
// limit lets more through than it may, and no count is lost.
func TestSharedLimits(t *testing.T) {
	t.Parallel()
	const workers, each, living, burst = 8, 2000, 3, 100
	rate := limit.Rate{Events: 1, Per: 24 * time.Hour, Burst: burst}
	mask := netip.MustParseAddr("255.255.255.255")
	accept := func(port uint16, m ...Match) *Rule {
		ports := &Ports{Protocol: TCP, Destination: &PortRange{port, port}}
		return &Rule{Target: Accept, Matches: append([]Match{ports}, m...)}
	}
	list := input(Drop,
		&Rule{Target: Continue},
		accept(1, &Limit{rate}),
		accept(2, &Hashlimit{Name: "h", Rate: rate, Source: true, SourceBits: 32}),
		accept(3, &Connlimit{N: living, Bits: 32}),
		accept(4, &Statistic{Every: 4}),
		accept(5, &Recent{Name: "r", Mask: mask, Action: RecentSet}, &Recent{Name: "r", Mask: mask, Action: RecentCheck, HitCount: 5}),
	)
	var set atomic.Pointer[Set]
	set.Store(compile(t, list, nil, Options{}))
	var accepted [6]atomic.Int64
	var alive atomic.Int64
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 0))
			p := packet(plain)
			for range each {
				port := uint16(1 + random.IntN(5))
				p.Local = netip.AddrPortFrom(p.Local.Addr(), port)
				var h limit.Holds
				v := set.Load().Decide(p, time.Second, &h)
				if v.Target != Accept {
					continue
				}
				accepted[port].Add(1)
				if port == 3 {
					if n := alive.Add(1); n > living {
						t.Errorf("%d flows live", n)
					}
					alive.Add(-1)
				}
				h.Release()
			}
		})
	}
	all.Go(func() {
		for range 50 {
			next, err := Compile(list, set.Load(), Options{})
			if err != nil {
				t.Error(err)
				return
			}
			set.Store(next)
		}
	})
	all.Wait()
	_, counters := set.Load().Counters(0)
	if n := counters[0].Flows.Load(); n != workers*each {
		t.Errorf("%d flows were counted, want %d", n, workers*each)
	}
	for port := 1; port <= 5; port++ {
		if counted := counters[port].Flows.Load(); int64(counted) != accepted[port].Load() {
			t.Errorf("rule %d counted %d flows, accepted %d", port, counted, accepted[port].Load())
		}
	}
	for _, port := range []int{1, 2} {
		if n := accepted[port].Load(); n != burst {
			t.Errorf("rule %d accepted %d flows, want %d", port, n, burst)
		}
	}
}

// TestDecideAllocatesNothing sends packets through all kinds of rules. A flow is in two counts
// at most, for which its holds have room.
func TestDecideAllocatesNothing(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(1, 0))}
	list := g.list(2000)
	for _, c := range list.Chains {
		for _, r := range c.Rules {
			r.Matches = slices.DeleteFunc(r.Matches, func(m Match) bool { _, is := m.(*Connlimit); return is })
		}
	}
	for n := range 2 {
		r := &Rule{Matches: []Match{&Connlimit{N: n, Bits: 24}}}
		list.Chains[0].Rules = slices.Insert(list.Chains[0].Rules, 0, r)
	}
	logged := 0
	s := compile(t, list, nil, Options{Log: func(*Rule, Packet) { logged++ }})
	packets := make([]*Packet, 200)
	for i := range packets {
		packets[i] = g.packet()
	}
	now := time.Duration(0)
	round := func() {
		for _, p := range packets {
			now += time.Millisecond
			local := *p // as on the stack of a worker
			var h limit.Holds
			s.Judge(&local)
			s.Decide(&local, now, &h)
			h.Release()
		}
	}
	for range 50 { // tables grow until they are full
		round()
	}
	if n := testing.AllocsPerRun(10, round); n != 0 {
		t.Errorf("%v allocations for %d packets", n, len(packets))
	}
}

// TestConnlimitCountsAFlowOnce has a flow come to one rule by two jumps.
func TestConnlimitCountsAFlowOnce(t *testing.T) {
	t.Parallel()
	s := compile(t, &List{[]*Chain{
		{Name: Input, Policy: Accept, Rules: []*Rule{
			{Target: Jump, Chain: "few"},
			{Target: Jump, Chain: "few"},
		}},
		{Name: "few", Rules: []*Rule{{Target: Reject, Matches: []Match{&Connlimit{Above: true, N: 1, Bits: 32}}}}},
	}}, nil, Options{})
	var first, second limit.Holds
	if v := s.Decide(packet(plain), 0, &first); v.Target != Accept {
		t.Errorf("first flow: verdict %d", v.Target)
	}
	if v := s.Decide(packet(plain), 0, &second); v.Target != Reject {
		t.Errorf("second flow: verdict %d", v.Target)
	}
}

// TestRecent checks what the random test comes to seldom.
func TestRecent(t *testing.T) {
	t.Parallel()
	addr := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
	l := newRecentList(netip.MustParseAddr("255.255.255.255"), 0)
	set := &Recent{Action: RecentSet}
	check := func(seconds, hits int) *Recent { return &Recent{Action: RecentCheck, Seconds: seconds, HitCount: hits} }
	for n := range 150 {
		l.visit(set, addr(n), 0)
		l.visit(set, addr(0), 0)
	}
	for n, want := range map[int]bool{0: true, 1: false, 50: false, 51: true, 149: true} {
		if is := l.visit(check(0, 0), addr(n), 0); is != want {
			t.Errorf("address %d is remembered: %v", n, is)
		}
	}
	if l.visit(check(0, recentStamps+1), addr(0), 0) || !l.visit(check(0, recentStamps), addr(0), 0) {
		t.Error("an address has not the number of stamps that it may have")
	}
	l.visit(set, addr(0), time.Hour)
	if !l.visit(check(1, 1), addr(0), time.Hour+time.Second) || l.visit(check(1, 2), addr(0), time.Hour) {
		t.Error("it is not the oldest stamp that goes")
	}
	// The oldest address is not stamped by a check of another one, and goes.
	if l.visit(&Recent{Action: RecentUpdate, Seconds: 1, Reap: true}, addr(0), time.Hour); l.visit(check(0, 0), addr(51), 0) {
		t.Error("the oldest address was not reaped")
	}
	// The oldest one itself is looked at, too old for the rule, and goes.
	if l.visit(&Recent{Action: RecentCheck, Seconds: 1, Reap: true}, addr(52), time.Hour) || l.visit(check(0, 0), addr(52), 0) {
		t.Error("an old address was not reaped by its own check")
	}
	// It is updated, and so not reaped, by a rule that matches what was not seen.
	if !l.visit(&Recent{Action: RecentUpdate, Not: true, Seconds: 1, Reap: true}, addr(53), time.Hour) || !l.visit(check(0, 0), addr(53), 0) {
		t.Error("an address was reaped that was updated")
	}
}
