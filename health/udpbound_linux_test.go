package health_test

import (
	"net"
	"testing"
	"time"

	"usher/health"
)

// A check of loopback asks the kernel and sends nothing: some servers serve only the first
// sender.
func TestUDPSendsNothingToALoopbackTarget(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		conn, err := net.ListenPacket("udp", listen)
		if err != nil {
			t.Logf("without IPv6: %v", err)
			continue
		}
		defer conn.Close()
		_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
		host := "127.0.0.1"
		if listen == "[::1]:0" {
			host = "::1"
		}
		target := health.Target{Name: "b", Network: "udp", Address: net.JoinHostPort(host, port)}
		if !health.IsBoundHere(target) {
			t.Skip("the kernel has no sock_diag for udp")
		}
		if err := (health.UDP{}).Check(t.Context(), target); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
		_ = conn.SetReadDeadline(time.Now()) // a datagram would be there by now
		if n, from, err := conn.ReadFrom(make([]byte, 1)); err == nil {
			t.Errorf("%s got %d bytes from %v", listen, n, from)
		}
		conn.Close()
		if health.IsBoundHere(target) {
			t.Errorf("%s is closed and still bound", listen)
		}
	}
}

// A connected socket receives nothing from other peers.
func TestUDPConnectedSocketIsNotBoundForOthers(t *testing.T) {
	t.Parallel()
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	conn, err := net.DialUDP("udp4", nil, peer.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if health.IsBoundHere(health.Target{Network: "udp", Address: conn.LocalAddr().String()}) {
		t.Error("a connected socket is taken for a server")
	}
	if health.IsBoundHere(health.Target{Network: "udp", Address: "192.0.2.1:53"}) {
		t.Error("an address elsewhere is taken for one of this machine")
	}
}
