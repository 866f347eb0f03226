package proxy

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"usher/proxy/flow"
)

// blackhole is an address where a connect is neither accepted nor refused: its backlog
// is full.
func blackhole(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := net.DialTimeout("tcp", ln.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return ln.Addr().(*net.TCPAddr).AddrPort()
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("the backlog does not fill")
	return netip.AddrPort{}
}

// TestCutMovesThoseThatConnect: a client whose connect is under way goes elsewhere.
func TestCutMovesThoseThatConnect(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		silent, b := blackhole(t), newBackend(t)
		c := service(t, silent)
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		conn := dial(t, addr)
		eventually(t, "the connect is under way", func() bool { return c.Pool.Backends()[0].Active() == 1 })
		first := c.Pool.Backends()[0]
		c.Pool.Update(specs(b.addr), 0)
		s.CutBackend(first, flow.Reset)
		roundTrip(t, conn)
		if n := first.Active(); n != 0 {
			t.Errorf("the removed backend still has %d flows", n)
		}
	})
}
