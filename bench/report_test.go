package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample has two rounds of two workloads. In the second round nginx failed
// and usher was the better one.
func sample() *results {
	all := workloads(100, 200)
	r := &results{
		proxies:   []string{"usher", "haproxy", "nginx"},
		workloads: []workload{all[0], all[3], all[5], all[6]},
		rounds:    2,
		failures:  []string{"round 2, crr, nginx: the proxy has gone"},
	}
	r.runs = map[runKey]measurement{
		{"crr", "usher", 0}:     {rate: 9000, cost: 90, user: 30, sys: 60, p50: 800, p99: 1500, proxyBusy: 81, loadBusy: 99},
		{"crr", "haproxy", 0}:   {rate: 8000, cost: 110, user: 10, sys: 100, p50: 900, p99: 1700, proxyBusy: 88, loadBusy: 98, errors: 2},
		{"crr", "nginx", 0}:     {rate: 8000, cost: 100, user: 20, sys: 80, p50: 900, p99: 1600, proxyBusy: 80, loadBusy: 99},
		{"crr", "usher", 1}:     {rate: 9200, cost: 88, user: 30, sys: 58, p50: 810, p99: 1510, proxyBusy: 81, loadBusy: 99},
		{"crr", "haproxy", 1}:   {rate: 8200, cost: 110, user: 10, sys: 100, p50: 910, p99: 1710, proxyBusy: 44, loadBusy: 50, errors: 1},
		{"bulk-up", "usher", 0}: {rate: 20, cost: 45, sys: 45, proxyBusy: 95, loadBusy: 80},
		{"idle", "usher", 0}:    {cost: 0.2},
		{"idle", "haproxy", 0}:  {cost: 3.8},
		{"udp-128", "usher", 0}: {rate: 120000, cost: 6, user: 2, sys: 4, p50: 3000, p99: 4000, proxyBusy: 72, loadBusy: 99},
		{"udp-128", "usher", 1}: {rate: 120000, cost: 7, user: 2, sys: 5, p50: 3000, p99: 4000, proxyBusy: 84, loadBusy: 99, lost: 0.00003},
		{"udp-128", "nginx", 0}: {rate: 80000, cost: 12, user: 3, sys: 9, p50: 5000, p99: 6000, proxyBusy: 96, loadBusy: 80, lost: 0.0125},
	}
	return r
}

func TestRatios(t *testing.T) {
	t.Parallel()
	r := sample()
	for _, tt := range []struct {
		workload, proxy string
		want            []float64
	}{
		{"crr", "usher", []float64{0.9, 0.8}}, // of nginx, then of haproxy
		{"crr", "nginx", []float64{1}},
		{"bulk-up", "usher", nil}, // no peer
		{"idle", "nginx", nil},    // no run
	} {
		if got := r.ratios(tt.workload, tt.proxy); !slices.Equal(got, tt.want) {
			t.Errorf("%s, %s: %v, want %v", tt.workload, tt.proxy, got, tt.want)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/report.md")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	err = writeReport(&b, setup{
		machine: "a CPU, 2 CPUs", kernel: "Linux 6.1", compiler: "go1.26 amd64", date: "2026-01-02",
		proxies: []string{"usher: 1", "haproxy: 2.6"}, skipped: []string{"nginx: not found"},
		notes: []string{"idle with usher: 90 connections"}, files: 20000,
		user: "nobody", command: "go run ./bench", rounds: 2, duration: 3 * time.Second,
	}, sample())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), b.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}
