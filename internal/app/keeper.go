package app

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
)

// keeper keeps the pool of one service in line with what name look-ups and health checks find.
type keeper struct {
	service config.Service
	pool    *balancer.Pool
	monitor *health.Monitor // nil: checks are off
	log     *zap.Logger

	// updating makes apply run one at a time. A report never takes it, because apply waits for reports under way.
	updating sync.Mutex

	mu      sync.Mutex
	names   map[string][]netip.Addr // of backends that are host names; empty: does not resolve
	targets map[health.Target]*balancer.Backend
	allDown bool // as last logged
}

func newKeeper(s config.Service, log *zap.Logger) (*keeper, error) {
	initial := balancer.Unknown
	if s.Health.Off() {
		initial = balancer.Up
	}
	pool, err := balancer.NewPool(balancer.Options{Scheduler: s.Scheduler, FailClosed: s.FailClosed, Initial: initial})
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Name, err)
	}
	k := &keeper{
		service: s,
		pool:    pool,
		log:     log.With(zap.String("service", s.Name)),
		names:   make(map[string][]netip.Addr),
		targets: make(map[health.Target]*balancer.Backend),
	}
	if !s.Health.Off() {
		k.monitor = health.NewMonitor(health.TCP{}, health.Policy{
			Interval: s.Health.Interval, Timeout: s.Health.Timeout, Rise: s.Health.Rise, Fall: s.Health.Fall,
		}, k.report)
	}
	return k, nil
}

// hosts returns the host names among the backends, each once.
func (k *keeper) hosts() []string {
	var hosts []string
	for _, b := range k.service.Backends {
		if name := b.Addr.Name; name != "" && !slices.Contains(hosts, name) {
			hosts = append(hosts, name)
		}
	}
	return hosts
}

// resolved records the addresses of a host name and brings the pool in line. None means that it does not resolve.
func (k *keeper) resolved(host string, addrs []netip.Addr) {
	k.mu.Lock()
	k.names[host] = addrs
	k.mu.Unlock()
	k.apply()
}

// apply makes the pool and the monitor follow the configured backends and the known addresses of names.
func (k *keeper) apply() {
	k.updating.Lock()
	defer k.updating.Unlock()

	k.mu.Lock()
	k.pool.Update(k.specs())
	targets := make([]health.Target, 0, len(k.targets))
	clear(k.targets)
	for _, b := range k.pool.Backends() {
		if t, ok := k.target(b); ok {
			k.targets[t] = b
			targets = append(targets, t)
		}
	}
	k.tellAllDown()
	k.mu.Unlock()

	if k.monitor != nil {
		k.monitor.Set(targets)
	}
}

// specs lists the backends in the order of the command line, the addresses of a name in ascending order. It needs mu.
func (k *keeper) specs() []balancer.Spec {
	var specs []balancer.Spec
	for _, b := range k.service.Backends {
		a := b.Addr
		add := func(e balancer.Endpoint) { specs = append(specs, balancer.Spec{Endpoint: e, Weight: b.Weight}) }
		at := func(ip netip.Addr) balancer.Endpoint {
			return balancer.Endpoint{Addr: netip.AddrPortFrom(ip, a.Port), Ports: uint16(a.Ports)}
		}
		switch {
		case a.Path != "":
			add(balancer.Endpoint{Path: a.Path})
		case a.Name == "":
			add(at(a.IP))
		case len(k.names[a.Name]) == 0:
			add(balancer.Endpoint{Host: a.String()})
		default:
			for _, ip := range k.names[a.Name] {
				add(at(ip))
			}
		}
	}
	return specs
}

// target says where a backend is checked: at the first port of its range, or, when it has no port of its own, at the
// first one that clients may ask for. There is nothing to check at a name that does not resolve.
func (k *keeper) target(b *balancer.Backend) (health.Target, bool) {
	e := b.Endpoint()
	switch {
	case e.Path != "":
		return health.Target{Name: b.String(), Network: "unix", Address: e.Path}, true
	case !e.Addr.IsValid():
		return health.Target{}, false
	}
	port := e.Addr.Port()
	if port == 0 {
		port = k.service.Listeners[0].Port
	}
	address := net.JoinHostPort(e.Addr.Addr().String(), strconv.Itoa(int(port)))
	return health.Target{Name: b.String(), Network: "tcp", Address: address}, true
}

// report takes the news of a check. The first good result of a backend is what everybody expects and stays quiet.
func (k *keeper) report(t health.Target, up bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.targets[t]
	if b == nil {
		return
	}
	first := b.Status() == balancer.Unknown
	if !up {
		k.pool.SetStatus(b, balancer.Down)
		k.log.Warn("backend down", zap.Stringer("backend", b), zap.Error(err))
	} else {
		k.pool.SetStatus(b, balancer.Up)
		if first {
			k.log.Debug("backend up", zap.Stringer("backend", b))
		} else {
			k.log.Info("backend up", zap.Stringer("backend", b))
		}
	}
	k.tellAllDown()
}

// tellAllDown logs when the last backend goes down and when the first comes back. It needs mu. With a backend up, or
// not checked yet, among the first it is quick, however many there are.
func (k *keeper) tellAllDown() {
	has := func(s balancer.Status) bool {
		return slices.ContainsFunc(k.pool.Backends(), func(b *balancer.Backend) bool { return b.Status() == s })
	}
	switch {
	case !k.allDown && !has(balancer.Up) && !has(balancer.Unknown):
		k.allDown = true
		what := "clients are sent to them anyway (--fail open)"
		if k.service.FailClosed {
			what = "clients are refused (--fail closed)"
		}
		k.log.Error("all backends of service "+k.service.Name+" are down", zap.String("so", what))
	case k.allDown && has(balancer.Up):
		k.allDown = false
		k.log.Info("service " + k.service.Name + " has a backend again")
	}
}

// up counts the backends that are up.
func (k *keeper) up() int {
	n := 0
	for _, b := range k.pool.Backends() {
		if b.Status() == balancer.Up {
			n++
		}
	}
	return n
}

// close ends the checks.
func (k *keeper) close() {
	if k.monitor != nil {
		k.monitor.Close()
	}
}
