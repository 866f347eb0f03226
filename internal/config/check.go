package config

import (
	"fmt"
	"net/netip"
)

// check looks at what no single word shows.
func (c *Config) check() error {
	for i := range c.Services {
		s := &c.Services[i]
		if len(s.Backends) == 0 {
			return fmt.Errorf("service %q listens on %s but has no backend (add --backend %sADDR)", s.Name, s.Listeners[0], flagPrefix(s.Name))
		}
		for _, b := range s.Backends {
			if err := s.checkPorts(b.Addr); err != nil {
				return fmt.Errorf("service %q: %w", s.Name, err)
			}
		}
	}
	return CheckListeners(c.Services)
}

func flagPrefix(service string) string {
	if service == DefaultService {
		return ""
	}
	return service + "="
}

// checkPorts checks that every client port of the service has a port at the backend: one port serves all, a range must
// be as long as each listener's, none means the port that the client asked for.
func (s *Service) checkPorts(backend Addr) error {
	if backend.Network == Unix || backend.Ports == 1 {
		return nil
	}
	for _, l := range s.Listeners {
		switch {
		case !backend.HasPort() && l.Network == Unix:
			return fmt.Errorf("backend %s needs a port: the listener %s has none to pass on", backend, l)
		case !backend.HasPort() && l.Port == 0:
			return fmt.Errorf("backend %s needs a port: the one of the listener %s is not known yet", backend, l)
		case backend.HasPort() && backend.Ports != max(l.Ports, 1):
			return fmt.Errorf("backend %s has %d ports but listener %s has %d: give as many, one, or none",
				backend, backend.Ports, l, max(l.Ports, 1))
		}
	}
	return nil
}

// CheckListeners reports two listeners on the same address, in one service or two. A listener on all addresses and one
// on a single address of the same port may both be: the kernel gives a client to the more specific one. It is to be
// asked again once host names are resolved.
func CheckListeners(services []Service) error {
	type taken struct {
		service string
		addr    Addr
	}
	var all []taken
	for _, s := range services {
		for _, l := range s.Listeners {
			for _, t := range all {
				switch {
				case !overlap(t.addr, l):
				case t.service == s.Name && t.addr == l:
					return fmt.Errorf("service %q listens on %s twice", s.Name, l)
				case t.service == s.Name:
					return fmt.Errorf("service %q listens on both %s and %s, which overlap", s.Name, t.addr, l)
				case t.addr == l:
					return fmt.Errorf("services %q and %q both listen on %s", t.service, s.Name, l)
				default:
					return fmt.Errorf("services %q and %q listen on %s and %s, which overlap", t.service, s.Name, t.addr, l)
				}
			}
			all = append(all, taken{s.Name, l})
		}
	}
	return nil
}

func overlap(a, b Addr) bool {
	anyIPv4 := a.IsAll() && b.IP == netip.IPv4Unspecified() || b.IsAll() && a.IP == netip.IPv4Unspecified()
	if !anyIPv4 && (a.Network != b.Network || a.IP != b.IP || a.Name != b.Name || a.Path != b.Path) {
		return false
	}
	if a.Network == Unix {
		return true
	}
	if a.Port == 0 || b.Port == 0 { // the kernel chooses: never the same
		return false
	}
	return int(a.Port) < int(b.Port)+b.Ports && int(b.Port) < int(a.Port)+a.Ports
}
