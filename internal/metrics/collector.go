package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"usher/balancer"
	"usher/proxy"
	"usher/proxy/flow"
)

// What the server as a whole shows.
var (
	openFlows  = gauge("usher_flows", "Flows in the connection tables: TCP connections and UDP sessions.")
	flowsLimit = gauge("usher_flows_limit", "Flows that there may be at any one time.")

	heldClients      = gauge("usher_dropped_clients", "TCP clients that a rule has dropped and that are held without an answer.")
	heldClientsLimit = gauge("usher_dropped_clients_limit", "Dropped clients that are held at any one time. More are closed at once.")

	reloadSuccessful = gauge("usher_config_last_reload_successful", "1 if the config file was taken when it was last read, else 0.")
	reloadSuccess    = gauge("usher_config_last_reload_success_timestamp_seconds", "When the config file was last taken, at the start or later.")
	upgrades         = counter("usher_upgrades_total", "Upgrades of the process that have succeeded.")
	logDropped       = counter("usher_log_lines_dropped_total", "Log lines that were not written, since their reader was too slow.")

	workerBusy        = counter("usher_worker_busy_seconds_total", "Time that an event loop did not wait for events.", "worker")
	workerLongestTurn = gauge("usher_worker_longest_turn_seconds", "Longest turn of an event loop in the last one to two minutes.", "worker")
	workerFlows       = gauge("usher_worker_flows", "Flows in the connection tables of an event loop.", "worker", "transport")
)

// What a service shows.
var (
	serviceFlows     = counter("usher_service_flows_total", "Flows accepted.", "service")
	serviceActive    = gauge("usher_service_active_flows", "Flows at present.", "service")
	serviceQueued    = gauge("usher_service_queued_flows", "Clients in the queue, since every backend is full.", "service")
	serviceFailed    = counter("usher_service_failed_flows_total", "Flows that ended without having been served.", "service")
	serviceEnded     = counter("usher_service_ended_flows_total", "Flows that have ended, by the word of the access log.", "service", "outcome")
	serviceBytes     = counter("usher_service_bytes_total", "Bytes passed on: up from clients, down to them.", "service", "direction")
	serviceConnect   = histogram("usher_service_connect_seconds", "Time from a client's connection to that of its backend.", &balancer.ConnectBounds, "service")
	serviceLifetime  = histogram("usher_service_flow_duration_seconds", "How long flows lasted that have ended.", &flow.LifetimeBounds, "service")
	serviceDropped   = counter("usher_service_dropped_datagrams_total", "Datagrams that were not passed on, by reason.", "service", "reason")
	serviceShortages = counter("usher_service_resource_shortages_total", "Pauses of a listener and refused sockets for lack of descriptors, memory or ports.", "service")
	serviceBackends  = gauge("usher_service_backends", "Backends of the service, by status.", "service", "status")
)

// What a backend shows.
var (
	backendUp       = gauge("usher_backend_up", "1 if the backend is up, else 0.", "service", "backend")
	backendStatus   = gauge("usher_backend_status", "1 for the status that the backend has.", "service", "backend", "status")
	backendWeight   = gauge("usher_backend_weight", "Share of new flows in relation to other backends.", "service", "backend")
	backendActive   = gauge("usher_backend_active_flows", "Flows at present.", "service", "backend")
	backendFlows    = counter("usher_backend_flows_total", "Flows sent there, attempts to connect that failed included.", "service", "backend")
	backendFailures = counter("usher_backend_failures_total", "Attempts and flows that failed, by reason.", "service", "backend", "reason")
	backendBytes    = counter("usher_backend_bytes_total", "Bytes passed on: up from clients, down to them.", "service", "backend", "direction")
	backendConnect  = histogram("usher_backend_connect_seconds", "Time that the backend took to accept a connection.", &balancer.ConnectBounds, "service", "backend")
)

// families are all of the above.
var families = []*family{
	openFlows, flowsLimit, reloadSuccessful, reloadSuccess, upgrades, logDropped, workerBusy, workerLongestTurn, workerFlows,
	serviceFlows, serviceActive, serviceQueued, serviceFailed, serviceEnded, serviceBytes, serviceConnect, serviceLifetime,
	serviceDropped, serviceShortages, serviceBackends,
	rulesNumber, ruleFlows, ruleDatagrams, ruleBytes, policyFlows, policyDatagrams, policyBytes, heldClients, heldClientsLimit,
	backendUp, backendStatus, backendWeight, backendActive, backendFlows, backendFailures, backendBytes, backendConnect,
}

// statuses are the words of a backend's status.
var statuses = []balancer.Status{balancer.Up, balancer.Unknown, balancer.Down, balancer.Draining, balancer.InMaint}

// collector makes metrics of what the source and the process have at that moment.
type collector struct {
	source      Source
	process     func() Process
	maxBackends int // with more, there are no series of single backends; 0: no bound
}

// Describe sends the description of each family.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range families {
		to <- f.desc
	}
}

// Collect sends all series.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	to := series(metrics)
	c.source.CountBytes()
	to.count(openFlows, uint64(c.source.Open()))
	to.count(flowsLimit, uint64(c.source.MaxConns()))
	to.count(heldClients, uint64(c.source.Dropped()))
	to.count(heldClientsLimit, uint64(c.source.MaxDropped()))
	collectRules(to, c.source.Rules())
	collectProcess(to, c.process())
	for i, w := range c.source.Workers() {
		collectWorker(to, strconv.Itoa(i), w)
	}
	services := c.source.Services()
	hasBackends := c.maxBackends == 0 || countBackends(services) <= c.maxBackends
	for _, svc := range services {
		collectService(to, svc, hasBackends)
	}
}

func countBackends(services []*proxy.Service) (n int) {
	for _, svc := range services {
		if pool := svc.Config().Pool; pool != nil {
			n += len(pool.Backends())
		}
	}
	return n
}

func collectProcess(to series, p Process) {
	to.count(upgrades, uint64(max(p.Upgrades, 0)))
	to.count(logDropped, p.LostLines)
	if p.Taken.IsZero() {
		return
	}
	successful := uint64(1)
	if p.IsRefused {
		successful = 0
	}
	to.count(reloadSuccessful, successful)
	to.send(reloadSuccess, float64(p.Taken.UnixMilli())/1000)
}

func collectWorker(to series, number string, w proxy.WorkerStats) {
	to.seconds(workerBusy, w.Busy, number)
	to.seconds(workerLongestTurn, w.LongestTurn, number)
	to.count(workerFlows, uint64(w.Connections), number, "stream")
	to.count(workerFlows, uint64(w.Sessions), number, "datagram")
}

func collectService(to series, svc *proxy.Service, hasBackends bool) {
	name := svc.Name
	up, down := svc.Bytes()
	to.count(serviceFlows, svc.Accepted(), name)
	to.count(serviceActive, uint64(svc.Active()), name)
	to.count(serviceFailed, svc.Failed(), name)
	to.count(serviceBytes, up, name, "up")
	to.count(serviceBytes, down, name, "down")
	to.count(serviceShortages, svc.Starved(), name)
	to.histogram(serviceLifetime, svc.Lifetimes(), name)
	for o := range flow.Outcomes() {
		if n := svc.Ended(o); n > 0 {
			to.count(serviceEnded, n, name, o.String())
		}
	}
	if svc.IsUDP() {
		for d := range flow.Drops() {
			to.count(serviceDropped, svc.Dropped(d), name, d.String())
		}
	} else {
		to.count(serviceQueued, uint64(svc.Queued()), name)
		to.histogram(serviceConnect, svc.Connects(), name)
	}
	pool := svc.Config().Pool
	if pool == nil {
		return
	}
	have := make(map[balancer.Status]uint64)
	for _, b := range pool.Backends() {
		have[b.Status()]++
		if hasBackends {
			collectBackend(to, name, b)
		}
	}
	for _, s := range statuses {
		to.count(serviceBackends, have[s], name, s.String())
	}
}

func collectBackend(to series, service string, b *balancer.Backend) {
	name, status := b.String(), b.Status()
	isUp := uint64(0)
	if status == balancer.Up {
		isUp = 1
	}
	to.count(backendUp, isUp, service, name)
	to.count(backendStatus, 1, service, name, status.String())
	to.count(backendWeight, uint64(b.Weight()), service, name)
	to.count(backendActive, uint64(max(b.Active(), 0)), service, name)
	to.count(backendFlows, b.Total(), service, name)
	if b.Failures() > 0 { // most have none
		for why := range balancer.FailureReasons {
			to.count(backendFailures, b.FailuresBy(why), service, name, why.String())
		}
	}
	up, down := b.Bytes()
	to.count(backendBytes, up, service, name, "up")
	to.count(backendBytes, down, service, name, "down")
	if b.ConnectTime() > 0 {
		to.histogram(backendConnect, b.Connects(), service, name)
	}
}
