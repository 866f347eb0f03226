package health_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/health"
)

func TestMonitorSetWhileRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reports := log{t: t}
		checker := &fake{}
		m := health.NewMonitor(checker, health.Policy{}, reports.report)
		defer m.Close()
		a, b := named("a")[0], named("b")[0]

		m.Set([]health.Target{a, a})
		m.WaitFirst(t.Context())
		reports.expect("a up")

		m.Set([]health.Target{a, b})
		m.WaitFirst(t.Context())
		reports.expect("a up", "b up")
		time.Sleep(time.Minute)
		if n := len(checker.startsOf(a)); n < 27 || n > 36 {
			t.Errorf("a was checked %d times in a minute, want about 31: one probe, kept over Set", n)
		}

		m.Set([]health.Target{b})
		synctest.Wait()
		before := len(checker.startsOf(a))
		time.Sleep(time.Minute)
		if after := len(checker.startsOf(a)); after != before {
			t.Errorf("a was checked %d times after its removal", after-before)
		}
		reports.expect("a up", "b up")

		m.Set([]health.Target{a, b})
		m.WaitFirst(t.Context())
		reports.expect("a up", "b up", "a up")
	})
}

// A target that is removed and added again during a check has one probe.
func TestMonitorTargetComesBackAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		checker := &fake{cost: 100 * time.Millisecond}
		m := health.NewMonitor(checker, health.Policy{}, func(health.Target, bool, error) {})
		defer m.Close()
		a := named("a")
		for range 20 {
			m.Set(a)
			synctest.Wait()
			m.Set(nil)
			m.Set(a)
			synctest.Wait()
		}
		before := len(checker.startsOf(a[0]))
		time.Sleep(time.Minute)
		if n := len(checker.startsOf(a[0])) - before; n < 27 || n > 36 {
			t.Errorf("a was checked %d times in a minute, want about 31", n)
		}
	})
}

// Targets change at random. No report of a removed one comes after Set has returned.
func TestMonitorNeverReportsARemovedTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const seed = 1 // another one tests other cases
		random := rand.New(rand.NewPCG(seed, 0))
		targets := numbered(20)

		var mu sync.Mutex
		allowed := make(map[health.Target]bool)
		reports := 0
		flap := func(_ health.Target, nth int) error { return []error{nil, errSick}[nth%2] }
		m := health.NewMonitor(&fake{cost: 50 * time.Millisecond, answer: flap},
			health.Policy{Interval: 100 * time.Millisecond, Rise: 1, Fall: 1},
			func(t2 health.Target, _ bool, _ error) {
				time.Sleep(time.Millisecond) // Set waits for it, on no mutex
				mu.Lock()
				defer mu.Unlock()
				reports++
				if !allowed[t2] {
					t.Errorf("report of %s after its removal", t2.Name)
				}
			})
		defer m.Close()
		for range 500 {
			next := make(map[health.Target]bool)
			for _, target := range targets {
				if random.IntN(2) == 0 {
					next[target] = true
				}
			}
			mu.Lock()
			maps.Copy(allowed, next)
			mu.Unlock()
			m.Set(slices.Collect(maps.Keys(next)))
			mu.Lock()
			allowed = next
			mu.Unlock()
			time.Sleep(time.Duration(random.Int64N(int64(200 * time.Millisecond))))
		}
		mu.Lock()
		defer mu.Unlock()
		if reports < 1000 {
			t.Errorf("only %d reports: too few to prove anything", reports)
		}
	})
}

func TestMonitorWaitFirst(t *testing.T) {
	t.Parallel()
	t.Run("ends with its context", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			reports := log{t: t}
			m := health.NewMonitor(&fake{cost: time.Hour}, health.Policy{Timeout: time.Minute}, reports.report)
			defer m.Close()
			m.Set(named("a"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			m.WaitFirst(ctx)
			if ctx.Err() == nil {
				t.Error("returned before the first result and before its context ended")
			}
			reports.expect()
		})
	})
	t.Run("does not wait for removed targets", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			m := health.NewMonitor(&fake{cost: time.Hour}, health.Policy{Timeout: time.Minute}, func(health.Target, bool, error) {})
			defer m.Close()
			m.Set(named("a"))
			start := time.Now()
			var waiter sync.WaitGroup
			waiter.Go(func() { m.WaitFirst(t.Context()) })
			time.Sleep(time.Second)
			m.Set(nil)
			waiter.Wait()
			if took := time.Since(start); took != time.Second {
				t.Errorf("returned after %v, want with the removal after 1s", took)
			}
		})
	})
	t.Run("takes an inconclusive check for an answer", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			reports := log{t: t}
			m := health.NewMonitor(&fake{answer: script("?")}, health.Policy{}, reports.report)
			defer m.Close()
			start := time.Now()
			m.Set(named("a"))
			m.WaitFirst(t.Context())
			if took := time.Since(start); took != 0 {
				t.Errorf("returned after %v, want at once", took)
			}
			reports.expect()
		})
	})
}

func TestMonitorCloseWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		checker := &fake{cost: time.Hour}
		m := health.NewMonitor(checker, health.Policy{Timeout: time.Hour}, func(t2 health.Target, _ bool, _ error) {
			t.Errorf("report of %s, whose check never ended", t2.Name)
		})
		m.Set(numbered(300)) // more than may be in flight: some wait for a slot
		synctest.Wait()
		if now, _ := checker.load(); now != health.MaxInFlight {
			t.Errorf("%d checks in flight, want %d", now, health.MaxInFlight)
		}
		m.Close()
		if now, _ := checker.load(); now != 0 {
			t.Errorf("%d checks in flight after Close", now)
		}
		m.Set(named("late"))
		m.WaitFirst(t.Context())
		m.Close()
		if n := len(checker.startsOf(named("late")[0])); n != 0 {
			t.Errorf("a closed monitor made %d checks", n)
		}
	})
}
