package balancer

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestEveryBackendFieldIsSaved fails if a field of Backend is neither saved nor derived.
func TestEveryBackendFieldIsSaved(t *testing.T) {
	t.Parallel()
	known := []string{
		"id", "endpoint", "gone", "given", "turned", "ramp", "flows", "total", "failures", "traffic", "accepting", "answering",
		"failing", "refused", // saved
		"pool", "name", "weight", "status", "backup", "ejected", "down", "member", "limits", "source", "isSet", "share", "slot", "node", // derived
	}
	kind := reflect.TypeFor[Backend]()
	for i := range kind.NumField() {
		if name := kind.Field(i).Name; name != "_" && !slices.Contains(known, name) {
			t.Errorf("Backend.%s is neither saved nor derived", name)
		}
	}
}

// TestPoolsAreRestored: a pool with each scheduler knows what the one before knew, and the same
// specs change nothing.
func TestPoolsAreRestored(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	for _, a := range Schedulers() {
		o := Options{Scheduler: a, Random: rand.Uint64}
		if alg, _ := Lookup(a); alg.Weighs {
			o.SlowStart = 10 * time.Second
		}
		s := specs(8)
		s[2].Source = netip.MustParseAddr("10.0.0.9")
		p := poolOf(t, o, s)
		p.Update(s, 3*time.Second)
		var held []*Backend
		for i := range 30 {
			if b := acquire(p, visit(i), nil); b != nil {
				b.CountBytes(uint64(i), 2)
				b.CountPackets(uint64(i), 3)
				b.CountConnect(time.Duration(i) * time.Millisecond)
				if i%7 == 0 {
					b.CountFailure(FailedReset)
				}
				held = append(held, b)
			}
		}
		p.Update(s[1:], 4*time.Second)
		st, backends := p.State(held)
		active := make([]int64, len(backends))
		for _, b := range held {
			active[slices.Index(backends, b)]++
		}
		next, err := NewPool(o)
		if err != nil {
			t.Fatal(err)
		}
		restored, err := next.Restore(&st, active, time.Hour)
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		next.Update(s[1:], time.Second) // on another clock
		again, _ := next.State(restored)
		if !reflect.DeepEqual(st, again) {
			t.Errorf("%s: %+v, want %+v", a, again, st)
		}
		for _, b := range held {
			next.Release(restored[slices.Index(backends, b)])
		}
		for i, b := range restored {
			if b.Active() != 0 || b.Total() != backends[i].Total() {
				t.Errorf("%s: %v has %d flows of %d", a, b, b.Active(), b.Total())
			}
		}
		if _, err := next.Restore(&st, active, time.Hour); err == nil {
			t.Errorf("%s: a pool in use was restored", a)
		}
	}
}

func TestDamagedPoolsAreRefused(t *testing.T) {
	t.Parallel()
	good, _ := poolOf(t, Options{}, specs(3)).State(nil)
	for what, damage := range map[string]func(*PoolState){
		"a number twice":         func(st *PoolState) { st.Backends[0].ID = st.Backends[1].ID },
		"a number of the future": func(st *PoolState) { st.Backends[0].ID = 100 },
		"an endpoint twice":      func(st *PoolState) { st.Backends[0].Spec.Endpoint = st.Backends[1].Spec.Endpoint },
		"a share of nothing":     func(st *PoolState) { st.Backends[0].RampShare = 0 },
		"more reasons":           func(st *PoolState) { st.Backends[0].Failures = make([]uint64, FailureReasons+1) },
		"a weight below zero":    func(st *PoolState) { st.Backends[0].Turned = -1 },
		"no number":              func(st *PoolState) { st.Backends[0].Accepting = 0xff8000 },
		"a latency to come":      func(st *PoolState) { st.Backends[0].Answering = 1 << 62 },
	} {
		st := good
		st.Backends = slices.Clone(good.Backends)
		if damage(&st); st.Check(time.Hour) == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if err := good.Check(time.Hour); err != nil {
		t.Error(err)
	}
}
