package balancer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// ipvsPool has backends that came in the order of the specs.
func ipvsPool(t *testing.T, s []Spec, scheduler string, flags ...string) *Pool {
	t.Helper()
	p, err := NewPool(Options{Scheduler: scheduler, Flags: append([]string{IPVS}, flags...), Initial: Up})
	if err != nil {
		t.Fatal(err)
	}
	p.Update(s)
	return p
}

func weighted(weights ...int) []Spec {
	s := specs(len(weights))
	for i := range s {
		s[i].Weight = weights[i]
	}
	return s
}

// slotCounts returns how many slots each backend has, the newest first.
func slotCounts(p *Pool) []int {
	t := p.scheduler.(*ipvsHash).table.Load()
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
	without := ipvsPool(t, specs(1), "sh").scheduler.(*ipvsHash)
	with := ipvsPool(t, specs(1), "sh", "sh-port").scheduler.(*ipvsHash)
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
	quiesced := weighted(1, 2, 3)
	for _, tt := range []struct {
		name, scheduler string
		specs           []Spec // the oldest first
		then            []Spec // an edit
		want            []int  // the newest first
	}{
		{"equal", "sh", weighted(1, 1, 1), nil, []int{86, 85, 85}},
		{"weight 0", "sh", weighted(0, 2, 3), nil, []int{129, 85, 42}},
		{"more weight than buckets", "sh", weighted(10, 100, 200), nil, []int{200, 56, 0}},
		{"weights count for nothing", "dh", weighted(9, 5, 1), nil, []int{86, 85, 85}},
		{"weight 0 has buckets", "dh", weighted(0, 5, 1), nil, []int{86, 85, 85}},
		{"equal", "mh", ipvsTen(1, 1, 1), nil, []int{1365, 1364, 1364}},
		{"equal but not 1", "mh", ipvsTen(7, 7, 7), nil, []int{1365, 1364, 1364}},
		{"weighted", "mh", ipvsTen(1, 2, 3), nil, []int{2047, 1364, 682}},
		{"steep", "mh", ipvsTen(10, 100, 1000), nil, []int{3655, 365, 73}},
		{"the last weight that was not 0", "mh", ipvsTen(1, 2, 3), ipvsTen(1, 2, 0), []int{2047, 1364, 682}},
		{"never had a weight", "mh", ipvsTen(1, 0, 1), nil, []int{2047, 0, 2046}},
		{"reshuffled by weight 0", "sh", quiesced, weighted(1, 2, 0), []int{64, 128, 64}},
	} {
		p := ipvsPool(t, tt.specs, tt.scheduler)
		if tt.then != nil {
			p.Update(tt.then)
		}
		got := slotCounts(p)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s, %s: slots %v, want %v", tt.scheduler, tt.name, got, tt.want)
		}
	}
}

// TestIPVSRefusal quiesces and fills one backend of three.
func TestIPVSRefusal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		scheduler, fallback string
	}{
		{"sh", ""}, {"sh", "sh-fallback"}, {"mh", ""}, {"mh", "mh-fallback"}, {"dh", ""},
	} {
		for _, full := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/full=%v", tt.scheduler, tt.fallback, full), func(t *testing.T) {
				t.Parallel()
				var flags []string
				if tt.fallback != "" {
					flags = append(flags, tt.fallback)
				}
				p := ipvsPool(t, specs(3), tt.scheduler, flags...)
				flow := func(i int) Flow {
					f := client(i)
					f.Local = f.Client
					return f
				}
				before := make([]*Backend, 300)
				for i := range before {
					before[i] = acquire(p, flow(i), nil)
					p.Release(before[i])
				}
				gone := p.Backends()[1]
				s := specs(3)
				if full {
					s[1].Limits = Limits{Max: 1}
					p.Update(s)
					if !p.Rejoin(gone, Stickiness{}) {
						t.Fatal("no room for one flow")
					}
					defer p.Release(gone)
				} else {
					s[1].Weight = 0
					p.Update(s)
				}
				moved := map[*Backend]int{}
				for i := range before {
					b, busy := p.Acquire(flow(i), nil)
					if b != nil {
						p.Release(b)
					}
					switch {
					case before[i] != gone && b != before[i]:
						t.Fatalf("client %d goes to %v, before %v", i, b, before[i])
					case before[i] == gone && tt.fallback == "" && (b != nil || busy != full):
						t.Fatalf("client %d of an unusable backend goes to %v, busy %v", i, b, busy)
					case before[i] == gone && tt.fallback != "" && (b == nil || b == gone || busy):
						t.Fatalf("client %d falls back to %v, busy %v", i, b, busy)
					}
					if before[i] == gone {
						moved[b]++
					}

					// Whoever has tried its backend goes on, fallback or not.
					var tried Tried
					tried.Add(before[i])
					b, _ = p.Acquire(flow(i), &tried)
					if b == nil || b == gone || b == before[i] {
						t.Fatalf("client %d goes on from %v to %v", i, before[i], b)
					}
					p.Release(b)
				}
				// The probes of sh from equal backends all lead to the same one, by the
				// kernel's arithmetic; those of mh spread.
				if tt.fallback == "mh-fallback" && len(moved) != 2 {
					t.Errorf("all clients fall back to the same backend: %v", moved)
				}
			})
		}
	}
}

// TestIPVSFallback compares with the kernel's loop, written out.
func TestIPVSFallback(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for round := range 20 {
		scheduler, fallback := "sh", "sh-fallback"
		if round%2 == 1 {
			scheduler, fallback = "mh", "mh-fallback"
		}
		s := specs(2 + rnd.IntN(8))
		p := ipvsPool(t, s, scheduler, fallback) // all have had a weight
		for i := range s {
			s[i].Weight = rnd.IntN(3)
		}
		s[rnd.IntN(len(s))].Weight = 1
		p.Update(s)
		table := p.scheduler.(*ipvsHash).table.Load()
		for range 500 {
			f := client(int(rnd.Uint32()))
			if b, want := acquire(p, f, nil), kernelFallback(scheduler, table, f); b != want {
				t.Fatalf("%s: %v goes to %v, want %v", scheduler, f.Client, b, want)
			}
		}
	}
}

func kernelFallback(scheduler string, t *ipvsTable, f Flow) *Backend {
	a := f.Client.Addr().As4()
	addr := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n := uint32(len(t.slots))
	hash := func(offset uint32) uint32 {
		if scheduler == "sh" {
			return (offset + (addr*0x61c88647)>>24) & 255
		}
		return hsiphash(offset+addr, 2654435761) % n
	}
	first := hash(0)
	if m := t.members[t.slots[first]]; m.weight > 0 {
		return m.Backend
	}
	for o := range n {
		if m := t.members[t.slots[hash((o+first)%n)]]; m.weight > 0 {
			return m.Backend
		}
	}
	return nil
}

func TestIPVSDestination(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{IPVS}, nil} {
		p, err := NewPool(Options{Scheduler: "dh", Flags: flags, Initial: Up})
		if err != nil {
			t.Fatal(err)
		}
		p.Update(specs(10))
		seen := map[*Backend]bool{}
		for i := range 200 {
			local := netip.AddrPortFrom(ipv4(10<<24|uint32(i)), 443)
			b := acquire(p, Flow{Client: client(1).Client, Local: local}, nil)
			seen[b] = true
			for c := range 10 {
				f := Flow{Client: client(c * 7919).Client, Local: netip.AddrPortFrom(local.Addr(), uint16(c))}
				if got := acquire(p, f, nil); got != b {
					t.Fatalf("flags %v: %v goes to %v and to %v", flags, local, b, got)
				}
			}
		}
		if len(seen) != 10 {
			t.Errorf("flags %v: 200 destinations reach %d of 10 backends", flags, len(seen))
		}
	}
}

// TestIPVSStarved: backends without a slot still serve flows whose own backend fails.
func TestIPVSStarved(t *testing.T) {
	t.Parallel()
	p := ipvsPool(t, weighted(1, 1, maxWeight), "sh")
	var tried Tried
	for range 3 {
		b := acquire(p, client(1), &tried)
		if b == nil || tried.Has(b) {
			t.Fatalf("%v after %d of 3", b, tried.Len())
		}
		tried.Add(b)
	}
}

// TestIPVSHashConcurrent changes weights under flows; see TestConcurrent for the rest.
func TestIPVSHashConcurrent(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"sh", "dh", "mh"} {
		p := ipvsPool(t, specs(20), scheduler)
		churn(t, p, func(rnd *rand.Rand, s []Spec) { s[rnd.IntN(len(s))].Weight = rnd.IntN(3) })
	}
}
