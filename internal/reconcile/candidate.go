package reconcile

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/internal/discovery"
)

// candidate is a backend as configured, under one of its addresses.
type candidate struct {
	spec  balancer.Spec  // without what is found out
	check *health.Target // where it is checked; nil: nowhere
	agent *health.Target // where its agent is asked; nil: nowhere
}

// newCandidates makes candidates of backends whose names are resolved. Of equal ones the first counts. No target is
// a listener of this process, as isOwn has it; nil knows none.
func newCandidates(s *config.Service, backends []config.Backend, isOwn func(health.Target) error) (all []candidate, leftOut []line) {
	known := make(map[balancer.Endpoint]bool, len(backends))
	all = make([]candidate, 0, len(backends))
	use := func(t *health.Target, message string) *health.Target {
		if isOwn == nil || t == nil {
			return t
		}
		if err := isOwn(*t); err != nil {
			leftOut = append(leftOut, leftOutLine(message, err))
			return nil
		}
		return t
	}
	for i := range backends {
		b := &backends[i]
		e := endpointOf(b.Addr)
		if known[e] {
			continue
		}
		known[e] = true
		source := s.SourceOf(b)
		if source.IsSet() && e.Addr.IsValid() && !source.For(e.Addr.Addr()).IsValid() {
			leftOut = append(leftOut, leftOutLine("backend left out", fmt.Errorf("its address %s is not of the family of its source %s", e, source)))
			continue
		}
		c := candidate{spec: balancer.Spec{
			Endpoint: e, Weight: b.Weight, Backup: b.Backup, Limits: b.Limits, Source: source.For(e.Addr.Addr()),
		}, check: checkTarget(s, b, e)}
		if s.Health.Kind != "exec" { // a program may ask where it likes
			c.check = use(c.check, "backend is not checked")
		}
		c.agent = use(agentTarget(s, b, e), "agent is not asked")
		for _, t := range []*health.Target{c.check, c.agent} {
			setSource(t, source)
		}
		all = append(all, c)
	}
	return all, leftOut
}

// setSource has a target be asked from a source, if that has an address of its family.
func setSource(t *health.Target, source config.Source) {
	if t == nil || !source.IsSet() {
		return
	}
	if to, err := netip.ParseAddrPort(t.Address); err == nil {
		t.Source = source.For(to.Addr())
	}
}

func endpointOf(a config.Addr) balancer.Endpoint {
	switch {
	case a.Path != "":
		return balancer.Endpoint{Path: a.Path}
	case a.Name != "":
		return balancer.Endpoint{Host: a.HostPort()}
	}
	e := balancer.Endpoint{Addr: netip.AddrPortFrom(a.IP, a.Port)}
	if a.Ports > 1 {
		e.Ports = uint16(a.Ports)
	}
	return e
}

// checkTarget says where a backend is checked: where its options or those of the check say, else at the first port of its
// range, or, when it has no port of its own, at the first one that clients may ask for. There is nothing to check at a
// name that does not resolve.
func checkTarget(s *config.Service, b *config.Backend, e balancer.Endpoint) *health.Target {
	if s.Health.IsOff() {
		return nil
	}
	t := &health.Target{Name: e.String(), Network: "tcp"}
	if kind := s.Health.Kind; kind == "udp" || kind == "dns" || kind == "auto" || kind == "exec" && s.IsUDP() {
		t.Network = "udp"
	}
	port := e.Addr.Port()
	switch {
	case b.Check.Addr().IsValid():
		t.Address = b.Check.String()
		return t
	case e.Path != "":
		t.Network, t.Address = "unix", e.Path
		return t
	case !e.Addr.IsValid():
		return nil
	case b.Check.Port() > 0:
		port = b.Check.Port()
	case s.Health.Port > 0:
		port = uint16(s.Health.Port)
	case port == 0:
		port = s.Listeners[0].Port
	}
	t.Address = net.JoinHostPort(e.Addr.Addr().String(), strconv.Itoa(int(port)))
	return t
}

// isCheckedByDefault reports whether the check that udp services have by default says something of a backend: on
// loopback, where the kernel is asked, and elsewhere once the backend has refused a flow, so that refusals are known to
// arrive. The first port of a range says nothing of the others.
func isCheckedByDefault(c *candidate, hasRefused bool) bool {
	if c.check == nil {
		return false
	}
	at, err := netip.ParseAddrPort(c.check.Address)
	return err == nil && c.spec.Endpoint.Ports <= 1 && (at.Addr().Unmap().IsLoopback() || hasRefused)
}

// agentTarget says where the agent of a backend is, if it has one. Nobody is asked about a name that does not resolve.
func agentTarget(s *config.Service, b *config.Backend, e balancer.Endpoint) *health.Target {
	ip, port := b.Agent.Addr(), b.Agent.Port()
	if port == 0 {
		port = uint16(s.Agent.Port)
	}
	if !ip.IsValid() {
		ip = e.Addr.Addr()
	}
	if port == 0 || !ip.IsValid() || !e.Resolved() {
		return nil
	}
	return &health.Target{Name: e.String(), Network: "tcp", Address: netip.AddrPortFrom(ip, port).String()}
}

// resolve returns the backends of a service with the addresses that its names have, in the order of the configuration,
// those of a name as its records are sorted. A name that does not resolve stays as it is. A name server that blocks a
// name answers with an address that cannot be connected to: such are left out.
func resolve(backends []config.Backend, names map[string][]discovery.Record) (resolved []config.Backend, leftOut []line) {
	if len(names) == 0 {
		return backends, nil
	}
	resolved = make([]config.Backend, 0, len(backends))
	for _, b := range backends {
		var usable []discovery.Record
		for _, r := range names[b.Addr.HostName()] {
			switch {
			case config.IsUnspecified(r.Addr):
				leftOut = append(leftOut, leftOutLine("backend left out", fmt.Errorf("%s resolves to %s, which cannot be connected to", b.Addr, r.Addr)))
			case b.Addr.SRV && r.SRV.Port == 0:
				leftOut = append(leftOut, leftOutLine("backend left out", fmt.Errorf("%s resolves to %s without a port", b.Addr, r.Addr)))
			default:
				usable = append(usable, r)
			}
		}
		if len(usable) == 0 {
			resolved = append(resolved, b)
		}
		for _, r := range usable {
			one := b
			one.Addr.Name, one.Addr.SRV, one.Addr.IP = "", false, r.Addr
			if b.Addr.SRV {
				asRecorded(&one, r.SRV, usable[0].SRV.Priority)
			}
			resolved = append(resolved, one)
		}
	}
	return resolved, leftOut
}

// asRecorded gives a backend the port of its SRV record and its part of the weight. Those of another than the first
// priority are for when no backend of the first is up. Weight 0 is the least one (RFC 2782 wants it chosen hardly ever).
func asRecorded(b *config.Backend, r discovery.SRVRecord, first uint16) {
	b.Addr.Port, b.Addr.Ports = r.Port, 1
	b.Weight = int(min(int64(b.Weight)*max(int64(r.Weight), 1), config.MaxWeight))
	b.Backup = b.Backup || r.Priority != first
}

func leftOutLine(message string, err error) line {
	return line{zap.WarnLevel, message, []zap.Field{zap.Error(err)}}
}
