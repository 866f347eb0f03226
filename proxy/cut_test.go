package proxy

import (
	"io"
	"net"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

// TestCutIsForgottenByThoseWhoWait: a client that is held takes the backend that was cut
// once that is up again.
func TestCutIsForgottenByThoseWhoWait(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		at := ownPorts(t, 1)[0] // where nobody listens yet
		c := service(t, at)
		c.Wait = time.Minute
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		b := c.Pool.Backends()[0]
		conn := dial(t, addr)
		eventually(t, "the backend has refused", func() bool { return b.Failures() > 0 && b.Active() == 0 })
		setAdmin(c.Pool, b, balancer.Drain) // nobody is connecting when it is cut
		eventually(t, "the client is held", func() bool { return b.Active() == 0 })
		s.CutBackend(b, flow.Reset)
		ln, err := net.Listen("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			if one, err := ln.Accept(); err == nil {
				var p [64]byte
				n, _ := one.Read(p[:])
				_, _ = one.Write(p[:n])
				one.Close()
			}
		}()
		setAdmin(c.Pool, b, balancer.Ready)
		roundTrip(t, conn)
	})
}

// TestPersistOutlivesADip: a client that does not come while its backend is down goes
// back there; one whose backend was removed does not keep it in memory.
func TestPersistOutlivesADip(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		a, b := newBackend(t), newBackend(t)
		c := persistent(t, a.addr, b.addr)
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		conn := dial(t, addr)
		roundTrip(t, conn)
		at := c.Pool.Backends()[0]
		if at.Total() == 0 {
			at = c.Pool.Backends()[1]
		}
		setStatus(c.Pool, at, balancer.Down)
		s.CutBackend(at, flow.Reset)
		setStatus(c.Pool, at, balancer.Up)
		for range 3 {
			roundTrip(t, dial(t, addr))
		}
		if n := at.Total(); n != 4 {
			t.Errorf("the backend had %d of the client's 4 connections", n)
		}
		s.Forget(at)
		for row := range s.Clients() {
			t.Errorf("client %v still has %v", row.Client, row.Backend)
		}
	})
}

// TestCutOfAFinishedBackend: a backend that has sent its end owes nothing, so its being
// cut takes nothing from a client that is slow.
func TestCutOfAFinishedBackend(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, how := range []Cut{flow.Fin, flow.Reset} {
			t.Run(how.String(), func(t *testing.T) {
				const n = 1 << 20
				c := service(t, serve(t, func(c *net.TCPConn) { _, _ = c.Write(make([]byte, n)) }))
				s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
				conn := dial(t, addr)
				_ = conn.SetReadBuffer(64 << 10)
				eventually(t, "all is on its way, and the end with it", func() bool {
					for row := range s.Flows() {
						if row.Down == n && row.State == conntrack.HalfClosed {
							return true
						}
					}
					return false
				})
				s.CutBackend(c.Pool.Backends()[0], how)
				if got, err := io.Copy(io.Discard, conn); got != n {
					t.Errorf("%d bytes of %d came, then %v", got, n, err)
				}
				eventually(t, "the flow ends", func() bool { return s.Services()[0].Ended(flow.BackendDown) == 1 })
			})
		}
	})
}
