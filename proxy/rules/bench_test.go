package rules

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"usher/proxy/limit"
)

// benchmarkLists are lists of so many rules that no packet of the benchmark matches, so that
// a walk would look at all.
var benchmarkLists = []struct {
	name string
	list func(g *generator, rules int) *List
}{
	// As a blocklist: a host each.
	{"hosts", func(g *generator, rules int) *List {
		list := input(Accept)
		for n := range rules {
			host := netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)})
			list.Chains[0].Rules = append(list.Chains[0].Rules, &Rule{Target: Drop, Source: Prefix{Prefix: netip.PrefixFrom(host, 32)}})
		}
		return list
	}},
	// Prefixes of all lengths, nested, of source and destination, and ranges of both ports.
	{"nested", func(g *generator, rules int) *List {
		list := input(Accept)
		for range rules {
			list.Chains[0].Rules = append(list.Chains[0].Rules, &Rule{
				Target: Drop, Source: g.nested(), Destination: g.nested(), Protocol: TCP,
				Matches: []Match{&Ports{Protocol: TCP, Source: g.wide(1001), Destination: g.wide(81)}},
			})
		}
		return list
	}},
	// Each rule looks at one thing alone, so that each dimension leaves most of them.
	{"mixed", func(g *generator, rules int) *List {
		list := input(Accept)
		for n := range rules {
			r := &Rule{Target: Drop}
			switch n % 3 {
			case 0:
				r.Source = Prefix{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)}), 32)}
			case 1:
				r.Destination = Prefix{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 17, byte(n >> 8), byte(n)}), 32)}
			case 2:
				r.Matches = []Match{&Ports{Protocol: TCP, Destination: g.wide(81)}}
			}
			list.Chains[0].Rules = append(list.Chains[0].Rules, r)
		}
		return list
	}},
	// A chain for each network, ten rules in each, two jumps deep.
	{"chains", func(g *generator, rules int) *List {
		list := input(Accept)
		for n := range (rules + 9) / 10 {
			name := fmt.Sprint("net", n)
			network := Prefix{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n), 0}), 24)}
			list.Chains[0].Rules = append(list.Chains[0].Rules, &Rule{Target: Jump, Chain: name, Source: network})
			c := &Chain{Name: name}
			for range 9 {
				c.Rules = append(c.Rules, &Rule{Target: Drop, Matches: []Match{&Ports{Protocol: TCP, Destination: g.wide(81)}}})
			}
			list.Chains = append(list.Chains, c)
		}
		return list
	}},
}

// nested returns a prefix of an own length, most of them within others.
func (g *generator) nested() Prefix {
	bytes := netip.MustParseAddr("2001:db8::").As16()
	for i := 4; i < 16; i++ {
		bytes[i] = byte(g.IntN(2)) << g.IntN(8)
	}
	return Prefix{Prefix: netip.PrefixFrom(netip.AddrFrom16(bytes), 32+g.IntN(97))}
}

// wide returns a range of ports from least on.
func (g *generator) wide(least int) *PortRange {
	a, b := least+g.IntN(65536-least), least+g.IntN(65536-least)
	return &PortRange{uint16(min(a, b)), uint16(max(a, b))}
}

func BenchmarkDecide(b *testing.B) {
	for _, kind := range benchmarkLists {
		for _, n := range []int{1, 100, 10_000} {
			b.Run(fmt.Sprintf("%s-%d", kind.name, n), func(b *testing.B) {
				g := &generator{Rand: rand.New(rand.NewPCG(1, 0))}
				s := compile(b, kind.list(g, n), nil, Options{})
				var packets [256]*Packet
				for i := range packets {
					packets[i] = packet(fmt.Sprintf("tcp 10.0.%d.1:1000 192.0.2.1:80", i))
				}
				var h limit.Holds
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					i++
					if v := s.Decide(packets[i%len(packets)], time.Duration(i), &h); v.Target != Accept {
						b.Fatal("dropped")
					}
				}
			})
		}
	}
}

// BenchmarkCompile reports the memory of a set as well, without that of its list.
func BenchmarkCompile(b *testing.B) {
	for _, kind := range benchmarkLists {
		b.Run(kind.name, func(b *testing.B) {
			g := &generator{Rand: rand.New(rand.NewPCG(1, 0))}
			list := kind.list(g, 10_000)
			heap := func() float64 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return float64(m.HeapAlloc) / (1 << 20)
			}
			before := heap()
			var s *Set
			for b.Loop() {
				s = compile(b, list, nil, Options{})
			}
			b.ReportMetric(heap()-before, "MiB")
			runtime.KeepAlive(s)
		})
	}
}
