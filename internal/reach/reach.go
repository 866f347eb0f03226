// Package reach asks the system which addresses and ports this process can listen on. Package clusterip places
// ClusterIPs by it, and package doctor shows it.
package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Reach is how an address can be listened on by this process.
type Reach int

const (
	Unreachable Reach = iota // a socket cannot have the address
	Bindable                 // a socket can have the address by IP_FREEBIND alone, or the host does not route it to itself
	Local                    // a socket can have the address, and the host routes it to itself
)

// Probe asks the system how an address can be listened on. It binds UDP sockets on it, and closes them.
func Probe(ip netip.Addr) Reach {
	switch {
	case canBind(ip, nil) && isRoutedHere(ip):
		return Local
	case canBind(ip, setFreebind):
		return Bindable
	}
	return Unreachable
}

// canBind reports whether a UDP socket can have the address, with an option set before.
func canBind(ip netip.Addr, option func(network, address string, conn syscall.RawConn) error) bool {
	config := net.ListenConfig{Control: option}
	socket, err := config.ListenPacket(context.Background(), "udp", net.JoinHostPort(ip.String(), "0"))
	if err != nil {
		return false
	}
	_ = socket.Close()
	return true
}

// isRoutedHere reports whether the host routes an address to itself: packets to it then leave from the address itself, or
// from one of loopback. It sends none. A bind alone tells nothing under the sysctl ip_nonlocal_bind.
func isRoutedHere(ip netip.Addr) bool {
	const discard = 9
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, discard)))
	if err != nil {
		return false
	}
	defer conn.Close()
	from, is := conn.LocalAddr().(*net.UDPAddr)
	if !is {
		return false
	}
	source := from.AddrPort().Addr().Unmap()
	return source == ip || source.IsLoopback()
}

// RouteCommand returns the command that makes a host route the ClusterIPs beside one to itself. Linux binds an IPv6
// address that is only routed to the host under the sysctl alone.
func RouteCommand(ip netip.Addr) string {
	if ip.Is6() {
		return fmt.Sprintf("ip -6 route add local %s dev lo && sysctl -w net.ipv6.ip_nonlocal_bind=1", netip.PrefixFrom(ip, 112).Masked())
	}
	cidr := netip.PrefixFrom(ip, 16).Masked()
	if kubeadm := netip.MustParsePrefix("10.96.0.0/12"); kubeadm.Contains(ip) {
		cidr = kubeadm
	}
	return fmt.Sprintf("ip route add local %s dev lo", cidr)
}

// LowPort returns the lowest port that this process may bind; 0: it may bind all of them.
func LowPort() uint16 {
	const reserved = 1024 // below it on systems that have no sysctl for it
	low := uint16(reserved)
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16); err == nil {
			low = uint16(n)
		}
	}
	if low <= 1 {
		return 0
	}
	// Whether the process is privileged depends on more than its user. The system looks at that first, and only then
	// whether the port is in use.
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(low) - 1})
	if err == nil {
		_ = socket.Close()
	}
	if errors.Is(err, os.ErrPermission) {
		return low
	}
	return 0
}
