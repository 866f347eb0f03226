package control

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"go.uber.org/zap"

	"usher/internal/config"
)

// manyServices returns n services of ten backends each, in a network of loopback addresses.
func manyServices(b *testing.B, n int) []*config.Service {
	all := make([]*config.Service, n)
	for i := range all {
		s := config.NewService(fmt.Sprintf("ns/service-%d:http", i), config.TCP)
		if err := s.Set("health", "off"); err != nil {
			b.Fatal(err)
		}
		ip := netip.AddrFrom4([4]byte{127, 84, byte(i >> 8), byte(i)})
		s.Listeners = []config.Addr{{Network: config.TCP, IP: ip, Port: 8080, Ports: 1}}
		for j := range 10 {
			a := config.Addr{Network: config.TCP, IP: netip.AddrFrom4([4]byte{10, byte(j), byte(i >> 8), byte(i)}), Port: 80, Ports: 1}
			s.Backends = append(s.Backends, config.Backend{Addr: a, Weight: 1})
		}
		all[i] = s
	}
	return all
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkReplace measures one change among many services, and the memory of one of them.
func BenchmarkReplace(b *testing.B) {
	const n = 10000
	process := config.DefaultProcess()
	process.Workers = 1
	c, err := New(Options{Log: zap.NewNop(), Process: process})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	all := manyServices(b, n+1)
	spare, all := all[n], all[:n]
	replace := func(services []*config.Service) {
		if refused, err := c.ReplaceSound(ctx, Kube, Part{Services: services}); err != nil || len(refused) > 0 {
			b.Fatal(err, len(refused))
		}
	}
	before := heap()
	replace(all)
	if err := c.Start(ctx); err != nil {
		b.Fatal(err)
	}
	perService := float64(heap()-before) / n
	with := append(all[:n:n], spare)
	without := append(all[:n/2:n/2], all[n/2+1:]...)
	for _, bb := range []struct {
		name        string
		there, back []*config.Service
	}{{"append", with, all}, {"remove", without, all}} {
		b.Run(bb.name, func(b *testing.B) {
			for range b.N {
				replace(bb.there)
				b.StopTimer()
				replace(bb.back)
				b.StartTimer()
			}
		})
	}
	b.Run("change", func(b *testing.B) {
		b.ReportMetric(perService, "B/service")
		next := append([]*config.Service(nil), all...)
		for range b.N {
			s := next[n/2].Clone()
			s.Backends[0].Weight++
			next[n/2] = s
			replace(next)
		}
	})
	b.Run("nothing", func(b *testing.B) {
		replace(all)
		b.ResetTimer()
		for range b.N {
			replace(all)
		}
	})
}
