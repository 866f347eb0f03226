package kube

import (
	"bufio"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/kube/planner"
)

// Clients outside loadBalancerSourceRanges are dropped: they get no answer, and no reset.
func TestSourceRanges(t *testing.T) {
	t.Parallel()
	w, ip := newWorld(t, "assign-lb", "127.209.7.0/24"), anyClusterIP()
	s := service("web", ip, 18080, corev1.ProtocolTCP)
	s.Spec.Type, s.Spec.LoadBalancerSourceRanges = corev1.ServiceTypeLoadBalancer, []string{" 127.1.0.0/16 "}
	w.store.SetService(s)
	w.store.SetSlice(slice("web", corev1.ProtocolTCP, backend(t, "tcp", "a")))
	w.start(t)
	addr, err := w.balance.For(planner.Key{Namespace: "default", Name: "web"}, s)
	if err != nil {
		t.Fatal(err)
	}
	greeting := func(from string) (string, error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)), Timeout: patience}
		c, err := d.Dial("tcp", netip.AddrPortFrom(addr, 18080).String())
		if err != nil {
			return "", err
		}
		defer c.Close()
		wait := patience
		if from == "127.2.0.1" {
			wait = 200 * time.Millisecond
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		return bufio.NewReader(c).ReadString('\n')
	}
	if got, err := greeting("127.1.0.1"); got != "a\n" {
		t.Errorf("an allowed client: %q, %v", got, err)
	}
	if got, err := greeting("127.2.0.1"); got != "" || err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("any other client: %q, %v", got, err)
	}
	await(t, "tcp", w.address(ip, 18080), is("a")) // the ClusterIP knows no ranges
}
