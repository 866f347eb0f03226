package kube

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	corev1 "k8s.io/api/core/v1"
)

// defects has what was wrong with the userspace mode of kube-proxy, over Services. Elsewhere are its exit when descriptors
// run out and its limit of them (script kube_descriptors, descriptorsRunOut of the suite), the work of a change
// (TestOthersAreAsTheyWere, BenchmarkOneSlice) and the cost of a connection (bench/results).
func defects() map[string]func(*testing.T, site) {
	return map[string]func(*testing.T, site){
		"a dial that hangs delays nobody":      noDelay,
		"a half-close does not end both ways":  halfClose,
		"datagrams of any size":                datagrams,
		"a reply that takes a second":          slowReply,
		"pods learn the address of the client": clientAddress,
		"a range of ports":                     portRange,
		"another endpoint is tried":            anotherEndpoint,
	}
}

func TestDefectsOfTheUserspaceMode(t *testing.T) {
	t.Parallel()
	for name, run := range defects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, live(t))
		})
	}
}

// noDelay has clients of an endpoint whose connects hang beside clients of another. One dial after the other would take
// half of them 250 ms each.
func noDelay(t *testing.T, s site) {
	const clients, inTurn = 200, 100 * 250 * time.Millisecond
	hung, ip := hangingBackend(t, s.host()), s.clusterIP()
	if !hung.IsValid() {
		t.Skip("this system answers connects whatever the backlog is")
	}
	other := slice("web", corev1.ProtocolTCP, backendAt(t, s.host(), "tcp", "a"))
	other.Name = "web-2"
	s.set(t, service("web", ip, 18080, corev1.ProtocolTCP), slice("web", corev1.ProtocolTCP, hung), other)
	at := listenOf(t, s.controller(), ip, 18080)
	await(t, "tcp", at, is("a"))
	began := time.Now()
	var asking sync.WaitGroup
	for range clients {
		asking.Go(func() {
			if name, err := ask("tcp", at); name != "a" || err != nil {
				t.Errorf("%q, %v", name, err)
			}
		})
	}
	asking.Wait()
	if took := time.Since(began); took > inTurn/2 {
		t.Errorf("%d clients took %v", clients, took)
	}
}

// halfClose has each side end its direction first, and read on.
func halfClose(t *testing.T, s site) {
	const size = 1 << 20
	got := make(chan int, 2)
	ip := s.clusterIP()
	s.set(t, service("web", ip, 18080, corev1.ProtocolTCP), slice("web", corev1.ProtocolTCP, listenTCP(t, s.host(), func(c *net.TCPConn) {
		first := make([]byte, 1)
		_, _ = io.ReadFull(c, first)
		if first[0] == 's' { // the server ends first
			_, _ = io.WriteString(c, "bye")
			_ = c.CloseWrite()
		}
		all, _ := io.ReadAll(c)
		got <- len(all)
		_, _ = fmt.Fprint(c, len(all))
	})))
	at := listenOf(t, s.controller(), ip, 18080)
	awaitOpen(t, at)
	<-got
	for first, want := range map[string]string{"c": fmt.Sprint(size), "s": "bye"} {
		c := connect(t, "tcp", at).(*net.TCPConn)
		_, _ = io.WriteString(c, first)
		if first == "s" {
			if text, err := io.ReadAll(c); string(text) != want || err != nil {
				t.Fatalf("%q, %v", text, err)
			}
		}
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if n := <-got; n != size {
			t.Errorf("%s ended first: the server has %d bytes", first, n)
		}
		if text, err := io.ReadAll(c); first == "c" && (string(text) != want || err != nil) {
			t.Errorf("the client got %q, %v", text, err)
		}
	}
}

func datagrams(t *testing.T, s site) {
	ip := s.clusterIP()
	s.set(t, service("dns", ip, 18053, corev1.ProtocolUDP), slice("dns", corev1.ProtocolUDP, listenUDP(t, s.host(), func(d []byte) []byte { return d })))
	at := listenOf(t, s.controller(), ip, 18053)
	await(t, "udp", at, is("hello"))
	c, buffer := connect(t, "udp", at), make([]byte, 1<<16)
	for _, size := range []int{1, 0, 4096, 4097, 65507} {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buffer); err != nil || !bytes.Equal(buffer[:n], sent) {
			t.Fatalf("%d bytes of %d are back, %v", n, size, err)
		}
	}
}

func slowReply(t *testing.T, s site) {
	ip := s.clusterIP()
	s.set(t, service("dns", ip, 18053, corev1.ProtocolUDP), slice("dns", corev1.ProtocolUDP, listenUDP(t, s.host(), func(d []byte) []byte {
		time.Sleep(time.Second)
		return d
	})))
	await(t, "udp", listenOf(t, s.controller(), ip, 18053), is("hello"))
}

// clientAddress has the PROXY protocol by an annotation.
func clientAddress(t *testing.T, s site) {
	source := func(r io.Reader) string {
		header, err := proxyproto.Read(bufio.NewReader(r))
		if err != nil {
			return err.Error()
		}
		return header.SourceAddr.String()
	}
	for network, endpoint := range map[string]netip.AddrPort{
		"tcp": listenTCP(t, s.host(), func(c *net.TCPConn) { _, _ = io.WriteString(c, source(c)+"\n") }),
		"udp": listenUDP(t, s.host(), func(d []byte) []byte { return []byte(source(bytes.NewReader(d))) }),
	} {
		ip := s.clusterIP()
		o := service("web-"+network, ip, 18080, protocols[network])
		o.Annotations = map[string]string{"usher.dev/send-proxy": "v2"}
		s.set(t, o, slice(o.Name, protocols[network], endpoint))
		at := listenOf(t, s.controller(), ip, 18080)
		await(t, network, at, func(_ string, err error) bool { return err == nil })
		c, buffer := connect(t, network, at), make([]byte, 100)
		_, _ = io.WriteString(c, "hello\n")
		n, err := c.Read(buffer)
		if got, want := string(bytes.TrimSpace(buffer[:n])), c.LocalAddr().String(); got != want || err != nil {
			t.Errorf("%s: the pod has the client %q, which is %s: %v", network, got, want, err)
		}
	}
}

func portRange(t *testing.T, s site) {
	const ports, first = 300, 20000
	ip := s.clusterIP()
	o, e := numbered("range", ip, ports, first, backendAt(t, s.host(), "tcp", "even"), backendAt(t, s.host(), "tcp", "odd"))
	s.set(t, o, e)
	host, _, _ := net.SplitHostPort(listenOf(t, s.controller(), ip, first+ports-1))
	for i := range ports {
		await(t, "tcp", net.JoinHostPort(host, fmt.Sprint(first+i)), is([]string{"even", "odd"}[i%2]))
	}
}

// anotherEndpoint has one that refuses: its port is that of a socket that does not listen.
func anotherEndpoint(t *testing.T, s site) {
	up := backendAt(t, s.host(), "tcp", "a")
	dead := connect(t, "tcp", up.String()).LocalAddr().(*net.TCPAddr).AddrPort()
	ip := s.clusterIP()
	other := slice("web", corev1.ProtocolTCP, dead)
	other.Name = "web-2"
	s.set(t, service("web", ip, 18080, corev1.ProtocolTCP), slice("web", corev1.ProtocolTCP, up), other)
	at := listenOf(t, s.controller(), ip, 18080)
	await(t, "tcp", at, is("a"))
	for range 20 {
		if name, err := ask("tcp", at); name != "a" || err != nil {
			t.Errorf("%q, %v", name, err)
		}
	}
}
