package app

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/internal/config"
	"usher/internal/discovery"
	"usher/proxy"
)

// resolveListeners replaces listeners on host names by listeners on each of their addresses, and checks again what
// depends on addresses.
func resolveListeners(ctx context.Context, services []config.Service, names discovery.Resolver, log *zap.Logger) error {
	local := localAddrs()
	for i := range services {
		s := &services[i]
		var resolved []config.Addr
		for _, l := range s.Listeners {
			if l.Name == "" {
				resolved = append(resolved, l)
				continue
			}
			tell := time.AfterFunc(quietWait, func() { log.Info("waiting for names", zap.Strings("names", []string{l.Name})) })
			ips, err := names.Addrs(ctx, l.Name)
			tell.Stop()
			if err != nil {
				return fmt.Errorf("service %s: listen on %s: %w", s.Name, l, err)
			}
			for _, ip := range localOnly(ips, local) {
				l.Name, l.IP = "", ip
				resolved = append(resolved, l)
			}
		}
		s.Listeners = resolved
	}
	if err := config.CheckListeners(services); err != nil {
		return err
	}
	return config.CheckLoops(services, isLocal(local))
}

// localOnly drops the addresses that no interface has, such as the ::1 that a hosts file gives localhost on a machine
// without IPv6. If that leaves nothing, all stay: the attempt to bind says best what is wrong.
func localOnly(ips []netip.Addr, local map[netip.Addr]bool) []netip.Addr {
	ours := slices.DeleteFunc(slices.Clone(ips), func(ip netip.Addr) bool { return !local[ip.WithZone("")] })
	if len(ours) == 0 {
		return ips
	}
	return ours
}

// bound returns the services with the ports that the kernel chose for their listeners.
func bound(services []config.Service, running []*proxy.Service) []config.Service {
	services = slices.Clone(services)
	for i := range services {
		s := &services[i]
		s.Listeners = slices.Clone(s.Listeners)
		for j, l := range running[i].Listeners {
			s.Listeners[j].Port = l.Addr.Port()
		}
	}
	return services
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
		if a.Network != config.Unix {
			out[i].Addr, out[i].Ports = netip.AddrPortFrom(ip, a.Port), a.Ports
		}
	}
	return out
}
