package config

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// The sum of a service's addresses never hides a backend at a listener, and usually shows that there is none.
func TestTargetsHideNothing(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 0))
	local := func(ip netip.Addr) bool { return ip.As16()[15]%7 == 0 }
	ip := func() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(256))}) }
	vain := 0
	for range 2000 {
		s := &Service{}
		for range r.IntN(8) {
			b := Backend{Addr: Addr{Network: TCP, IP: ip(), Port: 80, Ports: 1}}
			switch r.IntN(20) {
			case 0:
				b.Addr = Addr{Network: TCP, Name: "db", Port: 80, Ports: 1}
			case 1:
				b.Addr = Addr{Network: Unix, Path: "/x"}
			case 2:
				b.Check = netip.AddrPortFrom(ip(), 80)
			}
			s.Backends = append(s.Backends, b)
		}
		listeners := []Addr{{Network: TCP, IP: ip(), Port: 80, Ports: 1}}
		switch r.IntN(10) {
		case 0:
			listeners = append(listeners, Addr{Network: TCP, IP: netip.IPv4Unspecified(), Port: 81, Ports: 1})
		case 1:
			listeners = append(listeners, Addr{Network: Unix, Path: "/x"})
		}
		reach, targets := NewReach(listeners, local), NewTargets(s, local)
		has, may := reach.Has(s), reach.MayHave(&targets)
		if has && !may {
			t.Fatalf("listeners %v, backends %v: hidden", listeners, s.Backends)
		}
		if may && !has {
			vain++
		}
	}
	if vain > 600 {
		t.Errorf("%d of 2000 in vain", vain)
	}
}
