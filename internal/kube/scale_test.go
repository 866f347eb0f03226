package kube

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// fill puts n Services of ten endpoints each into the store. All listen on the same port, on addresses of their own.
func (w *world) fill(n int, port int32) {
	for i := range n {
		w.store.SetService(service(fmt.Sprintf("s%d", i), fmt.Sprintf("10.%d.%d.%d", 100+i>>16, i>>8&255, i&255), port, corev1.ProtocolTCP))
		w.store.SetSlice(slice(fmt.Sprintf("s%d", i), corev1.ProtocolTCP, endpointsOf(i, 10)...))
	}
}

// freePort returns a port that the kernel gives to nobody else for a while.
func freePort(t testing.TB) int32 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return int32(l.Addr().(*net.TCPAddr).Port)
}

func endpointsOf(service, n int) (all []netip.AddrPort) {
	for k := range n {
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(k), byte(service >> 8), byte(service)}), 8080))
	}
	return all
}

// One changed slice among many Services.
func BenchmarkOneSlice(b *testing.B) {
	for _, n := range []int{500, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b)
			w.fill(n, freePort(b))
			began := time.Now()
			w.start(b)
			b.ReportMetric(time.Since(began).Seconds(), "cold-s")
			b.ResetTimer()
			for i := range b.N {
				w.store.SetSlice(slice("s7", corev1.ProtocolTCP, endpointsOf(7, 9+i%2)...))
				w.sync(b)
			}
		})
	}
}
