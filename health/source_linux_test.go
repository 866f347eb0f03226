package health_test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"usher/health"
)

// Checks ask from the source of their target: where a connection is accepted, and where the kernel is asked alone. A
// source that this machine does not have is a failure of the target, not one that passes.
func TestSource(t *testing.T) {
	t.Parallel()
	ln, target := listen(t, "tcp")
	target.Source = netip.MustParseAddr("127.0.0.2")
	from := make(chan string, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			from <- err.Error()
			return
		}
		defer conn.Close()
		from <- netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr().String()
	}()
	if err := (health.TCP{}).Check(t.Context(), target); err != nil {
		t.Error(err)
	}
	if got := <-from; got != "127.0.0.2" {
		t.Errorf("the target saw %s", got)
	}
	loop := newLoop(t)
	for range 2 { // the second one finds no bound socket of the first
		if err := firstResult(t, loop, target, time.Minute); err != nil {
			t.Error(err)
		}
	}
	target.Source = netip.MustParseAddr("192.0.2.1")
	if err := firstResult(t, loop, target, time.Minute); !errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, health.ErrInconclusive) {
		t.Errorf("a check from an address of others: %v", err)
	}
	target.Source = netip.Addr{}
	if err := firstResult(t, loop, target, time.Minute); err != nil {
		t.Error(err)
	}
}
