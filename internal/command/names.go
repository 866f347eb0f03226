package command

import (
	"context"
	"net"
	"net/netip"
	"time"

	"usher/internal/iptables"
	"usher/internal/ipvsadm"
)

// lookupMost bounds how long the address of one name may take.
const lookupMost = 5 * time.Second

// lookupHost returns the first IPv4 address of a host.
func lookupHost(name string) (netip.Addr, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupMost)
	defer cancel()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	if err != nil || len(all) == 0 {
		return netip.Addr{}, false
	}
	return all[0].Unmap(), true
}

// lookupPort returns the port of a service of this machine.
func lookupPort(service string, p ipvsadm.Protocol) (uint16, bool) {
	port, err := net.LookupPort(networkOf(p), service)
	return uint16(port), err == nil
}

func networkOf(p ipvsadm.Protocol) string {
	if p == ipvsadm.UDP {
		return "udp"
	}
	return "tcp"
}

// namesOf looks names up for a listing, unless it is numeric.
func namesOf(f ipvsadm.Format) ipvsadm.Names {
	if f.Numeric {
		return ipvsadm.Names{}
	}
	names := iptables.SystemNames()
	return ipvsadm.Names{Host: names.Host, Port: func(port uint16, p ipvsadm.Protocol) string {
		return names.Service(port, networkOf(p))
	}}
}

// resolveHost returns the IPv4 addresses of a host.
func resolveHost(host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupMost)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
}
