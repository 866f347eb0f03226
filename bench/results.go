package main

// measurement is one run: one proxy, one workload, one round. Units are
// those of the workload.
type measurement struct {
	rate      float64 // units of work a second
	cost      float64 // what the proxy spent on one unit
	user, sys float64 // the parts of cost, sampled by the kernel's clock tick
	p50, p99  float64 // microseconds
	proxyBusy float64 // percent of the proxy's CPU that the proxy used
	loadBusy  float64 // percent of the other CPU that the load used
	errors    int64   // connections that failed
	lost      float64 // percent of the UDP requests
}

// turn is what was measured in one turn of a contender.
type turn struct {
	measurement
	flooded float64 // denied connects a second
}

// results holds the measurements of all runs.
type results struct {
	proxies   []string // in the order of the report
	workloads []workload
	rounds    int
	runs      map[runKey]measurement // a run that failed is missing
	failures  []string
}

type runKey struct {
	workload, proxy string
	round           int
}

// peers are what usher is compared with.
var peers = []string{"haproxy", "haproxy-splice", "nginx"}

// values returns one figure of all rounds that succeeded.
func (r *results) values(workload, proxy string, figure func(measurement) float64) []float64 {
	var list []float64
	for round := range r.rounds {
		if m, ok := r.runs[runKey{workload, proxy, round}]; ok {
			list = append(list, figure(m))
		}
	}
	return list
}

// ratios returns, for each round, the cost of proxy over that of the best peer in the
// same round. A disturbance of the machine in that round is in both.
func (r *results) ratios(workload, proxy string) []float64 {
	var list []float64
	for round := range r.rounds {
		own, ok := r.runs[runKey{workload, proxy, round}]
		if !ok {
			continue
		}
		best := 0.0
		for _, peer := range peers {
			m, ok := r.runs[runKey{workload, peer, round}]
			if ok && m.cost > 0 && (best == 0 || m.cost < best) {
				best = m.cost
			}
		}
		if best > 0 {
			list = append(list, own.cost/best)
		}
	}
	return list
}

// bestPeer returns the costs of the peer with the lowest median, in all rounds.
func (r *results) bestPeer(workload string) (best []float64) {
	for _, peer := range peers {
		costs := r.values(workload, peer, costOf)
		if len(costs) > 0 && (best == nil || spreadOf(costs).median < spreadOf(best).median) {
			best = costs
		}
	}
	return best
}

// errors is how many connections failed in all rounds.
func (r *results) errors(workload, proxy string) int64 {
	var n int64
	for round := range r.rounds {
		n += r.runs[runKey{workload, proxy, round}].errors
	}
	return n
}

// saturated is the percent of its CPU from which a side counts as at its limit.
const saturated = 90

// unsaturated returns in how many runs no process reached the limit, because another
// one used the CPUs. all is the number of runs for which that is known.
func (r *results) unsaturated() (n, all int) {
	for key, m := range r.runs {
		if w := r.workload(key.workload); w == nil || w.isMemory() {
			continue
		}
		all++
		if max(m.proxyBusy, m.loadBusy) < saturated {
			n++
		}
	}
	return n, all
}

// workload returns the workload of a name, or nil.
func (r *results) workload(name string) *workload {
	for i := range r.workloads {
		if r.workloads[i].name == name {
			return &r.workloads[i]
		}
	}
	return nil
}
