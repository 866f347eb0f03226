package kube

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// hangingBackend returns an address whose connects hang: nobody accepts, and the backlog is full.
func hangingBackend(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	connect(t, "tcp", l.Addr().String()) // the only one that has room
	return l.Addr().(*net.TCPAddr).AddrPort()
}
