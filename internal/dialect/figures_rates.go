package dialect

import (
	"math"
	"time"

	"usher/balancer"
	"usher/internal/control"
	"usher/internal/ipvsadm"
	"usher/proxy"
)

// estimateEvery is how often the kernel's estimator runs: avg += (rate - avg) / 4 each time.
const estimateEvery = 2 * time.Second

// rates are the smoothed rates of services and backends. They cost nothing while nobody asks: what was counted since the
// last question is taken as even over the turns of the estimator that have passed. Asked every two seconds they are the
// kernel's. The first question has no answer yet.
type rates struct {
	at       time.Duration // of the last turn
	isBegun  bool
	services map[*proxy.Service]estimate
	backends map[*balancer.Backend]estimate
}

// estimate is the average of one set of counters.
type estimate struct {
	last    ipvsadm.Stats // at the last turn
	average averages
}

// averages are by second: connections, packets and bytes, in the order of ipvsadm.Rates.
type averages [5]float64

// update makes the turns that are due, and returns what there is now, to be read alone. What is gone is forgotten. Between
// turns it costs nothing.
func (r *rates) update(live []control.Live, now time.Duration) (map[*proxy.Service]estimate, map[*balancer.Backend]estimate) {
	t := turns{isFirst: !r.isBegun, elapsed: now - r.at}
	if r.isBegun {
		t.n = int(t.elapsed / estimateEvery)
	}
	if t.n == 0 && !t.isFirst {
		return r.services, r.backends
	}
	services := make(map[*proxy.Service]estimate, len(live))
	backends := make(map[*balancer.Backend]estimate, len(r.backends))
	for i := range live {
		s := live[i].Running
		services[s] = advance(r.services, s, serviceStats(s), t)
		for j := range live[i].Backends {
			b := live[i].Backends[j].Backend
			backends[b] = advance(r.backends, b, backendStats(b), t)
		}
	}
	r.services, r.backends, r.at, r.isBegun = services, backends, now, true
	return services, backends
}

// turns are those of the estimator that are due.
type turns struct {
	isFirst bool          // nothing was asked before
	n       int           // one at least, unless isFirst
	elapsed time.Duration // since the last one
}

// advance returns the estimate of something whose counters are now at total. One that was not there at the last question
// has counted from nothing.
func advance[K comparable](all map[K]estimate, of K, total ipvsadm.Stats, t turns) estimate {
	if t.isFirst {
		return estimate{last: total}
	}
	e := all[of]
	keeps := math.Pow(0.75, float64(t.n))
	for i, n := range counters(since(total, e.last)) {
		rate := float64(n) / t.elapsed.Seconds()
		e.average[i] = rate + (e.average[i]-rate)*keeps
	}
	e.last = total
	return e
}

// counters are those of stats, in the order of averages.
func counters(s ipvsadm.Stats) [5]uint64 {
	return [5]uint64{s.Conns, s.InPkts, s.OutPkts, s.InBytes, s.OutBytes}
}

// rates rounds as the kernel does.
func (a averages) rates() ipvsadm.Rates {
	round := func(x float64) uint64 { return uint64(math.Round(x)) }
	return ipvsadm.Rates{CPS: round(a[0]), InPPS: round(a[1]), OutPPS: round(a[2]), InBPS: round(a[3]), OutBPS: round(a[4])}
}
