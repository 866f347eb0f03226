package balancer

import (
	"fmt"
	"sync/atomic"
	"testing"
)

// BenchmarkAcquire is the cost of one flow, acquired and released, beside two others per
// backend that are held.
func BenchmarkAcquire(b *testing.B) {
	for _, scheduler := range Schedulers() {
		for _, n := range []int{1, 10, 100, 1000, 10_000} {
			b.Run(fmt.Sprintf("%s/backends=%d", scheduler, n), func(b *testing.B) {
				s := specs(n)
				for i := range s {
					s[i].Weight = 3 // ovf has no room for more
				}
				p := newPool(b, scheduler, s)
				held := make([]*Backend, 2*n)
				for i := range held {
					held[i] = acquire(p, client(i), nil)
				}
				b.ReportAllocs()
				i, flow := 0, 0
				for b.Loop() {
					p.Release(held[i])
					held[i] = acquire(p, client(flow), nil)
					flow++
					if i++; i == len(held) {
						i = 0
					}
				}
			})
		}
	}
}

// BenchmarkAcquireParallel is the same from all CPUs at once.
func BenchmarkAcquireParallel(b *testing.B) {
	for _, scheduler := range Schedulers() {
		b.Run(scheduler+"/backends=100", func(b *testing.B) {
			p := newPool(b, scheduler, specs(100))
			var worker atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				flow := int(worker.Add(1)) << 16
				for pb.Next() {
					p.Release(acquire(p, client(flow), nil))
					flow++
				}
			})
		})
	}
}

// BenchmarkAcquireTried is the choice of a flow that has been to all but the last few.
func BenchmarkAcquireTried(b *testing.B) {
	for _, scheduler := range Schedulers() {
		for _, tries := range []int{1, maxTried} {
			b.Run(fmt.Sprintf("%s/backends=100/tried=%d", scheduler, tries), func(b *testing.B) {
				p := newPool(b, scheduler, specs(100))
				tried := new(Tried)
				for _, backend := range p.Backends()[:tries] {
					tried.Add(backend)
				}
				b.ReportAllocs()
				flow := 0
				for b.Loop() {
					p.Release(acquire(p, client(flow), tried))
					flow++
				}
			})
		}
	}
}

// BenchmarkSetStatus is one backend going down and up again, with what is rebuilt.
func BenchmarkSetStatus(b *testing.B) {
	for _, scheduler := range Schedulers() {
		for _, n := range []int{10, 100, 1000, 10_000} {
			b.Run(fmt.Sprintf("%s/backends=%d", scheduler, n), func(b *testing.B) {
				p := newPool(b, scheduler, specs(n))
				backend := p.Backends()[n/2]
				status := []Status{Down, Up}
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					setStatus(p, backend, status[i%2])
					i++
				}
			})
		}
	}
}

// BenchmarkHashBuild is the cost of one table from nothing, as after a change of any size.
func BenchmarkHashBuild(b *testing.B) {
	for _, scheduler := range []string{"mh", "ring", "hrw"} {
		for _, n := range []int{10, 100, 1000, 10_000} {
			for _, weight := range []int{1, 100} {
				b.Run(fmt.Sprintf("%s/backends=%d/weight=%d", scheduler, n, weight), func(b *testing.B) {
					s := specs(n)
					for i := range s {
						s[i].Weight = weight
					}
					p := newPool(b, scheduler, s)
					build := schedulerOf(p).(*hashing).build
					b.ReportAllocs()
					for b.Loop() {
						build(p.members)
					}
				})
			}
		}
	}
}
