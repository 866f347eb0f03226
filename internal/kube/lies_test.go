package kube

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/internal/control"
	"usher/internal/kube/planner"
)

// said returns the problems that were logged of a Service.
func (w *world) said(service string) (all []string) {
	for _, line := range w.logs.FilterMessage("service has a problem").All() {
		if fields := line.ContextMap(); fields["service"] == service {
			all = append(all, fields["problem"].(string))
		}
	}
	return all
}

// What a slice says of others' addresses, of another family or of port 0 is not served. The rest of it is.
func TestSlicesThatLie(t *testing.T) {
	t.Parallel()
	good := backend(t, "tcp", "a")
	for name, c := range map[string]struct {
		edit    func(*discoveryv1.EndpointSlice)
		problem string // empty: none
		refused bool
	}{
		"an address of another family": {edit: func(e *discoveryv1.EndpointSlice) {
			e.Endpoints = append(e.Endpoints, discoveryv1.Endpoint{Addresses: []string{"::1"}})
		}, problem: "::1 is not of the slice's address type"},
		"no address": {edit: func(e *discoveryv1.EndpointSlice) {
			e.Endpoints = append(e.Endpoints, discoveryv1.Endpoint{Addresses: []string{"localhost"}}, discoveryv1.Endpoint{})
		}, problem: `"localhost" is not an IP address`},
		"a port 0":         {edit: func(e *discoveryv1.EndpointSlice) { *e.Ports[0].Port = 0 }, refused: true},
		"a port too large": {edit: func(e *discoveryv1.EndpointSlice) { *e.Ports[0].Port = 1 << 20 }, problem: "1048576 is not a port", refused: true},
		"another protocol": {edit: func(e *discoveryv1.EndpointSlice) { *e.Ports[0].Protocol = corev1.ProtocolSCTP }, refused: true},
		"an endpoint twice": {edit: func(e *discoveryv1.EndpointSlice) {
			e.Endpoints = append(e.Endpoints, e.Endpoints[0])
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ip := live(t), anyClusterIP()
			e := slice("web", corev1.ProtocolTCP, good)
			c.edit(e)
			w.set(t, service("web", ip, 18080, corev1.ProtocolTCP), e)
			want := is("a")
			if c.refused {
				want = isRefused
			}
			await(t, "tcp", listenOf(t, w.control, ip, 18080), want)
			if said := w.said("default/web"); (len(said) > 0) != (c.problem != "") || !strings.Contains(strings.Join(said, "\n"), c.problem) {
				t.Errorf("problems %q, want %q", said, c.problem)
			}
		})
	}
}

// Services may share an endpoint. They do not share a ClusterIP: the first one that has a port of it keeps it.
func TestServicesThatShare(t *testing.T) {
	t.Parallel()
	w, ip, shared := live(t), anyClusterIP(), backend(t, "tcp", "a")
	for _, name := range []string{"one", "two"} {
		w.set(t, service(name, ip, 18080, corev1.ProtocolTCP), slice(name, corev1.ProtocolTCP, shared))
	}
	other := anyClusterIP()
	w.set(t, service("three", other, 18080, corev1.ProtocolTCP), slice("three", corev1.ProtocolTCP, shared))
	await(t, "tcp", listenOf(t, w.control, ip, 18080), is("a"))
	await(t, "tcp", listenOf(t, w.control, other, 18080), is("a"))
	if one, two := w.said("default/one"), w.said("default/two"); len(one) != 0 || len(two) != 1 {
		t.Errorf("problems %q and %q", one, two)
	}
}

// Each of 1,000 endpoints is served in turn. All of them are one listener, which answers with the address it was asked at.
func TestManyEndpoints(t *testing.T) {
	t.Parallel()
	const n = 1000
	at := listenTCP(t, "0.0.0.0", func(c *net.TCPConn) {
		host, _, _ := net.SplitHostPort(c.LocalAddr().String())
		_, _ = io.WriteString(c, host+"\n")
	})
	w, ip := live(t), anyClusterIP()
	var all []netip.AddrPort
	for i := range n {
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 209, byte(i >> 8), byte(i)}), at.Port()))
	}
	w.set(t, service("web", ip, 18080, corev1.ProtocolTCP), slice("web", corev1.ProtocolTCP, all...))
	listen, seen := listenOf(t, w.control, ip, 18080), make(map[string]bool)
	for range n {
		name, err := ask("tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		seen[name] = true
	}
	if len(seen) != n {
		t.Errorf("%d clients came to %d of %d endpoints", n, len(seen), n)
	}
}

// A cluster of IPv6 alone, and names of 63 letters.
func TestLongNamesOverIPv6(t *testing.T) {
	t.Parallel()
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine is without IPv6: ", err)
	}
	probe.Close()
	w, ip := live(t), fmt.Sprintf("fd00:10:96::%x", 1+rand.IntN(1<<16-1))
	name := strings.Repeat("n", 63)
	o := service(name, ip, 18080, corev1.ProtocolTCP)
	o.Namespace, o.Spec.IPFamilies, o.Spec.Ports[0].Name = name, []corev1.IPFamily{corev1.IPv6Protocol}, "fifteen-letters"
	e := slice(name, corev1.ProtocolTCP, backendAt(t, "::1", "tcp", "six"))
	e.Namespace, e.AddressType, e.Ports[0].Name = name, discoveryv1.AddressTypeIPv6, &o.Spec.Ports[0].Name
	w.set(t, o, e)
	await(t, "tcp", listenOf(t, w.control, ip, 18080), is("six"))
	if served := w.control.Services(); len(served) != 1 || served[0].Name != name+"/"+name+":fifteen-letters/ipv6" {
		t.Errorf("%+v", served)
	}
}

// A Service without ports is said.
func TestNoPorts(t *testing.T) {
	t.Parallel()
	w := live(t)
	o := service("web", anyClusterIP(), 18080, corev1.ProtocolTCP)
	o.Spec.Ports = nil
	w.set(t, o, slice("web", corev1.ProtocolTCP, backend(t, "tcp", "a")))
	if said := w.said("default/web"); len(said) != 1 || len(w.control.Services()) != 0 {
		t.Errorf("problems %q, services %v", said, w.control.Services())
	}
}

// Refusals of one Service are said each once, and not more than a few.
func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	var all []control.Refusal
	for i := range 1000 {
		all = append(all,
			control.Refusal{Service: "default/same:p" + strconv.Itoa(i), Err: io.EOF},
			control.Refusal{Service: "default/many:p" + strconv.Itoa(i), Err: fmt.Errorf("port %d is in use", i)})
	}
	byKey := problemsOf(all)
	same, many := byKey[planner.Key{Namespace: "default", Name: "same"}], byKey[planner.Key{Namespace: "default", Name: "many"}]
	if len(same) != 1 || len(many) != maxRefusals+1 {
		t.Errorf("%d and %d problems", len(same), len(many))
	}
}
