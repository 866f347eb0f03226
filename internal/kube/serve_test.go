package kube

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/kube/planner"
)

var protocols = map[string]corev1.Protocol{"tcp": corev1.ProtocolTCP, "udp": corev1.ProtocolUDP}

// A Service without an endpoint is refused at once, by the kernel: its port is closed.
func TestEndpointsComeAndGo(t *testing.T) {
	t.Parallel()
	w := live(t)
	comeAndGo(t, w)
	if len(w.book.entries) > 0 || len(w.book.services()) > 0 || w.book.endpoints > 0 {
		t.Errorf("the Services are gone, and there are %d entries, services %v", len(w.book.entries), w.book.services())
	}
}

func comeAndGo(t *testing.T, s site) {
	for network, protocol := range protocols {
		ip := s.clusterIP()
		o := service("web-"+network, ip, 18080, protocol)
		s.set(t, o)
		at := listenOf(t, s.controller(), ip, 18080)
		await(t, network, at, isRefused)
		a, b := slice(o.Name, protocol, backendAt(t, s.host(), network, "a")), slice(o.Name, protocol, backendAt(t, s.host(), network, "b"))
		for range 2 {
			s.set(t, a)
			await(t, network, at, is("a"))
			s.set(t, b)
			await(t, network, at, is("b"))
			s.remove(t, b)
			await(t, network, at, isRefused)
		}
		s.remove(t, o)
	}
}

func TestSessionAffinity(t *testing.T) {
	t.Parallel()
	for network, protocol := range protocols {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			w, ip := newWorld(t), anyClusterIP()
			s := service("web", ip, 18080, protocol)
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			w.store.SetService(s)
			w.store.SetSlice(slice("web", protocol, backend(t, network, "a"), backend(t, network, "b"), backend(t, network, "c")))
			one := slice("web", protocol, backend(t, network, "d"))
			one.Name = "web-2"
			w.store.SetSlice(one) // of another port
			w.start(t)
			at := w.address(ip, 18080)
			first := ""
			await(t, network, at, func(name string, err error) bool { first = name; return err == nil })
			for range 20 {
				if name, err := ask(network, at); name != first || err != nil {
					t.Fatalf("got %q after %q, %v", name, first, err)
				}
			}
		})
	}
}

// What cannot be listened on holds up nothing else. It is said once, tried again, and its end is said.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "external-ips", "true")
	var ips []string
	for _, name := range []string{"a", "b"} { // b has the external address of a
		ip := anyClusterIP()
		ips = append(ips, ip)
		s := service(name, ip, 18080, corev1.ProtocolTCP)
		s.Spec.ExternalIPs = []string{"127.209.8.1"}
		w.store.SetService(s)
		w.store.SetSlice(slice(name, corev1.ProtocolTCP, backend(t, "tcp", name)))
	}
	w.start(t)
	await(t, "tcp", w.address(ips[0], 18080), is("a"))
	await(t, "tcp", w.address(ips[1], 18080), is("b"))
	await(t, "tcp", "127.209.8.1:18080", is("a"))
	if err := w.again(t.Context()); err != nil {
		t.Fatal(err)
	}
	problems := func() int { return w.logs.FilterMessage("service has a problem").Len() }
	if problems() != 1 || !w.retry.isArmed {
		t.Errorf("%d problems, to be tried again: %v", problems(), w.retry.isArmed)
	}
	w.store.DeleteService(planner.Key{Namespace: "default", Name: "a"})
	w.sync(t)
	if err := w.again(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "tcp", "127.209.8.1:18080", is("b"))
	if problems() != 1 || w.logs.FilterMessage("problem of service has ended").Len() != 1 || w.retry.isArmed {
		t.Errorf("%v", w.logs.All())
	}
}

// A healthCheckNodePort that somebody else has is tried again, whatever else changes in the meantime.
func TestHealthPortIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := service("web", anyClusterIP(), 18080, corev1.ProtocolTCP)
	s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	s.Spec.HealthCheckNodePort = int32(other.Addr().(*net.TCPAddr).Port)
	w.store.SetService(s)
	w.start(t)
	for range 2 {
		if !w.retry.isArmed || !w.book.served.hasFailed {
			t.Fatalf("to be tried again: %v, failed: %v", w.retry.isArmed, w.book.served.hasFailed)
		}
		w.store.SetService(service("other", anyClusterIP(), 18080, corev1.ProtocolTCP))
		w.sync(t)
	}
	other.Close()
	if err := w.again(t.Context()); err != nil || w.retry.isArmed || w.book.served.hasFailed {
		t.Errorf("%v, to be tried again: %v, failed: %v", err, w.retry.isArmed, w.book.served.hasFailed)
	}
}

// What no change can be served for is logged once while it lasts.
func TestFailureIsLoggedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, err := range []error{errors.New("a"), errors.New("a"), errors.New("b"), nil, errors.New("b")} {
		w.logFailure(err)
		if want := []int{1, 1, 2, 2, 3}[i]; w.logs.Len() != want {
			t.Errorf("%d: %d lines, want %d", i, w.logs.Len(), want)
		}
	}
}

func TestNamesAreServed(t *testing.T) {
	t.Parallel()
	w, ip := newWorld(t, "dns", "127.0.0.1:0", "dns-upstream", "127.0.0.1:9"), anyClusterIP()
	w.store.SetService(service("web", ip, 18080, corev1.ProtocolTCP))
	w.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { w.dns.serve(ctx) })
	defer serving.Wait()
	defer cancel()
	query := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	client := dns.Client{Net: "tcp", Timeout: patience}
	answer, _, err := client.Exchange(query, w.dns.server.Addr().String())
	if err != nil || len(answer.Answer) != 1 || answer.Answer[0].(*dns.A).A.String() != w.places.Listen(netip.MustParseAddr(ip)).String() {
		t.Errorf("%v, %v", answer, err)
	}
}

// One changed slice changes the services of its Service alone. An equal one changes nothing.
func TestOthersAreAsTheyWere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(50, freePort(t))
	w.start(t)
	before := w.book.services()
	w.store.SetSlice(slice("s7", corev1.ProtocolTCP, endpointsOf(7, 9)...))
	w.store.SetSlice(slice("s8", corev1.ProtocolTCP, endpointsOf(8, 10)...))
	w.store.DeleteService(planner.Key{Namespace: "default", Name: "s9"})
	w.store.SetService(service("t", "10.99.0.1", 18080, corev1.ProtocolTCP))
	w.sync(t)
	after := w.book.services()
	if len(after) != 50 || after[49].Name != "default/t" {
		t.Fatalf("%d services, the last one %s", len(after), after[len(after)-1].Name)
	}
	changed := 0
	now := make(map[string]any)
	for _, s := range after {
		now[s.Name] = s
	}
	for _, s := range before {
		if now[s.Name] != any(s) {
			changed++
		}
	}
	if changed != 2 { // s7, and s9 that is gone
		t.Errorf("%d of 50 have changed", changed)
	}
	if w.book.endpoints != 49*10-1 {
		t.Errorf("%d endpoints", w.book.endpoints)
	}
}

// status writes what was assigned, until it succeeds.
func TestStatusIsWritten(t *testing.T) {
	t.Parallel()
	key, addr := planner.Key{Namespace: "default", Name: "web"}, netip.MustParseAddr("127.10.0.1")
	written := make(chan netip.Addr, 1)
	s := newStatus(writerFunc(func(_ context.Context, k planner.Key, ips []netip.Addr) error {
		if k == key && len(ips) == 1 {
			written <- ips[0]
		}
		return nil
	}), newWorld(t).log)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.run(ctx) })
	defer running.Wait()
	defer cancel()
	s.set(key, addr)
	if got := <-written; got != addr {
		t.Error(got)
	}
	s.set(key, netip.Addr{})
	if len(s.wanted) > 0 {
		t.Error(s.wanted)
	}
}

type writerFunc func(context.Context, planner.Key, []netip.Addr) error

func (f writerFunc) SetLoadBalancer(ctx context.Context, key planner.Key, ips []netip.Addr) error {
	return f(ctx, key, ips)
}
