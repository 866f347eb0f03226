package clusterip

import (
	"bytes"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// setFreebind lets a socket have an address that the host has not. It needs no privilege, and works for both families.
func setFreebind(_, _ string, conn syscall.RawConn) error {
	var err error
	if failed := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
	}); failed != nil {
		return failed
	}
	return err
}

// hasNonlocalBind reports whether each socket may have an address that the host has not.
func hasNonlocalBind(ip netip.Addr) bool {
	if ip.Is6() {
		return false // the source of packets of a host to itself may be another one
	}
	text, _ := os.ReadFile("/proc/sys/net/ipv4/ip_nonlocal_bind")
	return bytes.HasPrefix(text, []byte("1"))
}
