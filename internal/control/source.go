package control

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// bindSource returns why the kernel refuses an address as that of a socket's own end, nil if it takes it. Settings such as
// ip_nonlocal_bind are the kernel's to know.
func bindSource(ip netip.Addr) error {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err == nil {
		return c.Close()
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return errors.New("no interface of this machine has that address")
	}
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}
