package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
)

// late answers a request only when so many more have come, so that whoever makes
// room for newcomers too soon is never served.
func late(t testing.TB, behind int) netip.AddrPort {
	type request struct {
		text string
		from netip.AddrPort
	}
	var held []request
	_, at := udpBackend(t, func(c *net.UDPConn, p []byte, from netip.AddrPort) {
		held = append(held, request{string(p), from})
		if len(held) > behind {
			_, _ = c.WriteToUDPAddrPort([]byte(held[0].text), held[0].from)
			held = held[1:]
		}
	})
	return at
}

// TestCrowdIsServed has ten times more clients than flows, all of which ask again
// and again: those that were let in get their answers and make room for the others.
func TestCrowdIsServed(t *testing.T) {
	t.Parallel()
	const flows = 8
	for _, limit := range []string{"service", "server"} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) {
				c := udpService(t, UDPConfig{IdleTimeout: 100 * time.Millisecond}, late(t, 2*flows))
				o := Options{Engine: engine, Workers: 2}
				full := flow.ServiceFull
				if limit == "service" {
					c.UDP.MaxFlows = flows
				} else {
					full = flow.ServerFull
					o.MaxConns = flows
				}
				s, _ := start(t, o, c)
				svc := s.Services()[0]
				var clients sync.WaitGroup
				stop := time.Now().Add(time.Minute)
				for range 10 * flows {
					c := dialUDP(t, svc.Config().Listeners[0].Addr)
					clients.Go(func() {
						text, buffer := c.LocalAddr().String(), make([]byte, 100)
						for time.Now().Before(stop) {
							if _, err := c.Write([]byte(text)); err != nil {
								t.Error(err)
								return
							}
							_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
							n, err := c.Read(buffer)
							if err == nil && string(buffer[:n]) == text {
								return
							}
							// A late reply to a port that was another client's is as good as none.
							if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
								t.Error(err)
								return
							}
						}
						t.Errorf("%s was never answered; %d flows fell silent, %d were evicted, %d refused",
							text, svc.Ended(flow.IdleTimeout), svc.Ended(flow.Evicted), svc.Ended(full))
					})
				}
				clients.Wait()
				if svc.Ended(full) == 0 || svc.Dropped(flow.DropRefused) == 0 {
					t.Errorf("%d clients and %d datagrams were refused", svc.Ended(full), svc.Dropped(flow.DropRefused))
				}
			})
		})
	}
}

// TestSilentFlowMakesRoomAfterItsGrace fills a service with a flow that gets no
// answer: a newcomer is refused at first, and has its place later.
func TestSilentFlowMakesRoomAfterItsGrace(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		_, at := udpBackend(t, func(c *net.UDPConn, p []byte, from netip.AddrPort) {
			if string(p) != "mute" {
				_, _ = c.WriteToUDPAddrPort(p, from)
			}
		})
		s, svc, addr := startUDP(t, engine, udpService(t, UDPConfig{MaxFlows: 1}, at))
		silent, other := dialUDP(t, addr), dialUDP(t, addr)
		before := s.Now()
		say(t, silent, "mute")
		eventually(t, "a flow has the place", func() bool { return svc.Active() == 1 })
		say(t, other, "who?")
		eventually(t, "the newcomer has been heard", func() bool { return svc.Ended(flow.ServiceFull)+svc.Ended(flow.Evicted) > 0 })
		// On a slow machine the grace is over when the newcomer comes.
		if s.Now() < before+promisedGrace && svc.Ended(flow.ServiceFull) == 0 {
			t.Error("the newcomer was not refused")
		}
		for {
			say(t, other, "who?")
			_ = other.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			var b [10]byte
			if _, err := other.Read(b[:]); err == nil {
				break
			}
			if s.Now() > before+30*time.Second {
				t.Fatal("the silent flow keeps its place")
			}
		}
		if took := s.Now() - before; took < promisedGrace || svc.Ended(flow.Evicted) != 1 {
			t.Errorf("a place after %v: %d evicted, %d refused", took, svc.Ended(flow.Evicted), svc.Ended(flow.ServiceFull))
		}
	})
}

// TestNoFlowStaysWithABackendThatIsDown begins one while both are down, when clients
// are sent to them anyway. It must move as soon as one is back.
func TestNoFlowStaysWithABackendThatIsDown(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		_, at1 := udpNamed(t, "a")
		_, at2 := udpNamed(t, "b")
		_, svc, addr := startUDP(t, engine, udpService(t, UDPConfig{}, at1, at2))
		both := svc.Config().Pool.Backends()
		for _, b := range both {
			setStatus(svc.Config().Pool, b, balancer.Down)
		}
		c := dialUDP(t, addr)
		first := ask(t, c, "who?")
		if got := ask(t, c, "who?"); got != first {
			t.Errorf("all are down, and %q answers after %q", got, first)
		}
		own, other := both[0], both[1]
		if first[0] == 'b' {
			own, other = other, own
		}
		setStatus(svc.Config().Pool, other, balancer.Up)
		second := ask(t, c, "who?")
		if second[0] == first[0] {
			t.Errorf("%q answers after %q, whose backend is down", second, first)
		}
		// What becomes of a flow whose backend goes down later is not for the data path
		// to decide: CutBackend may never be called.
		setStatus(svc.Config().Pool, own, balancer.Up)
		setStatus(svc.Config().Pool, other, balancer.Down)
		if got := ask(t, c, "who?"); got != second {
			t.Errorf("%q answers after %q, which was to be kept", got, second)
		}
	})
}

// TestBroadcastIsAnswered: the reply to a broadcast comes from an address of the
// machine, for nobody can send from the one asked.
func TestBroadcastIsAnswered(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"[::]:0", "0.0.0.0:0"} {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) {
				config := udpService(t, UDPConfig{}, udpEcho(t))
				config.Listeners[0].Addr = netip.MustParseAddrPort(listen)
				_, _, at := startUDP(t, engine, config)
				c, err := net.ListenUDP("udp4", nil)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				to := netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), at.Port())
				for i := range 2 {
					if _, err := c.WriteToUDPAddrPort([]byte("anybody?"), to); err != nil {
						t.Skipf("no broadcast here: %v", err)
					}
					_ = c.SetReadDeadline(time.Now().Add(time.Minute))
					var b [100]byte
					n, from, err := c.ReadFromUDPAddrPort(b[:])
					if err != nil || string(b[:n]) != "anybody?" || from.Port() != at.Port() {
						t.Fatalf("reply %d: %q from %v, %v", i, b[:n], from, err)
					}
				}
			})
		})
	}
}

// TestSilentFlowsGiveWayToConnections fills a server with flows that get no answer. A
// client of a tcp service is served for all that, when they have waited long enough.
func TestSilentFlowsGiveWayToConnections(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const most = 6
		_, mute := udpBackend(t, func(*net.UDPConn, []byte, netip.AddrPort) {})
		s, err := newServer(Options{Engine: engine, Workers: 2, MaxConns: most},
			udpService(t, UDPConfig{}, mute), service(t, echo(t)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		s.Start()
		datagrams, streams := s.Services()[0], s.Services()[1]
		begun, refused := s.Now(), 0
		for range most {
			say(t, dialUDP(t, datagrams.Config().Listeners[0].Addr), "x")
		}
		reserve, _ := streams.Shares()
		for range reserve { // which the others cannot take
			roundTrip(t, dial(t, streams.Config().Listeners[0].Addr.String()))
		}
		eventually(t, "the server is full", func() bool { return s.Open() == most })
		try := func() bool {
			c, err := net.Dial("tcp", streams.Config().Listeners[0].Addr.String())
			if err != nil {
				refused++ // reset before Dial saw that it was accepted
				return false
			}
			defer c.Close()
			_, _ = c.Write([]byte("x"))
			var b [1]byte
			if n, _ := c.Read(b[:]); n == 1 {
				return true
			}
			refused++
			return false
		}
		eventually(t, "a connection gets through", try)
		if took := s.Now() - begun; took < promisedGrace || datagrams.Ended(flow.Evicted) == 0 {
			t.Errorf("after %v: %d refused, %d evicted", took, refused, datagrams.Ended(flow.Evicted))
		}
	})
}
