package flow

import (
	"net/netip"
	"testing"
	"time"
	"usher/internal/race"
)

// roomless is a service in which one client may begin flows, and no other finds room.
func roomless(t testing.TB, u UDPConfig) (m *Sessions, svc *Service, ask func(client uint32) *Session) {
	c := testUDPService(t, u, netip.MustParseAddrPort("10.0.0.1:53"))
	svc = testService(c)
	m = sessionsOf(admissionFor(t, 200, svc), func(*Session) {})
	local, to := netip.MustParseAddrPort("192.0.2.2:53"), testBinding(svc)
	in := &Arrival{Local: local}
	return m, svc, func(client uint32) *Session {
		in.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(client >> 16), byte(client >> 8), byte(client)}), 1000)
		x, _ := m.Route(to, in, time.Millisecond)
		return x
	}
}

// TestDatagramFlowsAllocateNothing, neither those that begin and end, of ever new
// addresses, nor those that are refused.
func TestDatagramFlowsAllocateNothing(t *testing.T) {
	m, _, ask := roomless(t, UDPConfig{Replies: 1})
	client := uint32(0)
	allocateNothing(t, func() {
		client++
		x := ask(client)
		m.Sent(x, 1, 10, time.Millisecond)
		m.Replied(x, 10, time.Millisecond)
	})
	for _, u := range []UDPConfig{{MaxFlows: 100}, {}, {MaxClientFlows: 1}} {
		m, svc, ask := roomless(t, u)
		for i := range uint32(200) {
			ask(i)
		}
		refused := svc.Ended(ServiceFull) + svc.Ended(ServerFull)
		allocateNothing(t, func() { ask(1000) })
		if now := svc.Ended(ServiceFull) + svc.Ended(ServerFull); now == refused || m.table.Len() == 0 {
			t.Errorf("%+v: nobody was refused", u)
		}
	}
}

func allocateNothing(t *testing.T, work func()) {
	t.Helper()
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for range 2500 {
		work()
	}
	if n := testing.AllocsPerRun(10_000, work); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDatagramFlow(b *testing.B) {
	for name, u := range map[string]UDPConfig{"share": {}, "none": {MaxClientFlows: -1}} {
		b.Run(name, func(b *testing.B) {
			m, _, ask := roomless(b, u)
			client := uint32(0)
			b.ReportAllocs()
			for b.Loop() {
				client++
				m.end(ask(client), Replied, time.Millisecond)
			}
		})
	}
}
