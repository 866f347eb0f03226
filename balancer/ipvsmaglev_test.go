package balancer

import (
	"net/netip"
	"testing"
)

// ipvsTen returns 10.1.0.1:80 and on, with these weights.
func ipvsTen(weights ...int) []Spec {
	s := weighted(weights...)
	for i := range s {
		s[i].Endpoint.Addr = netip.AddrPortFrom(ipv4(10<<24|1<<16|uint32(i+1)), 80)
	}
	return s
}

func TestIPVSMaglevVectors(t *testing.T) {
	t.Parallel()
	p := ipvsPool(t, ipvsTen(1, 1, 1), "mh")
	for i, want := range []ipvsWay{{310, 1461, 0}, {2769, 572, 0}, {2424, 45, 0}} {
		if got := newIPVSWay(p.Backends()[i], 0); got != want {
			t.Errorf("%v: offset and skip %v, want %v", p.Backends()[i], got, want)
		}
	}
	ported := ipvsPool(t, ipvsTen(1, 1, 1), "mh", "mh-port")
	for _, tt := range []struct {
		addr           string
		slot, withPort uint32
		backend        int
	}{
		{"10.0.0.1", 3711, 490, 0},
		{"10.0.0.2", 1884, 1889, 1},
		{"192.168.1.1", 2456, 1278, 2},
		{"203.0.113.7", 1705, 2416, 0},
	} {
		f := from(tt.addr, 12345)
		for p, want := range map[*Pool]uint32{p: tt.slot, ported: tt.withPort} {
			s := p.scheduler.(*ipvsHash)
			if got := s.hash(s.key(&f), 0); got != want {
				t.Errorf("%s, port counts: %v: slot %d, want %d", tt.addr, s.port, got, want)
			}
		}
		if b := acquire(p, f, nil); b != p.Backends()[tt.backend] {
			t.Errorf("%s goes to %v, want %v", tt.addr, b, p.Backends()[tt.backend])
		}
	}
}

// TestIPVSMaglevMoreBackendsThanSlots: the newest have none, and a backend more or less
// among them moves nobody.
func TestIPVSMaglevMoreBackendsThanSlots(t *testing.T) {
	t.Parallel()
	p := ipvsPool(t, specs(ipvsMaglevSlots+1), "mh")
	place := func() (at [200]*Backend) {
		for i := range at {
			at[i] = acquire(p, client(i), nil)
			if at[i] == nil {
				t.Fatalf("client %d gets no backend", i)
			}
		}
		return at
	}
	before := place()
	p.Update(specs(ipvsMaglevSlots + 5))
	if place() != before {
		t.Error("a backend that has no slot moves clients")
	}
	for i, n := range slotCounts(p) {
		if want := min(max(i-4, 0), 1); n != want {
			t.Fatalf("the %d-th newest has %d slots, want %d", i, n, want)
		}
	}
}

// TestIPVSMaglevUnix: backends without an address have slots as well.
func TestIPVSMaglevUnix(t *testing.T) {
	t.Parallel()
	p := ipvsPool(t, []Spec{
		{Endpoint: Endpoint{Path: "/run/a.sock"}, Weight: 1},
		{Endpoint: Endpoint{Path: "/run/b.sock"}, Weight: 1},
	}, "mh")
	a, b := newIPVSWay(p.Backends()[0], 0), newIPVSWay(p.Backends()[1], 0)
	if a == b {
		t.Error("two sockets have the same way")
	}
	if n := slotCounts(p); n[0]+n[1] != ipvsMaglevSlots || n[0]-n[1] > 1 {
		t.Errorf("slots %v", n)
	}
}
