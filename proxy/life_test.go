package proxy

import (
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

// backendOf echoes, and knows its connections.
type backendOf struct {
	addr        netip.AddrPort
	open, most  atomic.Int64
	connections atomic.Int64
}

func newBackend(t *testing.T) *backendOf {
	t.Helper()
	b := new(backendOf)
	b.addr = serve(t, func(c *net.TCPConn) {
		b.connections.Add(1)
		n := b.open.Add(1)
		for most := b.most.Load(); n > most && !b.most.CompareAndSwap(most, n); most = b.most.Load() {
		}
		var buf [512]byte
		for {
			n, err := c.Read(buf[:])
			if n > 0 {
				_, _ = c.Write(buf[:n])
			}
			if err != nil {
				break
			}
		}
		// The proxy gives the place back when it sees the FIN, so that comes last.
		b.open.Add(-1)
	})
	return b
}

// refusing is an address where nobody listens, and nobody else can: it is that of a client.
func refusing(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	c := dial(t, ln.Addr().String())
	return c.LocalAddr().(*net.TCPAddr).AddrPort()
}

// TestCutConnections: what is told to stay stays, what is cut looks as it was told to,
// and flows of other backends go on.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, how := range []Cut{flow.Keep, flow.Fin, flow.Reset} {
			t.Run(how.String(), func(t *testing.T) {
				a, b := newBackend(t), newBackend(t)
				c := service(t, a.addr, b.addr)
				s, addr := start(t, Options{Engine: engine, Workers: 2}, c)
				one := dial(t, addr)
				roundTrip(t, one) // at a
				two := dial(t, addr)
				roundTrip(t, two) // at b
				eventually(t, "no byte is on its way", func() bool {
					for row := range s.Flows() {
						if row.Up == 0 || row.Down == 0 {
							return false
						}
					}
					return true
				})
				first := c.Pool.Backends()[0]
				setStatus(c.Pool, first, balancer.Down)
				s.CutBackend(first, how)
				switch how {
				case flow.Keep:
					roundTrip(t, one)
				case flow.Fin:
					if _, err := one.Read(make([]byte, 1)); err != io.EOF {
						t.Errorf("read: %v, want the end", err)
					}
				case flow.Reset:
					wantReset(t, one)
				}
				roundTrip(t, two)
				want := uint64(1)
				if how == flow.Keep {
					want = 0
				}
				eventually(t, "it is counted", func() bool { return s.Services()[0].Ended(flow.BackendDown) == want })
				roundTrip(t, dial(t, addr))
				if n := a.connections.Load(); n != 1 {
					t.Errorf("the backend that is down got %d connections, want 1", n)
				}
			})
		}
	})
}

func TestOldFlowsEnd(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := service(t, newBackend(t).addr)
		c.MaxAge, c.MaxAgeJitter = 200*time.Millisecond, 0.1
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		begin := time.Now()
		conn := dial(t, addr)
		for { // never idle
			if _, err := conn.Write([]byte{'x'}); err != nil {
				break
			}
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if d := time.Since(begin); d < 180*time.Millisecond {
			t.Errorf("the flow ended after %v", d)
		}
		eventually(t, "it is counted", func() bool { return s.Services()[0].Ended(flow.Aged) == 1 })
	})
}

// persistent is a service that keeps clients together.
func persistent(t *testing.T, backends ...netip.AddrPort) ServiceConfig {
	c := service(t, backends...)
	c.Persist = Persist{
		On: true, AffinityConfig: conntrack.AffinityConfig{Timeout: time.Minute},
		Allow: balancer.AffinityPolicy{Quiesced: true, Overloaded: true},
	}
	return c
}

func TestPersistKeepsAClientAtItsBackend(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		a, b := newBackend(t), newBackend(t)
		c := persistent(t, a.addr, b.addr)
		s, addr := start(t, Options{Engine: engine, Workers: 2}, c)
		for range 10 {
			conn := dial(t, addr)
			roundTrip(t, conn)
			conn.Close()
		}
		at, other := a, b
		if b.connections.Load() > 0 {
			at, other = b, a
		}
		if at.connections.Load() != 10 || other.connections.Load() != 0 {
			t.Fatalf("%d and %d connections, want all at one", a.connections.Load(), b.connections.Load())
		}
		eventually(t, "all flows end", func() bool { return s.Open() == 0 })
		rows := 0
		for row := range s.Clients() {
			rows++
			if row.Flows != 0 || row.Backend.Endpoint().Addr != at.addr {
				t.Errorf("client %v at %v with %d flows", row.Client, row.Backend, row.Flows)
			}
		}
		if rows != 1 {
			t.Errorf("%d clients are remembered, want 1", rows)
		}

		// Its backend goes: the client has another one, for good.
		for _, x := range c.Pool.Backends() {
			if x.Endpoint().Addr == at.addr {
				setStatus(c.Pool, x, balancer.Down)
			}
		}
		roundTrip(t, dial(t, addr))
		for _, x := range c.Pool.Backends() {
			setStatus(c.Pool, x, balancer.Up)
		}
		for range 4 {
			roundTrip(t, dial(t, addr))
		}
		if n := other.connections.Load(); n != 5 {
			t.Errorf("the other backend has %d connections, want 5", n)
		}
	})
}

// TestPersistLeavesABackendThatRefuses: a client whose backend does not take its
// connect is served by another one, and stays there.
func TestPersistLeavesABackendThatRefuses(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		b := newBackend(t)
		c := persistent(t, refusing(t), b.addr)
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		for range 6 {
			roundTrip(t, dial(t, addr))
		}
		if n := b.connections.Load(); n != 6 {
			t.Errorf("%d connections, want 6", n)
		}
		if n := c.Pool.Backends()[0].Failures(); n > 1 {
			t.Errorf("the refusing backend was tried %d times, want once", n)
		}
		s.Close()
		for _, x := range c.Pool.Backends() {
			if x.Active() != 0 {
				t.Errorf("%v has %d reservations left", x, x.Active())
			}
		}
		for row := range s.Clients() {
			if row.Flows != 0 {
				t.Errorf("a client has %d flows left", row.Flows)
			}
		}
	})
}

// TestPersistPassesTheThreshold as in IPVS, unless it is told not to; nobody passes Max.
func TestPersistPassesTheThreshold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limits balancer.Limits
		allow  bool
		want   int64 // connections of four at the first backend
	}{
		{balancer.Limits{Upper: 1}, true, 4},
		{balancer.Limits{Upper: 1}, false, 1},
		{balancer.Limits{Max: 2}, true, 2},
	} {
		eachEngine(t, func(t *testing.T, engine string) {
			a, b := newBackend(t), newBackend(t)
			c := persistent(t, a.addr)
			c.Persist.Allow.Overloaded = tt.allow
			all := specs(a.addr, b.addr)
			all[0].Limits = tt.limits
			all[1].Weight = 0
			c.Pool.Update(all, 0)
			_, addr := start(t, Options{Engine: engine, Workers: 1}, c)
			roundTrip(t, dial(t, addr))
			all[1].Weight = 1
			c.Pool.Update(all, 0)
			for range 3 {
				roundTrip(t, dial(t, addr))
			}
			if n := a.connections.Load(); n != tt.want {
				t.Errorf("%+v: %d connections at the first backend, want %d", tt, n, tt.want)
			}
		})
	}
}

// TestLearnsFromConnectAndFirstReply: a scheduler that learns hears of both. The slow
// backend is slower by far than the quick one looks on a machine without a core to spare.
func TestLearnsFromConnectAndFirstReply(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		slow := serve(t, func(c *net.TCPConn) {
			for {
				if _, err := c.Read(make([]byte, 1)); err != nil {
					return
				}
				time.Sleep(2 * time.Second)
				_, _ = c.Write([]byte{'x'})
			}
		})
		quick := newBackend(t)
		c := service(t)
		pool, err := balancer.NewPool(balancer.Options{Scheduler: "ewma", Random: rand.Uint64})
		if err != nil {
			t.Fatal(err)
		}
		pool.Update(specs(slow, quick.addr), 0)
		c.Pool = pool
		_, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		for range 40 {
			conn := dial(t, addr)
			roundTrip(t, conn)
			conn.Close()
		}
		if n := quick.connections.Load(); n < 30 {
			t.Errorf("%d of 40 clients went to the quick backend", n)
		}
	})
}

// TestPersistKeepsDatagramsTogether: the flows of one client address, from whatever
// port, have one backend.
func TestPersistKeepsDatagramsTogether(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		_, a := udpNamed(t, "a")
		_, b := udpNamed(t, "b")
		c := udpService(t, UDPConfig{}, a, b)
		c.Persist = Persist{On: true, AffinityConfig: conntrack.AffinityConfig{Timeout: time.Minute}}
		s, _, at := startUDP(t, engine, c)
		seen := make(map[string]int)
		for range 10 {
			name, _, _ := strings.Cut(ask(t, dialUDP(t, at), "?"), " ")
			seen[name]++
		}
		if len(seen) != 1 {
			t.Errorf("one client has backends %v", seen)
		}
		s.Close()
		for row := range s.Clients() {
			if row.Flows != 0 {
				t.Errorf("%d flows are left", row.Flows)
			}
		}
	})
}

func TestOldSessionsEnd(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := udpService(t, UDPConfig{}, udpEcho(t))
		c.MaxAge = 100 * time.Millisecond
		_, svc, at := startUDP(t, engine, c)
		conn := dialUDP(t, at)
		eventually(t, "the flow ends although it is never idle", func() bool {
			say(t, conn, "?")
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // a reply under way is lost
			_, _ = conn.Read(make([]byte, 1))
			return svc.Ended(flow.Aged) > 0
		})
	})
}

// TestRefusedDatagramsHoldNoPersistence: a flow that cannot be had because its client's
// backend is full is none under the client's template.
func TestRefusedDatagramsHoldNoPersistence(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := udpService(t, UDPConfig{}, udpEcho(t))
		c.Persist = Persist{On: true, AffinityConfig: conntrack.AffinityConfig{Timeout: time.Minute}}
		all := c.Pool.Backends()
		c.Pool.Update([]balancer.Spec{{Endpoint: all[0].Endpoint(), Weight: 1, Check: balancer.Up, Limits: balancer.Limits{Max: 1}}}, 0)
		s, svc, at := startUDP(t, engine, c)
		ask(t, dialUDP(t, at), "?")
		say(t, dialUDP(t, at), "?")
		eventually(t, "it is refused", func() bool { return svc.Ended(flow.BackendsFull) == 1 })
		eventually(t, "one flow holds the client", func() bool {
			for row := range s.Clients() {
				return row.Flows == 1
			}
			return false
		})
	})
}
