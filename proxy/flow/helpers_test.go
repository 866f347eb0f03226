package flow

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"usher/balancer"
)

// testService returns a service with its config, which no server has.
func testService(c ServiceConfig) *Service {
	svc := NewService(c.Name, 0)
	svc.SetSettings(NewSettings(svc, c, nil, nil))
	return svc
}

// testUDPService returns the config of a udp service in front of backends.
func testUDPService(t testing.TB, c UDPConfig, backends ...netip.AddrPort) ServiceConfig {
	t.Helper()
	pool, err := balancer.NewPool(balancer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all []balancer.Spec
	for _, b := range backends {
		all = append(all, balancer.Spec{Endpoint: balancer.Endpoint{Addr: b}, Weight: 1, Check: balancer.Up})
	}
	pool.Update(all, 0)
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	return ServiceConfig{Name: "test", Listeners: []Listener{{Network: "udp"}}, Pool: pool, UDP: c}
}

// testBinding returns an address whose clients are a service's.
func testBinding(svc *Service) *Binding {
	b := new(Binding)
	b.Assign(Claim{Service: svc})
	return b
}

// setCheck has checks find the status of a backend.
func setCheck(pool *balancer.Pool, b *balancer.Backend, found balancer.Status) {
	var all []balancer.Spec
	for _, x := range pool.Backends() {
		s := balancer.Spec{Endpoint: x.Endpoint(), Weight: x.Weight(), Backup: x.Backup(), Limits: x.Limits(), Check: x.Status()}
		if x == b {
			s.Check = found
		}
		all = append(all, s)
	}
	pool.Update(all, 0)
}

// testObserver counts the results that it observes.
type testObserver struct{ good, bad atomic.Int64 }

func (w *testObserver) OnSuccess(*balancer.Backend) { w.good.Add(1) }
func (w *testObserver) OnFailure(*balancer.Backend) { w.bad.Add(1) }

// route routes an empty datagram.
func (m *Sessions) route(at *Binding, client, local netip.AddrPort, now time.Duration) (*Session, Action) {
	return m.Route(at, &Arrival{Peer: client, Local: local}, now)
}
