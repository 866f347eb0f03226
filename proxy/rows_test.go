package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

// inState waits until the server has one flow, which is in a state and has been sent
// somewhere, and returns it.
func inState(t *testing.T, s *Server, state conntrack.State) (found Row) {
	t.Helper()
	eventually(t, "the flow is "+state.String(), func() bool {
		n := 0
		for r := range s.Flows() {
			found = r
			n++
		}
		return n == 1 && found.State == state && found.Tries > 0
	})
	return found
}

// TestKillInEachState: a flow that is killed ends with a reset, whatever it waits for, and
// gives its backend and its place in the queue back.
func TestKillInEachState(t *testing.T) {
	t.Parallel()
	states := []struct {
		state  conntrack.State
		config func(t *testing.T) ServiceConfig
		use    func(t *testing.T, c *net.TCPConn)
	}{
		{conntrack.Established, func(t *testing.T) ServiceConfig { return service(t, echo(t)) }, func(t *testing.T, c *net.TCPConn) { roundTrip(t, c) }},
		{conntrack.HalfClosed, func(t *testing.T) ServiceConfig {
			over := make(chan struct{})
			t.Cleanup(func() { close(over) })
			return service(t, serve(t, func(c *net.TCPConn) {
				_, _ = io.Copy(io.Discard, c)
				<-over
			}))
		}, func(t *testing.T, c *net.TCPConn) { _ = c.CloseWrite() }},
		{conntrack.Waiting, func(t *testing.T) ServiceConfig {
			c := service(t, refusing(t))
			c.Wait = time.Minute
			return c
		}, nil},
		{conntrack.Connecting, func(t *testing.T) ServiceConfig {
			path := filepath.Join(t.TempDir(), "s")
			_, release := fullBacklog(t, path)
			t.Cleanup(release)
			c := service(t)
			c.ConnectTimeout = time.Minute
			c.Pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Path: path}, Weight: 1, Check: balancer.Up}}, 0)
			return c
		}, nil},
	}
	eachEngine(t, func(t *testing.T, engine string) {
		for _, test := range states {
			t.Run(test.state.String(), func(t *testing.T) {
				c := test.config(t)
				s, addr := start(t, Options{Engine: engine, Workers: 2}, c)
				conn := dial(t, addr)
				if test.use != nil {
					test.use(t, conn)
				}
				row := inState(t, s, test.state)
				if row.Network() != "tcp" || row.Listener().String() != addr || row.Client() != conn.LocalAddr().(*net.TCPAddr).AddrPort() {
					t.Errorf("row %+v of %v at %v", row, row.Client(), row.Listener())
				}
				if n := s.Kill(func(r *Row) bool { return r.Client() != row.Client() }); n != 0 {
					t.Errorf("%d flows killed that did not match", n)
				}
				if n := s.Kill(func(*Row) bool { return true }); n != 1 {
					t.Errorf("%d flows killed, want 1", n)
				}
				_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client read %v, want a reset", err)
				}
				svc := s.Services()[0]
				eventually(t, "the flow is gone", func() bool { return s.Open() == 0 && svc.Ended(flow.Killed) == 1 })
				if n := c.Pool.Backends()[0].Active(); n != 0 {
					t.Errorf("the backend has %d flows left", n)
				}
			})
		}
	})
}

// TestKillSparesNewcomers: a flow that begins meanwhile, wherever in the table, is not killed.
func TestKillSparesNewcomers(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 1}, service(t, echo(t)))
		roundTrip(t, dial(t, addr))
		var newcomer *net.TCPConn
		n := s.Kill(func(*Row) bool {
			if newcomer == nil {
				newcomer = dial(t, addr)
				roundTrip(t, newcomer)
			}
			return true
		})
		if n != 1 {
			t.Errorf("%d flows killed, want the one that there was", n)
		}
		roundTrip(t, newcomer)
	})
}

// TestKillQueued: a client that is killed in the queue leaves it to the others.
func TestKillQueued(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := limited(t, 1, newBackend(t))
		c.QueueLength, c.QueueTimeout = 10, time.Minute
		s, addr := start(t, Options{Engine: engine, Workers: 2}, c)
		svc := s.Services()[0]
		holder := dial(t, addr)
		roundTrip(t, holder)
		first := dial(t, addr)
		eventually(t, "one waits", func() bool { return svc.Queued() == 1 })
		second := dial(t, addr)
		eventually(t, "two wait", func() bool { return svc.Queued() == 2 })
		at := first.LocalAddr().(*net.TCPAddr).AddrPort()
		if n := s.Kill(func(r *Row) bool { return r.State == conntrack.Queued && r.Client() == at }); n != 1 {
			t.Fatalf("%d flows killed, want 1", n)
		}
		eventually(t, "one is left", func() bool { return svc.Queued() == 1 })
		holder.Close()
		roundTrip(t, second)
	})
}

// TestKillSession: a udp flow just ends, and the client's next datagram begins another one.
func TestKillSession(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{}, udpEcho(t)))
		conn := dialUDP(t, at)
		roundTrip(t, conn)
		row := inState(t, s, conntrack.Assured)
		if row.Network() != "udp" || row.Tries != 1 || row.Listener().Addr != at {
			t.Errorf("row %+v at %v", row, row.Listener())
		}
		if n := s.Kill(func(*Row) bool { return true }); n != 1 || svc.Ended(flow.Killed) != 1 || s.Open() != 0 {
			t.Errorf("%d flows killed, %d counted, %d open", n, svc.Ended(flow.Killed), s.Open())
		}
		roundTrip(t, conn)
		if n := s.Open(); n != 1 {
			t.Errorf("%d flows, want a new one", n)
		}
	})
}

// TestMeasureIsOfTheFlowOfTheRow: a row whose flow has ended gets nothing of another one.
func TestMeasureIsOfTheFlowOfTheRow(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 1}, service(t, echo(t)))
		conn := dial(t, addr)
		roundTrip(t, conn)
		rows := []Row{inState(t, s, conntrack.Established)}
		s.Measure(rows)
		r := &rows[0]
		if runtime.GOOS == "linux" && (r.RTT <= 0 || r.PacketsUp() < 2 || r.PacketsDown() < 2) {
			t.Errorf("RTT %v, %d segments up, %d down", r.RTT, r.PacketsUp(), r.PacketsDown())
		}
		if to := r.Backend.Endpoint().Addr; r.Target != to || r.Source.Addr() != to.Addr() || r.Source.Port() == 0 {
			t.Errorf("from %v to %v, want to %v", r.Source, r.Target, to)
		}
		if id, err := ParseFlowID(r.FlowID().String()); id != r.FlowID() || err != nil || r.Left >= 0 {
			t.Errorf("id %v is read as %v, %v; %v left", r.FlowID(), id, err, r.Left)
		}
		conn.Close()
		eventually(t, "the flow ends", func() bool { return s.Open() == 0 })
		roundTrip(t, dial(t, addr)) // in the same slot
		if s.Measure(rows); rows[0].RTT != 0 {
			t.Errorf("RTT %v of a flow that has ended", rows[0].RTT)
		}
		old, now := rows[0].FlowID(), inState(t, s, conntrack.Established)
		if ended := s.KillByID([]FlowID{old, {worker: 7, proto: conntrack.TCP}, {slot: 1 << 30, proto: conntrack.UDP}}); ended != nil || s.Open() != 1 {
			t.Errorf("%v ended of flows that there are not, %d open", ended, s.Open())
		}
		if ended := s.KillByID([]FlowID{old, now.FlowID()}); len(ended) != 1 || ended[0] != now.FlowID() {
			t.Errorf("%v ended, want %v", ended, now.FlowID())
		}
	})
}

// TestMeasureSession: a udp flow knows its addresses, its datagrams and the time that is left.
func TestMeasureSession(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, _, at := startUDP(t, engine, udpService(t, UDPConfig{}, udpEcho(t)))
		conn := dialUDP(t, at)
		roundTrip(t, conn)
		roundTrip(t, conn)
		rows := []Row{inState(t, s, conntrack.Assured)}
		s.Measure(rows)
		r := &rows[0]
		if r.PacketsUp() != 2 || r.PacketsDown() != 2 || r.Left <= 0 || r.Source.Port() == 0 || r.Target != r.Backend.Endpoint().Addr {
			t.Errorf("%+v", r.Sockets)
		}
	})
}

func TestRowListener(t *testing.T) {
	t.Parallel()
	tcp := func(at string, v6only bool) Listener {
		return Listener{Network: "tcp", Addr: netip.MustParseAddrPort(at), V6Only: v6only}
	}
	ranged := tcp("127.0.0.1:1000", false)
	ranged.Ports = 10
	for _, test := range []struct {
		listeners []Listener
		local     string
		want      string
	}{
		{[]Listener{tcp("[::]:80", false)}, "127.0.0.1:80", ":80"},
		{[]Listener{tcp("[::]:80", false)}, "[::1]:80", ":80"},
		{[]Listener{tcp("0.0.0.0:80", false)}, "127.0.0.1:80", "0.0.0.0:80"},
		{[]Listener{tcp("[::]:80", true), tcp("0.0.0.0:80", false)}, "127.0.0.1:80", "0.0.0.0:80"},
		{[]Listener{tcp("[::]:80", true), tcp("0.0.0.0:80", false)}, "[::1]:80", "[::]:80"},
		{[]Listener{tcp("[::]:80", false), tcp("127.0.0.1:80", false)}, "127.0.0.1:80", "127.0.0.1:80"},
		{[]Listener{tcp("[::]:80", false)}, "127.0.0.1:81", "127.0.0.1:81"},
		{[]Listener{ranged}, "127.0.0.1:1005", "127.0.0.1:1005"},
		{[]Listener{{Network: "unix", Path: "/run/a"}}, "", "unix:///run/a"},
		{[]Listener{{Network: "unix", Path: "/run/a"}, {Network: "unix", Path: "/run/b"}}, "", "unix://"},
	} {
		c := service(t)
		c.Listeners = test.listeners
		r := Row{}
		r.Service = serviceOf(c)
		if test.local == "" {
			r.Key = conntrack.NewKey(conntrack.Unix, netip.AddrPort{}, netip.AddrPort{})
		} else {
			r.Key = conntrack.NewKey(conntrack.TCP, netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort(test.local))
		}
		if got := r.Listener().String(); got != test.want {
			t.Errorf("%v, asked for %s: %s, want %s", test.listeners, test.local, got, test.want)
		}
	}
}

// TestManyEnd: more flows than end in one turn all end.
func TestManyEnd(t *testing.T) {
	t.Parallel()
	const n = 2*flow.EndShare + 10
	eachEngine(t, func(t *testing.T, engine string) {
		b := newBackend(t)
		s, addr := start(t, Options{Engine: engine, Workers: 2}, service(t, b.addr))
		svc := s.Services()[0]
		for _, end := range []func(){
			func() { s.CutService(svc, flow.Reset) },
			func() { s.CutBackend(svc.Config().Pool.Backends()[0], flow.Fin) },
			func() {
				if killed := s.Kill(func(*Row) bool { return true }); killed != n {
					t.Errorf("%d flows killed, want %d", killed, n)
				}
			},
		} {
			var conns []*net.TCPConn
			for range n {
				conns = append(conns, dial(t, addr))
			}
			for _, c := range conns {
				roundTrip(t, c)
			}
			end()
			for _, c := range conns {
				_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("a flow lives on: %v", err)
				}
				c.Close()
			}
			eventually(t, "all are gone", func() bool { return s.Open() == 0 })
		}
	})
}
