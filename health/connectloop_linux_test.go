package health_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/health"
)

// newLoop returns a loop that is closed after the test.
func newLoop(t *testing.T) *health.ConnectLoop {
	t.Helper()
	l, err := health.NewConnectLoop()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// firstResult returns the result of one check by a monitor with the loop.
func firstResult(t *testing.T, l *health.ConnectLoop, target health.Target, timeout time.Duration) error {
	t.Helper()
	var result error
	reported := false
	m := health.NewMonitor(l, health.Policy{Interval: time.Hour, Timeout: timeout}, func(_ health.Target, up bool, err error) {
		reported, result = true, err
	})
	defer m.Close()
	m.Set([]health.Target{target})
	ctx, cancel := context.WithTimeout(t.Context(), timeout+time.Minute)
	defer cancel()
	m.WaitFirst(ctx)
	if m.Close(); !reported {
		t.Fatal("no result")
	}
	return result
}

func TestConnectLoopIsNotSeenByTheTarget(t *testing.T) {
	t.Parallel()
	l := newLoop(t)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("without IPv6: %v", err)
			continue
		}
		defer ln.Close()
		target := health.Target{Name: "b", Network: "tcp", Address: ln.Addr().String()}
		for range 20 { // a socket is used again
			if err := firstResult(t, l, target, time.Minute); err != nil {
				t.Errorf("check of %s: %v", address, err)
			}
		}
		// The first connection that the target accepts is that of a client after the checks.
		client, err := net.Dial("tcp", target.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if conn.RemoteAddr().String() != client.LocalAddr().String() {
			t.Errorf("%s accepted %v, want the client %v alone", address, conn.RemoteAddr(), client.LocalAddr())
		}
	}
}

// The target drops the first SYN and answers the second. By then the loop may have sent
// its ACK, so it closes with FIN, and the target accepts a connection without data.
func TestConnectLoopClosesWithFIN(t *testing.T) {
	t.Parallel()
	l := newLoop(t)
	ln, target := fullListener(t, "tcp")
	saw := make(chan seen, 1)
	go func() {
		if !eventually(func() bool { return isConnecting(target) }) {
			t.Error("no SYN was sent")
		}
		if conn, err := ln.Accept(); err == nil { // the one that fills the queue
			conn.Close()
		}
		saw <- <-serve(ln, "220 greeting\r\n")
	}()
	if err := firstResult(t, l, target, time.Minute); err != nil {
		t.Fatalf("check: %v", err)
	}
	expectCleanEnd(t, <-saw)
}

// isConnecting reports whether a socket of this machine is in SYN_SENT to a target
// (proc_net_tcp).
func isConnecting(target health.Target) bool {
	text, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		return true // hidden here
	}
	port := netip.MustParseAddrPort(target.Address).Port()
	return strings.Contains(string(text), fmt.Sprintf("0100007F:%04X 02 ", port))
}

func TestConnectLoopFails(t *testing.T) {
	t.Parallel()
	l := newLoop(t)
	_, late := fullListener(t, "tcp")
	for _, tt := range []struct {
		target  health.Target
		timeout time.Duration
		is      error
		text    string
	}{
		{gone, time.Minute, syscall.ECONNREFUSED, "dial tcp " + gone.Address + ": connect: connection refused"},
		{gone, time.Minute, syscall.ECONNREFUSED, "dial tcp " + gone.Address + ": connect: connection refused"},
		{late, 50 * time.Millisecond, nil, "dial tcp " + late.Address + ": i/o timeout"},
	} {
		err := firstResult(t, l, tt.target, tt.timeout)
		if err == nil || err.Error() != tt.text || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("check: %v, want %s", err, tt.text)
		}
	}
	// A failed attempt does not affect the next one.
	_, target := listen(t, "tcp")
	if err := firstResult(t, l, target, time.Minute); err != nil {
		t.Errorf("check: %v", err)
	}
}

// A pending check costs a descriptor and no goroutine. It ends with its monitor or loop.
func TestConnectLoopOfManyTargets(t *testing.T) {
	const n = 200
	for _, closing := range []string{"monitor", "loop"} {
		l := newLoop(t)
		_, target := fullListener(t, "tcp")
		targets := make([]health.Target, n)
		for i := range targets {
			targets[i] = target
			targets[i].Name = fmt.Sprint(i)
		}
		goroutines, files := runtime.NumGoroutine(), descriptors()
		m := health.NewMonitor(l, health.Policy{Interval: time.Hour, Timeout: time.Hour}, func(t2 health.Target, up bool, err error) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("report of %s: %t, %v", t2.Name, up, err)
			}
		})
		m.Set(targets)
		if !eventually(func() bool { return descriptors() >= files+n }) {
			t.Fatalf("%d descriptors, want %d more than %d", descriptors(), n, files)
		}
		if more := runtime.NumGoroutine() - goroutines; more > 10 {
			t.Errorf("%d goroutines for %d checks", more, n)
		}
		if closing == "loop" {
			l.Close()
		}
		m.Close()
		if !eventually(func() bool { return descriptors() <= files }) {
			t.Errorf("%s closed: %d descriptors, %d were before", closing, descriptors(), files)
		}
	}
}

// Targets change while their checks run and time out; for the race detector.
func TestConnectLoopChurn(t *testing.T) {
	t.Parallel()
	l := newLoop(t)
	_, late := fullListener(t, "tcp")
	_, well := listen(t, "tcp")
	m := health.NewMonitor(l, health.Policy{Interval: 10 * time.Millisecond, Timeout: 3 * time.Millisecond}, func(t2 health.Target, up bool, err error) {
		if up && !strings.HasPrefix(t2.Name, "well") {
			t.Errorf("%s is up %t: %v", t2.Name, up, err)
		}
	})
	defer m.Close()
	for round := range 200 {
		var targets []health.Target
		for i := range 20 {
			for name, target := range map[string]health.Target{"late": late, "well": well, "gone": gone} {
				if target.Name = fmt.Sprint(name, i); (round+i)%3 > 0 {
					targets = append(targets, target)
				}
			}
		}
		m.Set(targets)
		time.Sleep(2 * time.Millisecond)
	}
}
