package flow

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// onceSessions is a service that schedules each datagram, before backends of the weights 3, 1
// and 1.
func onceSessions(t *testing.T, scheduler string, l balancer.Limits) (*Sessions, *Service) {
	t.Helper()
	pool, err := balancer.NewPool(balancer.Options{Scheduler: scheduler, Random: rand.New(rand.NewPCG(1, 2)).Uint64})
	if err != nil {
		t.Fatal(err)
	}
	var specs []balancer.Spec
	for i, weight := range []int{3, 1, 1} {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}), 53)
		specs = append(specs, balancer.Spec{Endpoint: balancer.Endpoint{Addr: at}, Weight: weight, Check: balancer.Up, Limits: l})
	}
	pool.Update(specs, 0)
	c := ServiceConfig{Pool: pool, UDP: UDPConfig{IdleTimeout: time.Minute, OnePacket: true}}
	svc := testService(c)
	return sessionsOf(admissionFor(t, 10_000, svc), func(*Session) {}), svc
}

// TestOnePacketShares has every scheduler place datagrams while so many before them are
// not answered yet, of one client or of many.
func TestOnePacketShares(t *testing.T) {
	t.Parallel()
	equal, weighed, first := [3]int{100, 100, 100}, [3]int{180, 60, 60}, [3]int{300, 0, 0}
	for _, tt := range []struct {
		schedulers []string
		open       int
		clients    int
		want       [3]int
		off        int // by so much at the most
	}{
		{[]string{"rr", "lc"}, 0, 1, equal, 0},
		{[]string{"rr", "lc"}, 50, 1, equal, 1},
		{[]string{"wrr", "wlc"}, 0, 1, weighed, 0},
		{[]string{"wrr", "wlc", "sed", "nq"}, 50, 1, weighed, 1},
		{[]string{"p2c", "twos", "ewma"}, 0, 1, weighed, 30},
		{[]string{"p2c", "twos", "ewma"}, 50, 1, weighed, 15},
		{[]string{"nq"}, 0, 1, equal, 0},               // idle ones are alike to it
		{[]string{"sed", "fo", "ovf"}, 0, 1, first, 0}, // the heaviest is the fastest, and free
		{[]string{"ovf"}, 5, 1, weighed, 40},
		{[]string{"mh", "sh", "ring", "hrw"}, 0, 300, weighed, 30},
		{[]string{"mh", "sh", "ring", "hrw"}, 50, 300, weighed, 30},
	} {
		for _, scheduler := range tt.schedulers {
			m, svc := onceSessions(t, scheduler, balancer.Limits{})
			var open []*Session
			got := make(map[*balancer.Backend]int)
			for i := range 300 {
				client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i % tt.clients >> 8), byte(i % tt.clients)}), 1000)
				x, a := m.route(testBinding(svc), client, netip.MustParseAddrPort("192.0.2.2:53"), time.Millisecond)
				if x == nil {
					t.Fatalf("%s: datagram %d: %v", scheduler, i, a)
				}
				m.Sent(x, 1, 10, time.Millisecond)
				got[x.backend]++
				if open = append(open, x); len(open) >= max(tt.open, 1) {
					m.Replied(open[0], 10, time.Millisecond)
					open = open[1:]
				}
			}
			for i, b := range svc.Config().Pool.Backends() {
				if n := got[b]; n < tt.want[i]-tt.off || n > tt.want[i]+tt.off {
					t.Errorf("%s, %d unanswered, %d clients: backend %d got %d, want %d ± %d", scheduler, tt.open, tt.clients, i, n, tt.want[i], tt.off)
				}
			}
		}
	}
}

// TestOnePacketLimit lets each backend have one datagram that is not answered, by a client
// whose sessions are there already.
func TestOnePacketLimit(t *testing.T) {
	t.Parallel()
	for _, l := range []balancer.Limits{{Max: 1}, {Upper: 1}} {
		m, svc := onceSessions(t, "rr", l)
		ask := func(now time.Duration) *Session {
			x, _ := m.route(testBinding(svc), netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:53"), now)
			if x != nil {
				m.Sent(x, 1, 10, now)
			}
			return x
		}
		for i := range 60 {
			now := time.Duration(i) * time.Millisecond
			var all []*Session
			for range 3 {
				x := ask(now)
				if x == nil {
					t.Fatalf("%+v: no room for datagram %d", l, i)
				}
				all = append(all, x)
			}
			if ask(now) != nil {
				t.Fatalf("%+v: a fourth datagram is under way", l)
			}
			for _, x := range all {
				m.Replied(x, 10, now)
			}
		}
		// What is never answered is given up.
		const asked = time.Minute / 2
		for range 3 {
			ask(asked)
		}
		m.Expire(asked + lostAfter - conntrack.Tick)
		if ask(asked+lostAfter-conntrack.Tick) != nil {
			t.Errorf("%+v: given up before %v", l, lostAfter)
		}
		for now := asked; now <= asked+2*lostAfter+conntrack.Tick; now += conntrack.Tick {
			m.Expire(now)
		}
		if ask(asked+2*lostAfter+conntrack.Tick) == nil {
			t.Errorf("%+v: not given up after %v", l, 2*lostAfter)
		}
	}
}
