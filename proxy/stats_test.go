package proxy

import (
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
)

// TestCountersOfRunningFlows: what a flow has carried is counted while it runs, for its
// service and its backend, and once.
func TestCountersOfRunningFlows(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		tcp, udp := service(t, echo(t)), udpService(t, UDPConfig{}, udpEcho(t))
		tcp.CountsPackets = true
		s, err := newServer(Options{Engine: engine, Workers: 2}, tcp, udp)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		s.Start()
		for i, network := range []string{"tcp", "udp"} {
			svc := s.Services()[i]
			conn, err := net.Dial(network, svc.Config().Listeners[0].Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			has := func(n uint64) func() bool {
				return func() bool {
					s.CountBytes()
					up, down := svc.Bytes()
					backendUp, backendDown := svc.Config().Pool.Backends()[0].Bytes()
					return up == n && down == n && backendUp == n && backendDown == n
				}
			}
			roundTrip(t, conn)
			eventually(t, network+": one byte is counted each way", has(1))
			roundTrip(t, conn)
			eventually(t, network+": two bytes are counted each way", has(2))
			live, _ := svc.Packets()
			s.Kill(func(r *Row) bool { return r.Service == svc })
			eventually(t, network+": the end counts nothing twice", func() bool { return svc.Active() == 0 && has(2)() })
			in, out := svc.Packets()
			b := svc.Config().Pool.Backends()[0]
			if bin, bout := b.Packets(); in != bin || out != bout || in < live || network == "udp" && (in != 2 || out != 2 || live != 2) {
				t.Errorf("%s: %d and %d packets, %d in while it ran, of the backend %d and %d", network, in, out, live, bin, bout)
			}
			// The handshake's SYN, two bytes and their acknowledgements; the client may delay the last one.
			if runtime.GOOS == "linux" && network == "tcp" && (live < 3 || in > 8 || out < 3 || out > 8) {
				t.Errorf("%d segments from the client, %d to it, %d while it ran", in, out, live)
			}
			if n := count(svc.Lifetimes()); n != 1 {
				t.Errorf("%s: %d lifetimes", network, n)
			}
		}
		svc := s.Services()[0]
		b := svc.Config().Pool.Backends()[0]
		if n, m := count(svc.Connects()), count(b.Connects()); n != 1 || m != 1 || b.ConnectTime() <= 0 {
			t.Errorf("%d and %d connects, in %v", n, m, b.ConnectTime())
		}
	})
}

func count(h balancer.HistogramCounts) (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// TestCountersNeverGoBack has flows come and go while readers look. In the end every byte is
// counted once.
func TestCountersNeverGoBack(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const clients, rounds, size = 8, 20, 3000
		s, addr := start(t, Options{Engine: engine, Workers: 2}, service(t, echo(t)))
		svc := s.Services()[0]
		var over atomic.Bool
		var readers, all sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				for last := uint64(0); !over.Load(); {
					s.whileRunning(s.engine.countBytes) // at once, and in two goroutines
					up, down := svc.Bytes()
					if up+down < last {
						t.Errorf("the counters went back from %d to %d", last, up+down)
					}
					last = up + down
				}
			})
		}
		for range clients {
			all.Go(func() {
				for range rounds {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = c.Write(make([]byte, size))
					_ = c.(*net.TCPConn).CloseWrite()
					if n, err := io.Copy(io.Discard, c); n != size || err != nil {
						t.Errorf("%d bytes came back, then %v", n, err)
					}
					c.Close()
				}
			})
		}
		all.Wait()
		eventually(t, "all flows end", func() bool { return s.Open() == 0 })
		over.Store(true)
		readers.Wait()
		b := svc.Config().Pool.Backends()[0]
		for _, counted := range []func() (up, down uint64){svc.Bytes, b.Bytes} {
			if up, down := counted(); up != clients*rounds*size || down != up {
				t.Errorf("%d and %d bytes are counted, want %d", up, down, clients*rounds*size)
			}
		}
		if n := svc.Ended(flow.Finished); n != clients*rounds {
			t.Errorf("%d flows ended in good order, want %d", n, clients*rounds)
		}
	})
}

// TestLoopLoad: the longest turn is forgotten after one window, at the latest after two.
func TestLoopLoad(t *testing.T) {
	t.Parallel()
	var l loopLoad
	at := func(window float64) time.Duration { return time.Duration(window * float64(loadWindow)) }
	for _, step := range []struct {
		window        float64
		turn, longest time.Duration
	}{
		{0.1, 5, 5}, {0.2, 9, 9}, {0.3, 2, 9}, {1.1, 3, 9}, {1.9, 4, 9}, {2.0, 1, 4}, {3.1, 2, 2}, {7.0, 1, 1}, {8.5, 3, 3}, {10.5, 1, 1},
	} {
		l.observe(step.turn, at(step.window))
		if got := l.longestTurn(at(step.window)); got != step.longest {
			t.Errorf("at %v windows the longest turn is %d, want %d", step.window, got, step.longest)
		}
	}
	if got := l.longestTurn(at(12.5)); got != 0 {
		t.Errorf("after a long sleep the longest turn is %d", got)
	}
	if got := l.busy.Load(); got != 31 {
		t.Errorf("the loop was busy for %d, want 31", got)
	}
}

// TestWorkers: loops that carry something are busy, and know what they have.
func TestWorkers(t *testing.T) {
	t.Parallel()
	if err := probeEpoll(); err != nil {
		t.Skip(err)
	}
	s, addr := start(t, Options{Engine: "epoll", Workers: 2}, service(t, echo(t)))
	for range 4 {
		roundTrip(t, dial(t, addr))
	}
	busy, connections := time.Duration(0), 0
	for _, w := range s.Workers() {
		busy += w.Busy
		connections += w.Connections
		if w.LongestTurn > w.Busy || w.Sessions != 0 {
			t.Errorf("%+v", w)
		}
	}
	if connections != 4 || busy <= 0 || s.MaxConns() <= 4 {
		t.Errorf("%d connections of %d, busy for %v", connections, s.MaxConns(), busy)
	}
}
