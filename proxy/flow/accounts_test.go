package flow

import (
	"net/netip"
	"testing"

	"usher/balancer"
	"usher/conntrack"
)

// TestBytesAreCountedOnce: a counter gets what is new, and never goes back, also when some of
// it is taken back from the flow.
func TestBytesAreCountedOnce(t *testing.T) {
	t.Parallel()
	pool, err := balancer.NewPool(balancer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:80")}}}, 0)
	b, svc := pool.Backends()[0], NewService("test", 0)
	_, ent := conntrack.New[Service, balancer.Backend](1).Insert(conntrack.Key{}, svc, 0)
	var c counted
	for _, step := range []struct {
		up, down         int // that the flow passes on
		wantUp, wantDown uint64
	}{{10, 0, 10, 0}, {0, 0, 10, 0}, {5, 7, 15, 7}, {-3, 0, 15, 7}, {2, 1, 15, 8}, {2, 0, 16, 8}} {
		ent.CountUp(step.up, 0)
		ent.CountDown(step.down, 0)
		c.add(ent, svc, b, nil)
		up, down := svc.Bytes()
		backendUp, backendDown := b.Bytes()
		if up != step.wantUp || down != step.wantDown || backendUp != up || backendDown != down {
			t.Errorf("after %+v the service has %d and %d, the backend %d and %d", step, up, down, backendUp, backendDown)
		}
	}
}

// TestFailedOutcomes: those that ended well, or by their client's doing, are no failures.
func TestFailedOutcomes(t *testing.T) {
	t.Parallel()
	svc := NewService("test", 0)
	for o := range Outcomes() {
		svc.ended[o].Add(1)
	}
	served := []Outcome{
		Finished, ClientReset, BackendReset, ClientLost, BackendLost, IdleTimeout, HalfCloseTimeout, Drained, Replied,
		Evicted, Reclaimed, BackendDown, Aged, Aborted, Killed, Rebalanced,
		Denied, RateLimited, ClientLimit, BadProxyHeader, NoServerName, NoEndpoint,
	}
	for _, o := range served {
		if o.IsFailure() {
			t.Errorf("%v is a failure", o)
		}
	}
	if n := svc.Failed(); n != uint64(int(outcomes)-1-len(served)) {
		t.Errorf("%d outcomes are failures", n)
	}
}
