package health_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/health"
)

// counted counts the checks of each target, and those in flight.
type counted struct {
	health.Checker
	started        sync.Map // of health.Target to *atomic.Int64
	inFlight, most atomic.Int64
}

func (c *counted) Check(ctx context.Context, t health.Target) error {
	n, _ := c.started.LoadOrStore(t, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	now := c.inFlight.Add(1)
	defer c.inFlight.Add(-1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); {
		most = c.most.Load()
	}
	return c.Checker.Check(ctx, t)
}

func (c *counted) of(t health.Target) int64 {
	if n, ok := c.started.Load(t); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

// 2,000 backends, of which a quarter is well, half never answers, and a quarter is gone,
// want three times as many checks at a time as there may be. They take no more descriptors
// and goroutines than the checks in flight need, and are not checked more often than they
// shall be.
func TestProbeStorm(t *testing.T) {
	n, rounds := 2000, int64(2)
	if raceEnabled {
		n = 600
	}
	policy := health.Policy{Interval: 400 * time.Millisecond, DownInterval: 300 * time.Millisecond, ChangeInterval: 200 * time.Millisecond, Timeout: 250 * time.Millisecond}
	var accepted atomic.Int64 // connections that the servers still hold
	open := func(handle func(net.Conn)) string {
		ln, target := listen(t, "tcp")
		serveConns(t, ln, func(conn net.Conn) {
			accepted.Add(1)
			defer accepted.Add(-1)
			handle(conn)
		})
		return target.Address
	}
	well, silent := open(talk("HTTP/1.1 204 No Content\r\n\r\n")), open(hear)
	ln, gone := listen(t, "tcp")
	ln.Close()
	targets := make([]health.Target, n)
	for i := range targets {
		address := []string{well, silent, gone.Address, silent}[i%4]
		targets[i] = health.Target{Name: fmt.Sprint(i), Network: "tcp", Address: address}
	}

	checker := &counted{Checker: newHTTP(t, health.HTTPOptions{})}
	var up, down atomic.Int64
	m := health.NewMonitor(checker, policy, func(_ health.Target, isUp bool, _ error) {
		if isUp {
			up.Add(1)
		} else {
			down.Add(1)
		}
	})
	defer m.Close()
	goroutines, files := runtime.NumGoroutine(), descriptors()
	start, used := time.Now(), cpuTime()
	m.Set(targets)
	mostGoroutines, mostFiles := 0, 0
	done := func() bool {
		for _, target := range targets {
			if checker.of(target) < rounds {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		// Each connection has an end and a goroutine on the servers' side too, that stays
		// a little longer than its check.
		held := int(accepted.Load())
		mostGoroutines = max(mostGoroutines, runtime.NumGoroutine()-goroutines-held)
		mostFiles = max(mostFiles, descriptors()-files-held)
		if time.Now().After(end) {
			t.Fatal("not all targets are checked often enough")
		}
	}
	if got := checker.most.Load(); got != health.MaxInFlight {
		t.Errorf("at most %d checks were in flight, want exactly %d under this load", got, health.MaxInFlight)
	}
	// Beside the slots: the loop, and what is accepted and not yet counted.
	if most := 3*health.MaxInFlight + 50; mostGoroutines > most {
		t.Errorf("%d goroutines, want at most %d", mostGoroutines, most)
	}
	if most := 3*health.MaxInFlight + 50; mostFiles > most {
		t.Errorf("%d descriptors, want at most %d", mostFiles, most)
	}
	took, used := time.Since(start), cpuTime()-used
	checks := int64(0)
	for _, target := range targets {
		checks += checker.of(target)
		// One at the start, one at a phase after it, and then one in each of the
		// shortest intervals at most.
		if got, most := checker.of(target), 2+int64(took/(policy.ChangeInterval*9/10)); got > most {
			t.Errorf("target %s was checked %d times in %v, want at most %d", target.Name, got, took, most)
		}
	}
	each := used / time.Duration(checks)
	t.Logf("%d targets, %v: %d checks of %v each, at most %d goroutines and %d descriptors, %d reports up, %d down",
		n, took.Round(time.Millisecond), checks, each.Round(time.Microsecond), mostGoroutines, mostFiles, up.Load(), down.Load())
	// Processor time, the servers' and this test's included, does not depend on what else
	// the machine does. A check takes a fraction of a millisecond; one that waits by
	// turning round, or looks at all targets for each, takes ten times as much.
	most := 3 * time.Millisecond
	if raceEnabled {
		most *= 10
	}
	if each > most {
		t.Errorf("a check takes %v of processor time, want at most %v", each, most)
	}
	if up.Load() == 0 || down.Load() < int64(n/2) {
		t.Errorf("%d reports up, %d down", up.Load(), down.Load())
	}
	m.Close()
	if !eventually(func() bool { return runtime.NumGoroutine() <= goroutines+2 }) {
		t.Errorf("%d goroutines after the storm, %d before", runtime.NumGoroutine(), goroutines)
	}
}
