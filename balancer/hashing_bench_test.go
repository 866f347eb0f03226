package balancer

import (
	"fmt"
	"testing"
)

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
					build := p.scheduler.(*hashing).build
					b.ReportAllocs()
					for b.Loop() {
						build(p.members)
					}
				})
			}
		}
	}
}
