package health_test

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"usher/health"
)

// fullListener opens a listener whose queue is full: TCP ignores a SYN then, and a unix
// socket refuses a connect with EAGAIN.
func fullListener(t *testing.T, network string) (net.Listener, health.Target) {
	t.Helper()
	ln, target := listen(t, network)
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	// Listening again shortens the queue to one connection.
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

// allChecks returns streamChecks and TCP.
func allChecks(t *testing.T) map[string]health.Checker {
	checks := streamChecks(t)
	checks["tcp"] = health.TCP{}
	return checks
}

func TestListenQueueIsFull(t *testing.T) {
	t.Parallel()
	for name, c := range allChecks(t) {
		for network, want := range map[string]string{"tcp": "i/o timeout", "unix": "the listen queue is full"} {
			t.Run(name+"/"+network, func(t *testing.T) {
				t.Parallel()
				_, target := fullListener(t, network)
				expectCheck(t, c, target, true, want)
				expectCheck(t, c, target, true, target.Address)
			})
		}
	}
}

// A check waits for room in the listen queue.
func TestListenQueueHasRoomLater(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			ln, target := fullListener(t, network)
			result := make(chan error, 1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			go func() { result <- health.TCP{}.Check(ctx, target) }()
			select {
			case err := <-result:
				t.Fatalf("the check does not wait for room: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			serveConns(t, ln, hear)
			if err := <-result; err != nil {
				t.Errorf("check: %v", err)
			}
		})
	}
}
