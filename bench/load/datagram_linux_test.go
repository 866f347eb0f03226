package load

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var two = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}

// TestLoss runs against a proxy that loses datagrams: each loss is counted,
// and the window is full again.
func TestLoss(t *testing.T) {
	t.Parallel()
	const every = 10
	for _, direction := range []string{"up", "down"} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			c := Config{
				Kind: UDP, Conns: 3, Window: 7, Size: 64,
				Warmup: 50 * time.Millisecond, Duration: 300 * time.Millisecond,
				Sources: two, Backends: loopback,
			}
			g := newGenerator(t, c)
			g.datagrams.patience = 20 * time.Millisecond
			var seen, dropped atomic.Int64
			f := forwardDatagrams(t, g.Backends(), func(s *session, up bool, p []byte) {
				if up == (direction == "up") && seen.Add(1)%every == 0 {
					dropped.Add(1)
					return
				}
				s.pass(up, p)
			})
			nothing := func() error { return nil }
			r, err := g.Run(f.addr, nothing, nothing)
			if err != nil {
				t.Fatal(err)
			}
			if r.Units == 0 || r.Lost == 0 {
				t.Errorf("%d replies, %d lost", r.Units, r.Lost)
			}
			// A dropped request is missing or still waits. A missing one was dropped,
			// or its reply is late.
			window := int64(c.Conns * c.Window)
			x := &g.datagrams
			for deadline := time.Now().Add(time.Minute); ; g.poll(time.Millisecond) {
				n, missing := dropped.Load(), x.missing()
				if g.err == nil && missing >= n-window && missing <= n+window {
					break
				}
				if g.err != nil || time.Now().After(deadline) {
					t.Fatalf("%d missing (%d overdue, %d of them late), %d dropped, %d in flight: %v",
						missing, x.overdue, x.late, n, window, g.err)
				}
			}
			if r.Lost > x.overdue {
				t.Errorf("%d lost in the measured time, %d overdue in all", r.Lost, x.overdue)
			}
			for i := range x.requests {
				if !x.requests[i].waiting {
					t.Fatalf("request %d of the window is not in flight", i)
				}
			}
		})
	}
}

// TestStall has the load read replies that are older than its patience.
func TestStall(t *testing.T) {
	t.Parallel()
	g := newGenerator(t, Config{
		Kind: UDP, Conns: 4, Window: 4, Size: 64, Duration: time.Second,
		Sources: two, Backends: loopback,
	})
	g.target = rawAddr(g.Backends()[0])
	g.want, g.window = 4, 4
	g.openMore()
	g.base = g.base.Add(-10 * Patience) // as if it had slept
	before := g.units
	for g.units == before && g.err == nil {
		g.poll(time.Second)
	}
	if g.err != nil || g.datagrams.overdue != 0 {
		t.Errorf("%d lost, error %v, want none", g.datagrams.overdue, g.err)
	}
}

// TestMoreThanABatch has more datagrams come to one socket than a batch takes.
// They may arrive in one event, and all must be served.
func TestMoreThanABatch(t *testing.T) {
	t.Parallel()
	const n = batchSize + 10
	const limit = 10 * time.Second
	g := newGenerator(t, Config{
		Kind: UDP, Conns: 1, Window: n, Size: 64, Duration: time.Second,
		Sources: two, Backends: loopback,
	})
	g.datagrams.patience = time.Hour
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	send := func(p string, to netip.AddrPort) {
		if _, err := peer.WriteToUDPAddrPort([]byte(p), to); err != nil {
			t.Fatal(err)
		}
	}
	// read takes n datagrams while the generator does its turns.
	read := func() map[string]netip.AddrPort {
		seen := make(map[string]netip.AddrPort)
		if err := peer.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			p := make([]byte, 100)
			for range n {
				size, from, err := peer.ReadFromUDPAddrPort(p)
				if err != nil {
					done <- err
					return
				}
				seen[string(p[:size])] = from
			}
			done <- nil
		}()
		for {
			g.poll(time.Millisecond)
			select {
			case err := <-done:
				if err = errors.Join(err, g.err); err != nil || len(seen) != n {
					t.Fatalf("%d different datagrams came, want %d: %v", len(seen), n, err)
				}
				return seen
			default:
			}
		}
	}

	g.target = rawAddr(peer.LocalAddr().(*net.UDPAddr).AddrPort())
	g.want, g.window = 1, 1
	g.openMore()
	requests := read()
	for p, client := range requests {
		send(p, client)
	}
	read() // a request for each reply
	if g.units != n {
		t.Errorf("%d replies counted, want %d", g.units, n)
	}
	for p := range requests {
		send(p, g.Backends()[0])
	}
	for p, from := range read() {
		if _, ok := requests[p]; !ok || from != g.Backends()[0] {
			t.Errorf("%q from %s was not sent there", p, from)
		}
	}
}

// TestRunSeesMeddling runs against proxies that alter, misdirect or multiply
// datagrams.
func TestRunSeesMeddling(t *testing.T) {
	t.Parallel()
	var last atomic.Pointer[session] // of the crossed
	for name, tt := range map[string]struct {
		meddle meddle
		want   string
	}{
		"cut request": {func(s *session, up bool, p []byte) {
			if up {
				p = p[:len(p)-1]
			}
			s.pass(up, p)
		}, "backend: a request of 63 bytes"},
		"long request": {func(s *session, up bool, p []byte) {
			if up {
				p = append(p, p...)
			}
			s.pass(up, p)
		}, "backend: a request of"},
		"cut reply": {func(s *session, up bool, p []byte) {
			if !up {
				p = p[:len(p)-1]
			}
			s.pass(up, p)
		}, "a reply of 63 bytes"},
		"long reply": {func(s *session, up bool, p []byte) {
			if !up {
				p = append(p, p...)
			}
			s.pass(up, p)
		}, "a reply of 64 bytes or more"},
		"reply twice": {func(s *session, up bool, p []byte) {
			s.pass(up, p)
			if !up {
				s.pass(up, p)
			}
		}, errTwice.Error()},
		"request twice": {func(s *session, up bool, p []byte) {
			s.pass(up, p)
			if up {
				s.pass(up, p)
			}
		}, errTwice.Error()},
		"crossed": {func(s *session, up bool, p []byte) {
			if before := last.Swap(s); !up && before != nil {
				s = before
			}
			s.pass(up, p)
		}, errCrossed.Error()},
		"rubbish": {func(s *session, up bool, p []byte) {
			if !up {
				clear(p)
			}
			s.pass(up, p)
		}, errUnasked.Error()},
		"ahead": {func(s *session, up bool, p []byte) {
			if !up {
				p[4]++ // the turn
			}
			s.pass(up, p)
		}, errUnasked.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGenerator(t, Config{
				Kind: UDP, Conns: 2, Window: 4, Size: 64, Duration: 20 * time.Second,
				Sources: two, Backends: loopback,
			})
			f := forwardDatagrams(t, g.Backends(), tt.meddle)
			nothing := func() error { return nil }
			if r, err := g.Run(f.addr, nothing, nothing); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v, want an error with %q", r, err, tt.want)
			}
		})
	}
}

func TestRunSeesRefusal(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Kind: UDP, Window: 4}, {Kind: UDPIdle}} {
		t.Run(string(c.Kind), func(t *testing.T) {
			t.Parallel()
			c.Conns, c.Size, c.Duration, c.Sources, c.Backends = 2, 64, 20*time.Second, two, loopback
			g := newGenerator(t, c)
			nothing := func() error { return nil }
			if r, err := g.Run(boundOnly(t, UDP), nothing, nothing); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("got %+v, %v, want an error", r, err)
			}
		})
	}
}

// TestCheckDrops floods a backend that has no room and is not served.
func TestCheckDrops(t *testing.T) {
	t.Parallel()
	g := newGenerator(t, Config{
		Kind: UDP, Conns: 1, Window: 1, Size: 1200, Duration: time.Second,
		Sources: two, Backends: loopback,
	})
	if err := g.checkDrops(); err != nil {
		t.Fatal(err)
	}
	for fd := range g.loop.conns {
		if g.loop.conns[fd].role != mirror {
			continue
		}
		if errno := setOption(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); errno != 0 {
			t.Fatal(errno)
		}
	}
	c, err := net.Dial("udp4", g.Backends()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 100 {
		if _, err := c.Write(make([]byte, 1200)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.checkDrops(); err == nil || !strings.Contains(err.Error(), "dropped") {
		t.Errorf("got %v, want an error about what was dropped", err)
	}
}

// meddle decides how a datagram is handled; nil passes it.
type meddle func(s *session, up bool, p []byte)

// session is a flow of a forwarder.
type session struct {
	f        *forwarder
	front    *net.UDPConn
	client   netip.AddrPort
	upstream *net.UDPConn
}

// pass sends p on. It counts first, so that the receiver never sees an uncounted
// datagram. A closed side is no error.
func (s *session) pass(up bool, p []byte) {
	if up {
		s.f.up.Add(int64(len(p)))
		_, _ = s.upstream.Write(p)
		return
	}
	s.f.down.Add(int64(len(p)))
	_, _ = s.front.WriteToUDPAddrPort(p, s.client)
}

// forwardDatagrams is a minimal UDP proxy: a socket and a goroutine a flow.
func forwardDatagrams(t *testing.T, backends []netip.AddrPort, m meddle) *forwarder {
	t.Helper()
	if m == nil {
		m = (*session).pass
	}
	const buffer = 1 << 20
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := front.SetReadBuffer(buffer); err != nil {
		t.Fatal(err)
	}
	f := &forwarder{addr: front.LocalAddr().(*net.UDPAddr).AddrPort()}
	var all sync.WaitGroup
	all.Go(func() {
		sessions := make(map[netip.AddrPort]*session)
		defer func() {
			for _, s := range sessions {
				s.upstream.Close()
			}
		}()
		p := make([]byte, 1<<16)
		for {
			n, client, err := front.ReadFromUDPAddrPort(p)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // an ICMP error of a closed client
			}
			s := sessions[client]
			if s == nil {
				to := backends[len(sessions)%len(backends)]
				upstream, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
				if err != nil {
					t.Error(err)
					return
				}
				_ = upstream.SetReadBuffer(buffer) // less is enough
				s = &session{f, front, client, upstream}
				sessions[client] = s
				f.conns.Add(1)
				all.Go(func() {
					p := make([]byte, 1<<16)
					for {
						n, err := upstream.Read(p)
						if errors.Is(err, net.ErrClosed) {
							return
						}
						if err == nil {
							m(s, false, p[:n])
						}
					}
				})
			}
			m(s, true, p[:n])
		}
	})
	t.Cleanup(func() {
		front.Close()
		all.Wait()
	})
	return f
}
