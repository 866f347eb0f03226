package control

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"usher/internal/config"
)

// explain adds advice to an error of binding the listeners.
func explain(err error, services []*config.Service) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		if who := portOwner(services); who != "" {
			return fmt.Errorf("%w (%s)", err, who)
		}
	case errors.Is(err, syscall.EACCES) && hasLowPort(services):
		return fmt.Errorf("%w (ports below 1024 need privilege: take a higher one, grant CAP_NET_BIND_SERVICE, or lower the sysctl net.ipv4.ip_unprivileged_port_start)", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w (no interface of this machine has that address)", err)
	}
	return err
}

func hasLowPort(services []*config.Service) bool {
	for _, s := range services {
		for _, l := range s.Listeners {
			if l.Network != config.Unix && l.Port > 0 && l.Port < 1024 {
				return true
			}
		}
	}
	return false
}

// isInTheWay reports whether a socket that is bound to at blocks one of the services' listeners.
func isInTheWay(services []*config.Service, network string, at netip.AddrPort) bool {
	for _, s := range services {
		for _, l := range s.Listeners {
			if l.Network != network || at.Port() < l.Port || int(at.Port()) >= int(l.Port)+l.Ports {
				continue
			}
			// A socket on [::] may be one of both families; the table does not show which.
			any := l.IP.IsUnspecified() && l.IP.Is4() == at.Addr().Is4()
			if l.IsAll() || any || l.IP == at.Addr() || at.Addr().IsUnspecified() {
				return true
			}
		}
	}
	return false
}
