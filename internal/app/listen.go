package app

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"usher/internal/config"
	"usher/internal/discovery"
	"usher/proxy"
)

// resolveListeners replaces listeners on host names by listeners on each of their addresses, and checks again that no
// two are the same.
func resolveListeners(ctx context.Context, services []config.Service, names discovery.Resolver) error {
	for i := range services {
		s := &services[i]
		var resolved []config.Addr
		for _, l := range s.Listeners {
			if l.Name == "" {
				resolved = append(resolved, l)
				continue
			}
			ips, err := names.Addrs(ctx, l.Name)
			if err != nil {
				return fmt.Errorf("service %s: listen on %s: %w", s.Name, l, err)
			}
			for _, ip := range localOnly(ips) {
				l.Name, l.IP = "", ip
				resolved = append(resolved, l)
			}
		}
		s.Listeners = resolved
	}
	return config.CheckListeners(services)
}

// localOnly drops the addresses that no interface has, such as the ::1 that a hosts file gives localhost on a machine
// without IPv6. If that leaves nothing, all stay: the attempt to bind says best what is wrong.
func localOnly(ips []netip.Addr) []netip.Addr {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return ips
	}
	local := slices.DeleteFunc(slices.Clone(ips), func(ip netip.Addr) bool {
		return !slices.ContainsFunc(interfaces, func(a net.Addr) bool {
			prefix, err := netip.ParsePrefix(a.String())
			return err == nil && prefix.Addr() == ip.WithZone("")
		})
	})
	if len(local) == 0 {
		return ips
	}
	return local
}

// listeners turns resolved addresses into what the data path takes.
func listeners(addrs []config.Addr) []proxy.Listener {
	out := make([]proxy.Listener, len(addrs))
	for i, a := range addrs {
		ip := a.IP
		if a.IsAll() {
			ip = netip.IPv6Unspecified()
		}
		out[i] = proxy.Listener{Network: a.Network, Path: a.Path}
		if a.Network == config.TCP {
			out[i].Addr, out[i].Ports = netip.AddrPortFrom(ip, a.Port), a.Ports
		}
	}
	return out
}
