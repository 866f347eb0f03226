package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestDrainKeepsBusyFlows has flows of several workers in use at the moment when their
// addresses are given up. None of them becomes another flow.
func TestDrainKeepsBusyFlows(t *testing.T) {
	t.Parallel()
	const flows = 48
	_, backend := udpNamed(t, "b")
	for _, hosts := range [][2]string{{"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}, {"::", "127.0.0.1"}, {"::", "::1"}, {"0.0.0.0", "127.0.0.2"}} {
		c := udpService(t, UDPConfig{}, backend)
		c.Listeners[0].Addr = netip.AddrPortFrom(netip.MustParseAddr(hosts[0]), 0)
		s, _ := start(t, Options{Engine: "epoll", Workers: 4}, c)
		svc := s.Services()[0]
		asked := netip.AddrPortFrom(netip.MustParseAddr(hosts[1]), svc.Config().Listeners[0].Addr.Port())
		var begun, running sync.WaitGroup
		var over atomic.Bool
		for range flows {
			client := dialUDP(t, asked)
			begun.Add(1)
			running.Go(func() {
				first := ask(t, client, "who?")
				begun.Done()
				for !over.Load() {
					if now, ok := askAnyhow(t, client); ok && now != first {
						t.Errorf("flow %q to %v went on as %q", first, asked, now)
						return
					}
				}
			})
		}
		begun.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		var drained sync.WaitGroup
		drained.Go(func() { _ = s.Shutdown(ctx) })
		time.Sleep(100 * time.Millisecond) // all that could go wrong has, as there is nothing to wait for
		over.Store(true)
		running.Wait()
		cancel()
		drained.Wait()
		if n := svc.Accepted(); n != flows {
			t.Errorf("%d flows to %v had %d sessions", flows, asked, n)
		}
	}
}

// askAnyhow asks once, and reports whether there was an answer.
func askAnyhow(t *testing.T, c *net.UDPConn) (answer string, ok bool) {
	if _, err := c.Write([]byte("who?")); err != nil {
		return "", false
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	buffer := make([]byte, 100)
	n, err := c.Read(buffer)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	return string(buffer[:n]), err == nil
}
