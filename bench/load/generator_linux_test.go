package load

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

// TestRun drives a plain forwarder with each kind of load.
func TestRun(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{
		{Kind: CRR, Conns: 4, Size: 64},
		{Kind: PingPong, Conns: 100, Size: 64}, // more than the ramp's window
		{Kind: PingPong, Conns: 4, Size: maxMessage},
		{Kind: BulkUp, Conns: 2, Size: 64 << 10},
		{Kind: BulkDown, Conns: 2, Size: 64 << 10},
		{Kind: Idle, Conns: 100, Size: 1},
		{Kind: UDP, Conns: 100, Window: 2, Size: stampSize},
		{Kind: UDP, Conns: 2, Window: batchSize + 36, Size: 128},
		{Kind: UDP, Conns: 2, Window: 2, Size: maxDatagram},
		{Kind: UDPIdle, Conns: 100, Size: 64},
	} {
		t.Run(fmt.Sprintf("%s %d", c.Kind, c.Size), func(t *testing.T) {
			t.Parallel()
			c.Warmup, c.Duration = 20*time.Millisecond, 100*time.Millisecond
			c.Sources = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}
			c.Backends = []netip.Addr{netip.MustParseAddr("127.0.1.1"), netip.MustParseAddr("127.0.1.2")}
			g := newGenerator(t, c)
			var f *forwarder
			if c.Kind.isUDP() {
				f = forwardDatagrams(t, g.Backends(), nil)
			} else {
				f = forward(t, g.Backends())
			}

			var marks []string
			mark := func(name string) func() error {
				return func() error { marks = append(marks, name); return nil }
			}
			r, err := g.Run(f.addr, mark("begin"), mark("end"))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(marks, " "); got != "begin end" {
				t.Errorf("marks %q, want begin and end once each", got)
			}
			if r.Errors != 0 {
				t.Errorf("%d errors: %s", r.Errors, r.Error)
			}
			if c.Kind.IsIdle() {
				if r.Units != int64(c.Conns) {
					t.Errorf("%d connections held, want %d", r.Units, c.Conns)
				}
			} else if r.Elapsed < c.Duration {
				t.Errorf("measured %v, want at least %v", r.Elapsed, c.Duration)
			}
			if r.Units == 0 {
				t.Error("no unit of work done")
			}
			if timed := !c.Kind.IsBulk(); timed != (r.P50 > 0) || r.P99 < r.P50 {
				t.Errorf("p50 %v, p99 %v", r.P50, r.P99)
			}

			// The forwarder saw all that the clients report.
			up, down, conns := f.up.Load(), f.down.Load(), f.conns.Load()
			switch c.Kind {
			case CRR:
				if conns < r.Units {
					t.Errorf("%d replies over %d connections", r.Units, conns)
				}
			case PingPong, UDP:
				if n := r.Units * int64(c.Size); up < n || down < n {
					t.Errorf("%d replies, but %d bytes up and %d down", r.Units, up, down)
				}
			case BulkUp:
				if up < r.Units || down != 0 {
					t.Errorf("%d bytes read, but %d up and %d down", r.Units, up, down)
				}
			case BulkDown:
				if down < r.Units || up != 0 {
					t.Errorf("%d bytes read, but %d up and %d down", r.Units, up, down)
				}
			case Idle, UDPIdle:
				want := int64(c.Conns + idleWarmup)
				bytes := want * int64(c.Size)
				again := g.datagrams.overdue * int64(c.Size)
				if conns != want || up < bytes || up > bytes+again || down < bytes || down > bytes+again {
					t.Errorf("%d connections, %d bytes up, %d down, want %d, and %d bytes to %d", conns, up, down, want, bytes, bytes+again)
				}
			}
		})
	}
}

// TestRunSeesFailure runs against a proxy that refuses and one that hangs up.
func TestRunSeesFailure(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	})
	t.Cleanup(func() { ln.Close(); accepting.Wait() })
	hangsUp := netip.MustParseAddrPort(ln.Addr().String())

	refusing := boundOnly(t, CRR)

	for _, kind := range []Kind{CRR, PingPong, BulkUp, BulkDown, Idle} {
		for name, target := range map[string]netip.AddrPort{"hangs up": hangsUp, "refuses": refusing} {
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				t.Parallel()
				g := newGenerator(t, Config{
					Kind: kind, Conns: 2, Size: 64, Duration: 20 * time.Second,
					Sources: loopback, Backends: loopback,
				})
				nothing := func() error { return nil }
				if r, err := g.Run(target, nothing, nothing); err == nil {
					t.Errorf("got %+v, want an error", r)
				}
			})
		}
	}
}

func TestRunMarkError(t *testing.T) {
	t.Parallel()
	g := newGenerator(t, Config{
		Kind: PingPong, Conns: 1, Size: 64, Duration: time.Millisecond,
		Sources: loopback, Backends: loopback,
	})
	sentinel := errors.New("no such process")
	fine, bad := func() error { return nil }, func() error { return sentinel }
	if _, err := g.Run(g.Backends()[0], bad, fine); !errors.Is(err, sentinel) {
		t.Errorf("got %v from begin, want %v", err, sentinel)
	}
}

// TestNoAllocation connects the clients to the backends without a proxy, whose
// allocations would count too. For the same reason it is not parallel.
func TestNoAllocation(t *testing.T) {
	for _, kind := range []Kind{CRR, PingPong, BulkUp, BulkDown, UDP} {
		t.Run(string(kind), func(t *testing.T) {
			c := Config{
				Kind: kind, Conns: 4, Size: 64, Duration: time.Second,
				Sources: loopback, Backends: loopback,
			}
			if kind == UDP {
				c.Window = 8
			}
			g := newGenerator(t, c)
			g.target = rawAddr(g.Backends()[0])
			g.want, g.window = 4, 4
			if kind == CRR {
				g.want = 1 << 30
			}
			g.openMore()
			before := g.units
			allocs := testing.AllocsPerRun(500, func() { g.poll(10 * time.Millisecond) })
			if g.err != nil {
				t.Fatal(g.err)
			}
			if g.units == before {
				t.Error("no unit of work done")
			}
			if allocs != 0 {
				t.Errorf("%v allocations a turn, want none", allocs)
			}
		})
	}
}

// TestFlood has allowed and denied clients come to a backend, which knows no difference. Only runs
// with the flood have it, and none of it is left.
func TestFlood(t *testing.T) {
	t.Parallel()
	g := newGenerator(t, Config{
		Kind: CRR, Conns: 100, Size: 64, Duration: 50 * time.Millisecond, Pace: time.Millisecond,
		Sources: loopback, Backends: loopback, Denied: []netip.Addr{netip.MustParseAddr("127.0.0.9")},
	})
	nothing := func() error { return nil }
	for _, isOn := range []bool{false, true, false} {
		g.Flood(isOn)
		r, err := g.Run(g.Backends()[0], nothing, nothing)
		if err != nil {
			t.Fatal(err)
		}
		if r.Flooded > 0 != isOn || !isOn && r.Units == 0 || len(g.flood.fds) > 0 {
			t.Errorf("flood %v: %d denied clients, %d units, %d are left", isOn, r.Flooded, r.Units, len(g.flood.fds))
		}
		if r.P99 < r.P50 {
			t.Errorf("p50 %v, p99 %v", r.P50, r.P99)
		}
	}
}

func newGenerator(t *testing.T, c Config) *Generator {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// boundOnly returns an address that refuses a kind of load until the test ends. Its
// socket is bound and does not listen, or is connected to another address.
func boundOnly(t *testing.T, k Kind) netip.AddrPort {
	t.Helper()
	fd, errno := socket(k)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback[0].As4()}); err != nil {
		t.Fatal(err)
	}
	if k.isUDP() {
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9}); err != nil {
			t.Fatal(err)
		}
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(loopback[0], uint16(sa.(*unix.SockaddrInet4).Port))
}

// forwarder is a minimal proxy: two goroutines a connection.
type forwarder struct {
	addr            netip.AddrPort
	conns, up, down atomic.Int64
}

func forward(t *testing.T, backends []netip.AddrPort) *forwarder {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{addr: netip.MustParseAddrPort(ln.Addr().String())}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	stopped := false
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		if open = append(open, c); stopped {
			c.Close()
		}
	}
	all.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			keep(client)
			n := f.conns.Add(1)
			all.Go(func() {
				defer client.Close()
				backend, err := net.Dial("tcp4", backends[n%int64(len(backends))].String())
				if err != nil {
					return
				}
				keep(backend)
				defer backend.Close()
				down := make(chan struct{})
				all.Go(func() {
					defer close(down)
					relay(client, backend, &f.down)
				})
				relay(backend, client, &f.up)
				<-down
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		stopped = true
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return f
}

// relay copies until the end of src and passes that on. It counts before it writes, so
// that the receiver never sees an uncounted byte.
func relay(dst, src net.Conn, count *atomic.Int64) {
	defer dst.(*net.TCPConn).CloseWrite()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		count.Add(int64(n))
		if _, werr := dst.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}
