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
	journal *journal
	// admit sorts out backends that would lead clients back to this process; nil lets all pass.
	admit func([]config.Backend) (kept []config.Backend, refused []error)
	// cut ends the flows of a backend; nil in tests. Both are set before the first apply.
	cut func(*balancer.Backend)

	// updating makes apply run one at a time. A report never takes it, because apply waits for reports under way.
	updating sync.Mutex

	mu         sync.Mutex
	names      map[string][]netip.Addr // of backends that are host names; empty: does not resolve
	unanswered map[string]bool         // names whose first look-up has not ended
	targets    map[health.Target]*balancer.Backend
	told       outage          // as last logged
	leftOut    map[string]bool // what admit refused, and was logged
}

func newKeeper(s config.Service, log *zap.Logger, j *journal) (*keeper, error) {
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
		journal: j,

		names:      make(map[string][]netip.Addr),
		unanswered: make(map[string]bool),
		targets:    make(map[health.Target]*balancer.Backend),
		leftOut:    make(map[string]bool),
	}
	for _, host := range k.hosts() {
		k.unanswered[host] = true
	}
	if !s.Health.Off() {
		checker, err := checkerOf(s.Health)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		k.monitor = health.NewMonitor(checker, health.Policy{
			Interval: s.Health.Interval, Timeout: s.Health.Timeout, Rise: s.Health.Rise, Fall: s.Health.Fall,
		}, k.report)
	}
	return k, nil
}

// checkerOf makes what checks the backends.
func checkerOf(h config.Health) (health.Checker, error) {
	switch h.Kind {
	case "tcp":
		return health.TCP{}, nil
	case "udp":
		return health.UDP{Send: h.Send, Expect: h.Expect}, nil
	case "dns":
		return health.NewDNS(h.Name)
	}
	return nil, fmt.Errorf("no health check %q", h.Kind)
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
	delete(k.unanswered, host)
	k.mu.Unlock()
	k.apply()
}

// apply makes the pool and the monitor follow the configured backends and the known addresses of names.
func (k *keeper) apply() {
	k.updating.Lock()
	defer k.updating.Unlock()

	k.mu.Lock()
	_, removed := k.pool.Update(k.specs())
	targets := make([]health.Target, 0, len(k.targets))
	clear(k.targets)
	for _, b := range k.pool.Backends() {
		if t, ok := k.target(b); ok {
			k.targets[t] = b
			targets = append(targets, t)
		}
	}
	k.tellOutage()
	k.mu.Unlock()

	k.journal.flush()
	for _, b := range removed {
		k.lost(b)
	}
	if k.monitor != nil {
		k.monitor.Set(targets)
	}
}

// specs lists the backends in the order of the command line, the addresses of a name in ascending order. It needs mu.
func (k *keeper) specs() []balancer.Spec {
	var backends []config.Backend
	for _, b := range k.service.Backends {
		ips := k.names[b.Addr.Name]
		if len(ips) == 0 {
			backends = append(backends, b)
		}
		for _, ip := range ips {
			b.Addr.Name, b.Addr.IP = "", ip
			backends = append(backends, b)
		}
	}
	backends = k.admitted(backends)
	specs := make([]balancer.Spec, len(backends))
	for i, b := range backends {
		specs[i] = balancer.Spec{Endpoint: endpoint(b.Addr), Weight: b.Weight}
	}
	return specs
}

func endpoint(a config.Addr) balancer.Endpoint {
	switch {
	case a.Path != "":
		return balancer.Endpoint{Path: a.Path}
	case a.Name != "":
		return balancer.Endpoint{Host: a.HostPort()}
	}
	return balancer.Endpoint{Addr: netip.AddrPortFrom(a.IP, a.Port), Ports: uint16(a.Ports)}
}

// admitted asks admit, and tells once of each backend that it refuses. It needs mu.
func (k *keeper) admitted(backends []config.Backend) []config.Backend {
	if k.admit == nil {
		return backends
	}
	kept, refused := k.admit(backends)
	for _, err := range refused {
		if why := err.Error(); !k.leftOut[why] {
			k.leftOut[why] = true
			k.journal.add(func() { k.log.Warn("backend left out", zap.Error(err)) })
		}
	}
	return kept
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
	network := "tcp"
	if kind := k.service.Health.Kind; kind == "udp" || kind == "dns" {
		network = "udp"
	}
	address := net.JoinHostPort(e.Addr.Addr().String(), strconv.Itoa(int(port)))
	return health.Target{Name: b.String(), Network: network, Address: address}, true
}

// report takes the news of a check. The first good result of a backend is what everybody expects and stays quiet.
func (k *keeper) report(t health.Target, up bool, err error) {
	b := k.record(t, up, err)
	k.journal.flush() // the reason first, then the flows that end for it
	if b != nil && !up {
		k.lost(b)
	}
}

// lost is told of a backend that gets no new flows any more, and ends its flows if the service wants that. Of tcp it
// does not: a connection tells by itself whether its backend still lives, a UDP flow may talk into a void for ever.
func (k *keeper) lost(b *balancer.Backend) {
	if k.cut != nil && k.service.IsUDP() && k.service.UDP.OnDown == "reset" {
		k.cut(b)
	}
}

// record takes what report is told into the pool and the journal. It returns the backend, nil if that is gone.
func (k *keeper) record(t health.Target, up bool, err error) *balancer.Backend {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.targets[t]
	if b == nil {
		return nil
	}
	first := b.Status() == balancer.Unknown
	if !up {
		k.pool.SetStatus(b, balancer.Down)
		k.journal.add(func() { k.log.Warn("backend down", zap.Stringer("backend", b), zap.Error(err)) })
	} else {
		k.pool.SetStatus(b, balancer.Up)
		if first {
			k.journal.add(func() { k.log.Debug("backend up", zap.Stringer("backend", b)) })
		} else {
			k.journal.add(func() { k.log.Info("backend up", zap.Stringer("backend", b)) })
		}
	}
	k.tellOutage()
	return b
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
