package control

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/internal/config"
	"usher/internal/reconcile"
	"usher/proxy"
)

// resolveListeners returns a service that listens on each address of its listeners' host names; s if there are none.
func (c *Controller) resolveListeners(ctx context.Context, s *config.Service) (*config.Service, error) {
	if !slices.ContainsFunc(s.Listeners, func(l config.Addr) bool { return l.Name != "" }) {
		return s, nil
	}
	var resolved []config.Addr
	for _, l := range s.Listeners {
		if l.Name == "" {
			resolved = append(resolved, l)
			continue
		}
		notice := time.AfterFunc(reconcile.QuietWait, func() { c.log.Info("waiting for names", zap.Strings("names", []string{l.Name})) })
		ips, err := c.names.Addrs(ctx, l.Name)
		notice.Stop()
		if err != nil {
			return nil, fmt.Errorf("service %s: listen on %s: %w", s.Name, l, err)
		}
		for _, ip := range localOnly(ips, c.local) {
			l.Name, l.IP = "", ip
			resolved = append(resolved, l)
		}
	}
	one := *s
	one.Listeners = resolved
	return &one, nil
}

// localOnly drops the addresses that no interface has. A hosts file gives localhost ::1 even on a machine without IPv6.
// If none is local, all stay: the attempt to bind explains best what is wrong.
func localOnly(ips []netip.Addr, local func(netip.Addr) bool) []netip.Addr {
	ours := slices.DeleteFunc(slices.Clone(ips), func(ip netip.Addr) bool { return !local(ip) })
	if len(ours) == 0 {
		return ips
	}
	return ours
}

// bound returns a service with the ports that the kernel chose for its listeners; s if it chose none.
func bound(s *config.Service, running []proxy.Listener) *config.Service {
	if !slices.ContainsFunc(s.Listeners, func(l config.Addr) bool { return l.Network != config.Unix && l.Port == 0 }) {
		return s
	}
	one := *s
	one.Listeners = slices.Clone(s.Listeners)
	for i, l := range running {
		one.Listeners[i].Port = l.Addr.Port()
	}
	return &one
}

// Listeners returns the data path's form of resolved addresses.
func Listeners(addrs []config.Addr) []proxy.Listener {
	out := make([]proxy.Listener, len(addrs))
	for i, a := range addrs {
		ip := a.IP
		if a.IsAll() {
			ip = netip.IPv6Unspecified()
		}
		out[i] = proxy.Listener{
			Network: a.Network, V6Only: a.IP == netip.IPv6Unspecified(),
			Path: a.Path, Mode: a.File.Mode, User: a.File.User, Group: a.File.Group,
			ServerName: a.ServerName, Protocol: a.Protocol, From: a.From,
		}
		if a.Network != config.Unix {
			out[i].Addr, out[i].Ports = netip.AddrPortFrom(ip, a.Port), a.Ports
		}
	}
	return out
}

// localAddrs returns a test for the addresses of this machine's interfaces. If the system does not list them, no address
// passes.
func localAddrs() func(netip.Addr) bool {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return func(netip.Addr) bool { return false }
	}
	addrs := make(map[netip.Addr]bool, len(interfaces))
	for _, a := range interfaces {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			addrs[prefix.Addr().Unmap()] = true
		}
	}
	return func(ip netip.Addr) bool { return addrs[ip.WithZone("")] }
}
