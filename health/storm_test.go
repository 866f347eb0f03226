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

// counted counts the checks of each target.
type counted struct {
	health.Checker
	started sync.Map // of health.Target to *atomic.Int64
}

func (c *counted) Check(ctx context.Context, t health.Target) error {
	n, _ := c.started.LoadOrStore(t, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	return c.Checker.Check(ctx, t)
}

func (c *counted) of(t health.Target) int64 {
	if n, ok := c.started.Load(t); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

// 2,000 backends, of which a third is well, a third never answers, and a third is gone,
// take no more descriptors and goroutines than the checks in flight need, and are not
// checked more often than they shall be.
func TestProbeStorm(t *testing.T) {
	n, rounds := 2000, int64(3)
	if raceEnabled {
		n, rounds = 600, 2
	}
	policy := health.Policy{Interval: 600 * time.Millisecond, DownInterval: 400 * time.Millisecond, ChangeInterval: 300 * time.Millisecond, Timeout: 100 * time.Millisecond}
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
		address := []string{well, silent, gone.Address}[i%3]
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
	start := time.Now()
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
	for end := time.Now().Add(40 * time.Second); !done(); time.Sleep(time.Millisecond) {
		// Each connection has an end and a goroutine on the servers' side too, that stays
		// a little longer than its check.
		held := int(accepted.Load())
		mostGoroutines = max(mostGoroutines, runtime.NumGoroutine()-goroutines-held)
		mostFiles = max(mostFiles, descriptors()-files-held)
		if time.Now().After(end) {
			t.Fatal("not all targets are checked often enough")
		}
	}
	// Beside the slots: the loop, and what is accepted and not yet counted.
	if most := 3*health.MaxInFlight + 50; mostGoroutines > most {
		t.Errorf("%d goroutines, want at most %d", mostGoroutines, most)
	}
	if most := 3*health.MaxInFlight + 50; mostFiles > most {
		t.Errorf("%d descriptors, want at most %d", mostFiles, most)
	}
	took := time.Since(start)
	for _, target := range targets {
		// One at the start, one at a phase after it, and then one in each of the
		// shortest intervals at most.
		if got, most := checker.of(target), 2+int64(took/(policy.ChangeInterval*9/10)); got > most {
			t.Errorf("target %s was checked %d times in %v, want at most %d", target.Name, got, took, most)
		}
	}
	t.Logf("%d targets, %v: at most %d goroutines and %d descriptors, %d reports up, %d down",
		n, took.Round(time.Millisecond), mostGoroutines, mostFiles, up.Load(), down.Load())
	if up.Load() == 0 || down.Load() < int64(n/3) {
		t.Errorf("%d reports up, %d down", up.Load(), down.Load())
	}
	m.Close()
	if !eventually(func() bool { return runtime.NumGoroutine() <= goroutines+2 }) {
		t.Errorf("%d goroutines after the storm, %d before", runtime.NumGoroutine(), goroutines)
	}
}
