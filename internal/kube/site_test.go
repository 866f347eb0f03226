package kube

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/control"
	"usher/internal/kube/objects"
)

// site is where cases run: a world, or with the build tag kube a real API server.
type site interface {
	// set creates or replaces Services and EndpointSlices.
	set(t testing.TB, all ...metav1.Object)
	remove(t testing.TB, all ...metav1.Object)
	// host is the address of endpoints.
	host() string
	// clusterIP returns one that no Service has.
	clusterIP() string
	controller() *control.Controller
}

// live returns a world that serves clients already.
func live(t testing.TB, words ...string) *world {
	t.Helper()
	w := newWorld(t, words...)
	w.start(t)
	return w
}

func (w *world) set(t testing.TB, all ...metav1.Object) {
	t.Helper()
	for _, o := range all {
		switch o := o.(type) {
		case *corev1.Service:
			w.store.SetService(o)
		case *discoveryv1.EndpointSlice:
			w.store.SetSlice(o)
		}
	}
	w.sync(t)
}

func (w *world) remove(t testing.TB, all ...metav1.Object) {
	t.Helper()
	for _, o := range all {
		if _, is := o.(*corev1.Service); is {
			w.store.DeleteService(objects.KeyOf(o))
		} else {
			w.store.DeleteSlice(objects.KeyOf(o))
		}
	}
	w.sync(t)
}

func (w *world) host() string                    { return "127.0.0.1" }
func (w *world) clusterIP() string               { return anyClusterIP() }
func (w *world) controller() *control.Controller { return w.control }

// liveHost returns an address of this machine that is not of loopback: API servers refuse endpoints there.
func liveHost(t testing.TB) string {
	t.Helper()
	all, err := interfaceAddrs()
	for _, a := range all {
		if a.Is4() && !a.IsLoopback() {
			return a.String()
		}
	}
	t.Skip("this machine has no address of IPv4 but loopback: ", err)
	return ""
}

// listenOf waits for a port of a ClusterIP, and returns where clients connect to it.
func listenOf(t testing.TB, c *control.Controller, clusterIP string, port uint16) string {
	t.Helper()
	virtual := netip.AddrPortFrom(netip.MustParseAddr(clusterIP), port).String()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, served := range c.Services() {
			for _, v := range served.Virtual {
				if v.Address == virtual {
					return netip.MustParseAddrPort(v.Listen).String()
				}
			}
		}
	}
	t.Fatalf("%s is not served", virtual)
	return ""
}

// listenTCP serves each connection with a function, and closes it then.
func listenTCP(t testing.TB, host string, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// listenUDP answers each datagram by itself: nil is no answer.
func listenUDP(t testing.TB, host string, answer func([]byte) []byte) netip.AddrPort {
	t.Helper()
	socket, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for buffer := make([]byte, 1<<16); ; {
			n, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			datagram := append([]byte{}, buffer[:n]...)
			serving.Go(func() {
				if reply := answer(datagram); reply != nil {
					_, _ = socket.WriteTo(reply, from)
				}
			})
		}
	})
	t.Cleanup(func() { socket.Close(); serving.Wait() })
	return socket.LocalAddr().(*net.UDPAddr).AddrPort()
}

// backendAt greets clients of tcp with its name and echoes, and answers each datagram with its name.
func backendAt(t testing.TB, host, network, name string) netip.AddrPort {
	t.Helper()
	if network == "udp" {
		return listenUDP(t, host, func([]byte) []byte { return []byte(name) })
	}
	return listenTCP(t, host, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, name+"\n")
		_, _ = io.Copy(c, c)
	})
}

// connect opens a connection that a test may wait for.
func connect(t testing.TB, network, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// awaitOpen connects until that succeeds, and says nothing.
func awaitOpen(t testing.TB, address string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// numbered returns a Service with n ports p0, p1, ... from one on, and a slice that leads each to one of these in turn.
func numbered(name, clusterIP string, n int, from int32, to ...netip.AddrPort) (*corev1.Service, *discoveryv1.EndpointSlice) {
	s, e := service(name, clusterIP, from, corev1.ProtocolTCP), slice(name, corev1.ProtocolTCP, to[0])
	s.Spec.Ports, e.Ports = nil, nil
	for i := range n {
		port, target := fmt.Sprint("p", i), int32(to[i%len(to)].Port())
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: port, Port: from + int32(i)})
		e.Ports = append(e.Ports, discoveryv1.EndpointPort{Name: &port, Port: &target})
	}
	return s, e
}
