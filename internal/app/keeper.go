package app

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/proxy"
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
	// cuts ends the flows of backends, forget has clients forget one that was removed; nil in tests. All three are set
	// before the first apply.
	cuts   *cuts
	forget func(*balancer.Backend)
	tender *tender // nil: there is nothing to tend
	agents *agents // nil: there are none

	// updating makes apply run one at a time. A report never takes it, because apply waits for reports under way.
	updating sync.Mutex

	mu         sync.Mutex
	names      map[string][]netip.Addr // of backends that are host names; empty: does not resolve
	unanswered map[string]bool         // names whose first look-up has not ended
	targets    map[health.Target]*balancer.Backend
	words      map[balancer.Endpoint]config.Backend // what each backend comes from
	found      map[*balancer.Backend]balancer.Status
	said       map[health.Target]health.Advice     // by agents, when specs looked
	obeyed     map[*balancer.Backend]health.Advice // what the agent said, as far as the pool follows it
	told       outage                              // as last logged
	leftOut    map[string]bool                     // what admit refused, and was logged
}

// newKeeper returns a keeper whose checks share slots with those of others. Programs have a bound of their own, as each
// costs a process. No slots are as many as a monitor has by itself.
func newKeeper(s config.Service, log *zap.Logger, j *journal, slots *health.Slots) (*keeper, error) {
	pool, err := balancer.NewPool(s.PoolOptions(rand.Uint64))
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
		words:      make(map[balancer.Endpoint]config.Backend),
		found:      make(map[*balancer.Backend]balancer.Status),
		obeyed:     make(map[*balancer.Backend]health.Advice),
		leftOut:    make(map[string]bool),
	}
	for _, host := range k.hosts() {
		k.unanswered[host] = true
	}
	if !s.Health.Off() {
		checker, err := s.Health.Checker()
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		among := slots
		if s.Health.Kind == "exec" {
			among = nil
		}
		k.monitor = health.NewMonitor(checker, health.Policy{
			Interval: s.Health.Interval, DownInterval: s.Health.DownInterval, ChangeInterval: s.Health.ChangeInterval,
			Timeout: s.Health.Timeout, Rise: s.Health.Rise, Fall: s.Health.Fall, Slots: among,
			Inconclusive: k.unchecked,
		}, k.report)
	}
	if k.tender, err = newTender(&s, pool, k.ejected, k.log); err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Name, err)
	}
	k.agents = newAgents(&s, k.apply, k.log, j, slots)
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
	var asked []health.Target
	for _, b := range k.pool.Backends() {
		if t, ok := k.target(b); ok {
			k.targets[t] = b
			targets = append(targets, t)
		}
		if t, ok := k.agentTarget(b.Endpoint()); ok {
			asked = append(asked, t)
		}
	}
	for _, b := range removed {
		delete(k.found, b)
		delete(k.obeyed, b)
	}
	then := k.obey()
	k.tellOutage()
	k.mu.Unlock()

	k.journal.flush()
	k.tender.tell()
	for _, b := range removed {
		if k.forget != nil {
			k.forget(b)
		}
		k.withdraw(b, true, k.service.OnRemove, removal)
	}
	for _, do := range then {
		do()
	}
	if k.monitor != nil {
		k.monitor.Set(targets)
	}
	k.agents.follow(asked)
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
	clear(k.words)
	k.said = k.agents.all()
	for i, b := range backends {
		e := endpoint(b.Addr)
		if _, ok := k.words[e]; !ok { // of equal ones the first counts, as for the pool
			k.words[e] = b
		}
		specs[i] = advised(balancer.Spec{Endpoint: e, Weight: b.Weight, Backup: b.Backup, Limits: b.Limits}, k.advice(e))
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
	e := balancer.Endpoint{Addr: netip.AddrPortFrom(a.IP, a.Port)}
	if a.Ports > 1 {
		e.Ports = uint16(a.Ports)
	}
	return e
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

// target says where a backend is checked: where its options or those of the check say, else at the first port of its
// range, or, when it has no port of its own, at the first one that clients may ask for. There is nothing to check at a
// name that does not resolve.
func (k *keeper) target(b *balancer.Backend) (health.Target, bool) {
	e, elsewhere := b.Endpoint(), k.words[b.Endpoint()].Check
	network := "tcp"
	if kind := k.service.Health.Kind; kind == "udp" || kind == "dns" || kind == "exec" && k.service.IsUDP() {
		network = "udp"
	}
	switch {
	case elsewhere.IP.IsValid():
		return health.Target{Name: b.String(), Network: network, Address: elsewhere.HostPort()}, true
	case e.Path != "":
		return health.Target{Name: b.String(), Network: "unix", Address: e.Path}, true
	case !e.Addr.IsValid():
		return health.Target{}, false
	}
	port := e.Addr.Port()
	if port == 0 {
		port = k.service.Listeners[0].Port
	}
	switch {
	case elsewhere.Port > 0:
		port = elsewhere.Port
	case k.service.Health.Port > 0:
		port = uint16(k.service.Health.Port)
	}
	address := net.JoinHostPort(e.Addr.Addr().String(), strconv.Itoa(int(port)))
	return health.Target{Name: b.String(), Network: network, Address: address}, true
}

// agentTarget says where the agent of a backend is, if it has one. Nobody is asked about a name that does not resolve.
func (k *keeper) agentTarget(e balancer.Endpoint) (health.Target, bool) {
	own := k.words[e].Agent
	ip, port := own.IP, own.Port
	if port == 0 {
		port = uint16(k.service.Agent.Port)
	}
	if !ip.IsValid() {
		ip = e.Addr.Addr()
	}
	if port == 0 || !ip.IsValid() || !e.Resolved() {
		return health.Target{}, false
	}
	return health.Target{Name: e.String(), Network: "tcp", Address: netip.AddrPortFrom(ip, port).String()}, true
}

// report takes the news of a check. The first good result of a backend is what everybody expects and stays quiet.
func (k *keeper) report(t health.Target, up bool, err error) {
	b := k.record(t, up, err)
	k.journal.flush() // the reason first, then the flows that end for it
	k.tender.tell()
	if b != nil {
		k.withdraw(b, !up, k.service.OnDown, checkDown)
	}
}

// withdraw is told when a backend gets no new flows any more, and when the cause of that has gone, and does with its flows
// what the service wants. Those of tcp are kept unless that says otherwise: a connection tells by itself whether its
// backend still lives, a UDP flow may talk into a void for ever.
func (k *keeper) withdraw(b *balancer.Backend, is bool, policy config.Cut, why cause) {
	switch {
	case k.cuts == nil:
	case is:
		k.cuts.plan(b, policy, why)
	default:
		k.cuts.spare(b, why)
	}
}

// unchecked takes the news of a check that could not be made, for want of descriptors or of the program: what is known of
// the backend stays as it is.
func (k *keeper) unchecked(t health.Target, err error) {
	k.journal.add(func() { k.log.Warn("backends cannot be checked", zap.String("backend", t.Name), zap.Error(err)) })
	k.journal.flush()
}

// witness is who the data path tells how flows went, nil if nobody wants to know.
func (k *keeper) witness() proxy.Witness {
	if k.tender == nil || k.tender.ejector == nil {
		return nil
	}
	return k.tender
}

// ejected is called when flows have taken backends out of the pool, or time has brought some back.
func (k *keeper) ejected() {
	k.mu.Lock()
	k.tellOutage()
	k.mu.Unlock()
	k.journal.flush()
}

// record takes what report is told into the pool and the journal. It returns the backend, nil if that is gone.
func (k *keeper) record(t health.Target, up bool, err error) *balancer.Backend {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.targets[t]
	if b == nil {
		return nil
	}
	first := k.found[b] == balancer.Unknown
	if !up {
		k.found[b] = balancer.Down
		k.journal.add(func() { k.log.Warn("backend down", zap.Stringer("backend", b), zap.Error(err)) })
	} else {
		k.found[b] = balancer.Up
		if first {
			k.journal.add(func() { k.log.Debug("backend up", zap.Stringer("backend", b)) })
		} else {
			k.journal.add(func() { k.log.Info("backend up", zap.Stringer("backend", b)) })
		}
	}
	k.settle(b)
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

// close ends the checks and what they have set off.
func (k *keeper) close() {
	if k.monitor != nil {
		k.monitor.Close()
	}
	k.agents.close()
	k.tender.close()
	if k.cuts != nil {
		k.cuts.close()
	}
}
