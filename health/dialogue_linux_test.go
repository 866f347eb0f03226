package health_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"usher/health"
)

// crowd opens a listener whose queue of connections is full: TCP leaves a SYN unanswered
// then, and a unix socket turns a connect away.
func crowd(t *testing.T, network string) (net.Listener, health.Target) {
	t.Helper()
	ln, target := listen(t, network)
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	// Listening again makes the queue as short as can be: one connection has room.
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	conn, err := net.Dial(network, target.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return ln, target
}

// allChecks are those of streamChecks and TCP.
func allChecks(t *testing.T) map[string]health.Checker {
	checks := streamChecks(t)
	checks["tcp"] = health.TCP{}
	return checks
}

// A connection that does not get beyond its first packet.
func TestNoRoomInTheQueue(t *testing.T) {
	t.Parallel()
	for name, c := range allChecks(t) {
		for network, want := range map[string]string{"tcp": "i/o timeout", "unix": "the listen queue is full"} {
			t.Run(name+"/"+network, func(t *testing.T) {
				t.Parallel()
				_, target := crowd(t, network)
				expectCheck(t, c, target, true, want)
				expectCheck(t, c, target, true, target.Address)
			})
		}
	}
}

// A target that is only busy is connected to once it has accepted another.
func TestRoomInTheQueueInTime(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			ln, target := crowd(t, network)
			result := make(chan error, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			go func() { result <- health.TCP{}.Check(ctx, target) }()
			select {
			case err := <-result:
				t.Fatalf("the check did not wait for room: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			serveConns(t, ln, hear)
			if err := <-result; err != nil {
				t.Errorf("check: %v", err)
			}
		})
	}
}

func TestNoRoomInTheQueueEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		_, target := crowd(t, network)
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- health.TCP{}.Check(ctx, target) }()
		cancel()
		select {
		case err := <-result:
			if err == nil || network == "unix" && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", network, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the check outlives its context", network)
		}
	}
}
