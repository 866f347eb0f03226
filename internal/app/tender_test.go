package app

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/config"
)

func tendedPool(t *testing.T, n int) *balancer.Pool {
	t.Helper()
	pool, err := balancer.NewPool(balancer.Options{Initial: balancer.Up})
	if err != nil {
		t.Fatal(err)
	}
	var specs []balancer.Spec
	for i := range n {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
		specs = append(specs, balancer.Spec{Endpoint: balancer.Endpoint{Addr: at}, Weight: 1})
	}
	pool.Update(specs)
	return pool
}

// Backends that fail flow after flow leave the pool and come back.
func TestTenderEjectsAndReadmits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := tendedPool(t, 4)
		var changes atomic.Int64
		s := config.Service{Eject: config.Eject{Failures: 3, Time: 10 * time.Second, Share: 50}}
		x, err := newTender(&s, pool, func() { changes.Add(1) }, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		defer x.close()
		x.tell()
		synctest.Wait()
		all := pool.Backends()
		want := func(step string, ejected ...bool) {
			t.Helper()
			synctest.Wait()
			for i, b := range all {
				if b.Ejected() != ejected[i] || (b.Status() == balancer.Down) != ejected[i] {
					t.Errorf("%s: backend %d is %v, ejected: %v", step, i, b.Status(), b.Ejected())
				}
			}
		}
		for range 2 {
			x.Failure(all[0])
		}
		x.Success(all[0])
		for range 2 {
			x.Failure(all[0])
		}
		want("no three in a row", false, false, false, false)
		x.Failure(all[0])
		time.Sleep(time.Second)
		want("three in a row", true, false, false, false)
		for i := 1; i < 4; i++ {
			for range 3 {
				x.Failure(all[i])
			}
		}
		time.Sleep(time.Second)
		want("half of them at the most", true, true, false, false)
		time.Sleep(8500 * time.Millisecond)
		want("after the time of the first", false, true, false, false)
		time.Sleep(time.Second)
		want("after the time of the second", false, false, false, false)
		if n := changes.Load(); n != 4 {
			t.Errorf("told of %d changes, want 4", n)
		}
	})
}
