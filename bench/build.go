package main

import (
	"runtime"

	"usher/balancer"
)

// tableForms are the schedulers that build a table, and one without a table. That one
// shows the pool's own part of the figures.
var tableForms = []form{{scheduler: "rr"}, {scheduler: "mh"}, {scheduler: "ring"}, {scheduler: "ring", weight: 100}, {scheduler: "hrw"}}

// noTable is the name of the form that builds none.
const noTable = "rr"

// buildSubject changes the weight of a backend in the middle and is done when choices
// follow the change. With one that builds a table, the whole of it is built anew.
func buildSubject(f form, n int) (subject, error) {
	specs := specsOf(n, f.each())
	p, err := f.pool(specs)
	if err != nil {
		return subject{}, err
	}
	toggle := weightToggle(p, specs)
	return subject{f.name(), n, func(times int) {
		for range times {
			toggle()
		}
	}}, nil
}

// weightToggle returns a function that doubles the weight of a backend in the middle,
// and halves it the next time.
func weightToggle(p *balancer.Pool, specs []balancer.Spec) func() {
	changed := &specs[len(specs)/2]
	light := changed.Weight
	return func() {
		if changed.Weight == light {
			changed.Weight = 2 * light
		} else {
			changed.Weight = light
		}
		p.Update(specs, 0)
	}
}

// measuredPools is how many pools share the error in the heap's size.
const measuredPools = 4

// tableBytes is how much larger a pool of the form is on the heap than a pool without
// a table. Nothing else in the process may allocate or release memory meanwhile.
func tableBytes(f form, n int) (float64, error) {
	with, err := poolBytes(f, n)
	if err != nil {
		return 0, err
	}
	without, err := poolBytes(form{scheduler: noTable, weight: f.weight}, n)
	return with - without, err
}

func poolBytes(f form, n int) (float64, error) {
	specs := specsOf(n, f.each())
	var pools [measuredPools]*balancer.Pool
	before := heap()
	for i := range pools {
		p, err := f.pool(specs)
		if err != nil {
			return 0, err
		}
		pools[i] = p
	}
	after := heap()
	runtime.KeepAlive(pools)
	runtime.KeepAlive(specs)
	return (after - before) / measuredPools, nil
}

// heap returns the bytes in use. It collects twice: the second collection takes what
// finalizers of the first one released.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
