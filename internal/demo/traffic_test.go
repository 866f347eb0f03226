package demo

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

func TestTrafficReachesTheService(t *testing.T) {
	t.Parallel()
	b := start(t, 0)
	addr := b.Addrs()[0].String()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		trickle{every: 5 * time.Millisecond, linger: 10 * time.Millisecond, timeout: time.Minute, atOnce: 4}.run(ctx, addr)
	})
	served := &b.servers[0].Handler.(*backend).served
	for deadline := time.Now().Add(time.Minute); served.Load() < 10; {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests served, want 10", served.Load())
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	running.Wait()
}

// A silent service holds at most atOnce clients, which end with the context.
func TestTrafficIsBounded(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const atOnce = 3
	accepted := make(chan net.Conn, 100)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		trickle{every: time.Millisecond, linger: time.Millisecond, timeout: time.Hour, atOnce: atOnce}.run(ctx, ln.Addr().String())
	})
	var conns []net.Conn
	for range atOnce {
		select {
		case conn := <-accepted:
			conns = append(conns, conn)
		case <-time.After(time.Minute):
			t.Fatalf("%d clients came, want %d", len(conns), atOnce)
		}
	}
	// Some hundred more would have come by now. A slow machine can only make
	// this pass that should fail, not the other way.
	select {
	case <-accepted:
		t.Errorf("more than %d clients at a time", atOnce)
	case <-time.After(100 * time.Millisecond):
	}

	cancel()
	running.Wait()
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("client did not end cleanly: %v", err)
		}
		conn.Close()
	}
	ln.Close()
	accepting.Wait()
}
