package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"usher/bench/load"
)

// workload is a row of the results: a load and its units.
type workload struct {
	name  string
	about string
	load  load.Config

	rate      string  // unit of the throughput; empty: not reported
	rateScale float64 // load.Result.Units per rate unit
	cost      string  // unit of the proxy's cost
	costScale float64 // cost units in one second of CPU time, or in one byte of memory
}

// isMemory reports whether the cost is memory per connection or flow, not CPU time.
func (w *workload) isMemory() bool { return w.load.Kind.IsIdle() }

// network is what w is spoken in: "tcp" or "udp".
func (w *workload) network() string { return w.load.Kind.Network() }

// clients says how many there are, in the words of the network.
func (w *workload) clients(n int) string {
	if w.network() == "udp" {
		return count(n, "flow")
	}
	return count(n, "connection")
}

// gigabit is how many bytes make 10^9 bits.
const gigabit = 1e9 / 8

// workloads returns all of them in the order of the report. idle and udpIdle
// are how many connections and flows the workloads of these names hold.
func workloads(idle, udpIdle int) []workload {
	return []workload{
		{
			name:  "crr",
			about: "connect, 64 B there and back, close; 32 at a time",
			load:  load.Config{Kind: load.CRR, Conns: 32, Size: 64},
			rate:  "conn/s", rateScale: 1, cost: "µs/conn", costScale: 1e6,
		},
		{
			name:  "pingpong",
			about: "64 B there and back on 100 connections",
			load:  load.Config{Kind: load.PingPong, Conns: 100, Size: 64},
			rate:  "trips/s", rateScale: 1, cost: "µs/trip", costScale: 1e6,
		},
		{
			name:  "pingpong-1k",
			about: "1 KiB there and back on 1000 connections",
			load:  load.Config{Kind: load.PingPong, Conns: 1000, Size: 1 << 10},
			rate:  "trips/s", rateScale: 1, cost: "µs/trip", costScale: 1e6,
		},
		{
			name:  "bulk-up",
			about: "4 clients send as fast as they can",
			load:  load.Config{Kind: load.BulkUp, Conns: 4, Size: bulkWrite},
			rate:  "Gbit/s", rateScale: gigabit, cost: "ms/Gbit", costScale: 1e3,
		},
		{
			name:  "bulk-down",
			about: "4 backends send as fast as they can",
			load:  load.Config{Kind: load.BulkDown, Conns: 4, Size: bulkWrite},
			rate:  "Gbit/s", rateScale: gigabit, cost: "ms/Gbit", costScale: 1e3,
		},
		{
			name:  "idle",
			about: fmt.Sprintf("%d connections held, each after one byte there and back", idle),
			load:  load.Config{Kind: load.Idle, Conns: idle, Size: 1},
			cost:  "KiB/conn", costScale: 1.0 / 1024,
		},
		{
			name:  "udp-128",
			about: "128 B there and back on 50 sockets, 8 in flight on each",
			load:  load.Config{Kind: load.UDP, Conns: 50, Window: 8, Size: 128},
			rate:  "trips/s", rateScale: 1, cost: "µs/trip", costScale: 1e6,
		},
		{
			name:  "udp-1200",
			about: "1200 B there and back on 4 sockets, 32 in flight on each",
			load:  load.Config{Kind: load.UDP, Conns: 4, Window: 32, Size: 1200},
			rate:  "trips/s", rateScale: 1, cost: "µs/trip", costScale: 1e6,
		},
		{
			name:  "udp-idle",
			about: fmt.Sprintf("%d flows held, each after one datagram there and back", udpIdle),
			load:  load.Config{Kind: load.UDPIdle, Conns: udpIdle, Size: 64},
			cost:  "KiB/flow", costScale: 1.0 / 1024,
		},
	}
}

const bulkWrite = 256 << 10

// choose returns the workloads that list names, separated by commas, in the
// order of all; an empty list names all.
func choose(all []workload, list string) ([]workload, error) {
	if list == "" {
		return all, nil
	}
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(list, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	var chosen []workload
	var names []string
	for _, w := range all {
		names = append(names, w.name)
		if wanted[w.name] {
			chosen = append(chosen, w)
			delete(wanted, w.name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("unknown workload %q, there are %s", name, strings.Join(names, ", "))
	}
	return chosen, nil
}

// addresses of the loopback network, one set for all proxies. More than one
// on each side, because the ports of one address run out: see load.Config.
var (
	sources  = consecutive(netip.AddrFrom4([4]byte{127, 0, 0, 2}), 8)
	backends = consecutive(netip.AddrFrom4([4]byte{127, 0, 1, 1}), 8)
)

func consecutive(first netip.Addr, n int) []netip.Addr {
	list := make([]netip.Addr, n)
	for i := range list {
		list[i] = first
		first = first.Next()
	}
	return list
}

// config is the load of w for one run.
func (w *workload) config(warmup, duration time.Duration) load.Config {
	c := w.load
	c.Warmup, c.Duration = warmup, duration
	c.Sources, c.Backends = sources, backends
	return c
}
