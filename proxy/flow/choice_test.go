package flow

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// TestRefusedClientStaysWhereItMoved: of clients that persist, each is refused by a dead
// backend once at the most, and no more of them than is fair.
func TestRefusedClientStaysWhereItMoved(t *testing.T) {
	t.Parallel()
	for _, scheduler := range balancer.Schedulers() {
		if scheduler == "fo" || scheduler == "ovf" || scheduler == "lblc" || scheduler == "dh" {
			continue // the first of an order, or of the one destination, gets all
		}
		pool, err := balancer.NewPool(balancer.Options{Scheduler: scheduler, Random: rand.Uint64})
		if err != nil {
			t.Fatal(err)
		}
		pool.Update([]balancer.Spec{
			{Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:80")}, Weight: 1, Check: balancer.Up},
			{Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.2:80")}, Weight: 1, Check: balancer.Up},
		}, 0)
		dead := pool.Backends()[0]
		svc := testService(ServiceConfig{Pool: pool, Persist: Persist{AffinityConfig: conntrack.AffinityConfig{Timeout: time.Minute}, On: true}}).Settings()
		svc.affinity = conntrack.NewAffinity[Service, balancer.Backend](100)
		const clients = 50
		first := 0
		for i := range 4 * clients {
			now := time.Duration(i) * time.Millisecond
			f := balancer.Flow{Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % clients)}), 1000), Local: netip.MustParseAddrPort("127.0.0.1:80"), Now: now}
			var tried balancer.Tried
			var hold conntrack.AffinityRef
			var rejoins bool
			b, _ := svc.choose(f, &tried, &hold, &rejoins)
			if b == dead {
				first++
				b.CountFailure(balancer.FailedRefused)
				svc.release(b)
				tried.Add(b)
				b, _ = svc.choose(f, &tried, &hold, &rejoins)
			}
			if b == nil || b == dead {
				t.Fatalf("%s: client %d ends with %v", scheduler, i, b)
			}
			svc.release(b)
			svc.forget(&hold, now)
		}
		if first > clients*4/5 {
			t.Errorf("%s: the dead backend was first for %d of %d clients", scheduler, first, clients)
		}
	}
}

func TestLifetimeHasJitter(t *testing.T) {
	t.Parallel()
	s := testService(ServiceConfig{MaxAge: time.Hour, MaxAgeJitter: 0.1}).Settings()
	seen, less := make(map[time.Duration]bool), 0
	for id := range conntrack.ID(100) {
		d := s.lifetime(id, time.Minute)
		if d < 54*time.Minute || d > 66*time.Minute {
			t.Errorf("a flow may last %v, want an hour give or take a tenth", d)
		}
		if seen[d] = true; d < time.Hour {
			less++
		}
	}
	if len(seen) < 50 || less < 20 || less > 80 {
		t.Errorf("%d different lifetimes of 100, %d below the mean", len(seen), less)
	}
	if d := new(Settings).lifetime(1, time.Minute); d != 0 {
		t.Errorf("without a maximum age flows last %v", d)
	}
}
