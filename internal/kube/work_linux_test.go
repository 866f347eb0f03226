package kube

import (
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/config"
	"usher/internal/kube/planner"
)

// TestAChangeCostsItsServiceAlone counts what is planned, what package control gets that is new, and what is allocated. Ten
// times the Services are no more of it for a change, and ten times as much for the first plan: nothing is quadratic. It is
// not parallel, since it counts what the process allocates.
func TestAChangeCostsItsServiceAlone(t *testing.T) {
	const few, many = 500, 5000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Max < 2*many {
		t.Skipf("%d descriptors are too few for %d listeners", limit.Max, many)
	}
	a, changesOfFew := countWork(t, few)
	b, changes := countWork(t, many)
	if a.planned != few || b.planned != many {
		t.Errorf("%d and %d plans at first", a.planned, b.planned)
	}
	// Maps and lists grow by doubling, so there are a few more or less than ten times.
	if float64(b.allocs) > 13*float64(a.allocs) {
		t.Errorf("first plan: %d allocations for %d services, %d for %d", a.allocs, few, b.allocs, many)
	}
	for i, change := range changes {
		if is := (work{name: change.name, planned: change.planned, fresh: change.fresh}); is != workOf[i] {
			t.Errorf("among %d services: %+v, want %+v", many, is, workOf[i])
		}
		if before := changesOfFew[i].allocs; change.allocs > before+before/2+100 {
			t.Errorf("%s: %d allocations among %d services, %d among %d", change.name, before, few, change.allocs, many)
		}
	}
}

// work is what something has cost.
type work struct {
	name    string
	planned int // Services
	fresh   int // services of usher that are others than before
	allocs  uint64
}

// workOf is what a change of one Service costs, in the order in which countWork makes them.
var workOf = []work{
	{name: "one slice changed", planned: 1, fresh: 1},
	{name: "one slice the same", planned: 1, fresh: 0},
	{name: "one Service more", planned: 1, fresh: 1},
	{name: "one Service removed", planned: 0, fresh: 0},
}

// countWork counts what the first plan of n Services costs, and then single changes.
func countWork(t *testing.T, n int) (first work, changes []work) {
	w := newWorld(t)
	core, logs := observer.New(zapcore.DebugLevel)
	w.log = zap.New(core)
	count := func(do func()) work {
		before := slices.Clone(w.book.list)
		logs.TakeAll()
		allocs := allocations(do)
		known := make(map[*config.Service]bool, len(before))
		for _, s := range before {
			known[s] = true
		}
		is := work{allocs: allocs, planned: logs.FilterMessage("service planned").Len()}
		for _, s := range w.book.services() {
			if !known[s] {
				is.fresh++
			}
		}
		return is
	}
	port := freePort(t)
	w.fill(n, port)
	first = count(func() { w.start(t) })
	for i, change := range []func(){
		func() { w.store.SetSlice(slice("s7", corev1.ProtocolTCP, endpointsOf(7, 9)...)) },
		func() { w.store.SetSlice(slice("s7", corev1.ProtocolTCP, endpointsOf(7, 9)...)) },
		func() {
			w.store.SetService(service("more", "10.250.0.1", port, corev1.ProtocolTCP))
			w.store.SetSlice(slice("more", corev1.ProtocolTCP, netip.MustParseAddrPort("10.0.0.1:8080")))
		},
		func() { w.store.DeleteService(planner.Key{Namespace: "default", Name: "s250"}) },
	} {
		one := count(func() {
			change()
			w.sync(t)
		})
		one.name = workOf[i].name
		changes = append(changes, one)
	}
	return first, changes
}

// allocations returns how many objects the process allocates meanwhile.
func allocations(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}
