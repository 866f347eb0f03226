package config

import "fmt"

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
		if err := s.checkLife(); err != nil {
			return fmt.Errorf("service %q: %w", s.Name, err)
		}
		pool := s.PoolOptions(func() uint64 { return 0 })
		if err := pool.Check(); err != nil {
			return fmt.Errorf("service %q: %w", s.Name, err)
		}
		if s.UDP.OnePacket && s.UDP.Replies > 0 {
			return fmt.Errorf("service %q: --ops keeps no flow whose replies --udp-replies could count", s.Name)
		}
	}
	if err := CheckListeners(c.Services); err != nil {
		return err
	}
	if err := CheckLoops(c.Services, nil); err != nil {
		return err
	}
	return c.Process.check()
}

// check refuses an option that another one makes void.
func (p *Process) check() error {
	if p.AccessLog && (p.LogLevel == "warn" || p.LogLevel == "error") {
		return fmt.Errorf("--access-log writes nothing with --log-level %s: its lines are of level info", p.LogLevel)
	}
	return nil
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
