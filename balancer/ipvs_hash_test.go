package balancer

import (
	"net/netip"
	"slices"
	"testing"
)

// slotCounts returns how many slots each backend has, the newest first.
func slotCounts(p *Pool) []int {
	t := schedulerOf(p).(*ipvsHash).table.Load()
	n := make([]int, len(t.members))
	for _, i := range t.slots {
		n[i]++
	}
	return n
}

func from(addr string, port uint16) Flow {
	return Flow{Client: netip.AddrPortFrom(netip.MustParseAddr(addr), port)}
}

func TestIPVSSourceHashBuckets(t *testing.T) {
	t.Parallel()
	without := schedulerOf(newIPVS(t, "sh", specs(1))).(*ipvsHash)
	with := schedulerOf(newIPVS(t, "sh", specs(1), "sh-port")).(*ipvsHash)
	for _, tt := range []struct {
		addr           string
		bucket, ported uint32
	}{
		{"10.0.0.1", 39, 134},
		{"10.0.0.2", 137, 232},
		{"192.168.1.1", 136, 231},
		{"203.0.113.7", 124, 219},
		{"2001:db8::1", 63, 157},
		{"::ffff:10.0.0.1", 39, 134},
	} {
		f := from(tt.addr, 12345)
		if a, b := without.hash(without.key(&f), 0), with.hash(with.key(&f), 0); a != tt.bucket || b != tt.ported {
			t.Errorf("%s has bucket %d, with port 12345 %d; want %d, %d", tt.addr, a, b, tt.bucket, tt.ported)
		}
	}
}

func TestIPVSSlotCounts(t *testing.T) {
	t.Parallel()
	quiesced := weighing(1, 2, 3)
	for _, tt := range []struct {
		name, scheduler string
		specs           []Spec // the oldest first
		then            []Spec // an edit
		want            []int  // the newest first
	}{
		{"equal", "sh", weighing(1, 1, 1), nil, []int{86, 85, 85}},
		{"weight 0", "sh", weighing(0, 2, 3), nil, []int{129, 85, 42}},
		{"more weight than buckets", "sh", weighing(10, 100, 200), nil, []int{200, 56, 0}},
		{"weights count for nothing", "dh", weighing(9, 5, 1), nil, []int{86, 85, 85}},
		{"weight 0 has buckets", "dh", weighing(0, 5, 1), nil, []int{86, 85, 85}},
		{"equal", "mh", ipvsTen(1, 1, 1), nil, []int{1365, 1364, 1364}},
		{"equal but not 1", "mh", ipvsTen(7, 7, 7), nil, []int{1365, 1364, 1364}},
		{"weighted", "mh", ipvsTen(1, 2, 3), nil, []int{2047, 1364, 682}},
		{"steep", "mh", ipvsTen(10, 100, 1000), nil, []int{3655, 365, 73}},
		{"the last weight that was not 0", "mh", ipvsTen(1, 2, 3), ipvsTen(1, 2, 0), []int{2047, 1364, 682}},
		{"never had a weight", "mh", ipvsTen(1, 0, 1), nil, []int{2047, 0, 2046}},
		{"reshuffled by weight 0", "sh", quiesced, weighing(1, 2, 0), []int{64, 128, 64}},
	} {
		p := newIPVS(t, tt.scheduler, tt.specs)
		if tt.then != nil {
			update(p, tt.then)
		}
		got := slotCounts(p)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s, %s: slots %v, want %v", tt.scheduler, tt.name, got, tt.want)
		}
	}
}

// TestIPVSStarved: backends without a slot still serve flows whose own backend fails.
func TestIPVSStarved(t *testing.T) {
	t.Parallel()
	p := newIPVS(t, "sh", weighing(1, 1, maxWeight))
	var tried Tried
	for range 3 {
		b := acquire(p, client(1), &tried)
		if b == nil || tried.Has(b) {
			t.Fatalf("%v after %d of 3", b, tried.Len())
		}
		tried.Add(b)
	}
}

// ipvsTen returns 10.1.0.1:80 and on, with these weights.
func ipvsTen(weights ...int) []Spec {
	s := weighing(weights...)
	for i := range s {
		s[i].Endpoint.Addr = netip.AddrPortFrom(ipv4(10<<24|1<<16|uint32(i+1)), 80)
	}
	return s
}

func TestIPVSMaglevVectors(t *testing.T) {
	t.Parallel()
	p := newIPVS(t, "mh", ipvsTen(1, 1, 1))
	for i, want := range []ipvsPermutation{{310, 1461, 0}, {2769, 572, 0}, {2424, 45, 0}} {
		if got := newIPVSPermutation(p.Backends()[i], 0); got != want {
			t.Errorf("%v: offset and skip %v, want %v", p.Backends()[i], got, want)
		}
	}
	ported := newIPVS(t, "mh", ipvsTen(1, 1, 1), "mh-port")
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
			s := schedulerOf(p).(*ipvsHash)
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
	ofOneGoroutine(t)
	p := newIPVS(t, "mh", specs(ipvsMaglevSlots+1))
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
	update(p, specs(ipvsMaglevSlots+5))
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
	p := newIPVS(t, "mh", []Spec{
		{Endpoint: Endpoint{Path: "/run/a.sock"}, Weight: 1},
		{Endpoint: Endpoint{Path: "/run/b.sock"}, Weight: 1},
	})
	a, b := newIPVSPermutation(p.Backends()[0], 0), newIPVSPermutation(p.Backends()[1], 0)
	if a == b {
		t.Error("two sockets have the same way")
	}
	if n := slotCounts(p); n[0]+n[1] != ipvsMaglevSlots || n[0]-n[1] > 1 {
		t.Errorf("slots %v", n)
	}
}
