package proxy

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"usher/conntrack"
	"usher/proxy/flow"
)

// reclaiming is a service whose idle flows may make room.
func reclaiming(t *testing.T, after time.Duration) ServiceConfig {
	c := service(t, echo(t))
	c.ReclaimIdle = after
	return c
}

// isEnded reports whether the other side of a connection has closed it.
func isEnded(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	var timeout net.Error
	return err == io.EOF || err != nil && !(errors.As(err, &timeout) && timeout.Timeout())
}

// findRoom connects until there is room: the engine's timers may be late.
func findRoom(t *testing.T, addr string) {
	t.Helper()
	eventually(t, "a newcomer is served", func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		b := []byte("x")
		if _, err := c.Write(b); err != nil {
			return false
		}
		_, err = io.ReadFull(c, b)
		return err == nil
	})
}

// TestLongestIdleIsReclaimed fills a server with connections of different ages of
// silence, one of which was used again after it was marked: newcomers end the others, the
// longest idle first.
func TestLongestIdleIsReclaimed(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const most, after = 4, 300 * time.Millisecond
		s, addr := start(t, Options{Engine: engine, Workers: 1, MaxConns: most}, reclaiming(t, after))
		svc := s.Services()[0]
		all := make([]net.Conn, most)
		var used [most]time.Duration // at the latest
		for i := range all {
			all[i] = dial(t, addr)
			roundTrip(t, all[i])
			used[i] = s.Now()
			if i < most-1 {
				time.Sleep(3 * conntrack.Tick) // or they are alike
			}
		}
		eventually(t, "all have been idle for long enough", func() bool { return s.Now() > used[most-1]+after })
		roundTrip(t, all[0])
		used[0] = s.Now()
		for _, next := range []int{1, 2, 3} {
			findRoom(t, addr)
			eventually(t, "one is ended", func() bool { return svc.Ended(flow.Reclaimed) == uint64(next) })
			gone := 0 // if not the one that is due, another one is reported
			eventually(t, "a client hears of it", func() bool {
				gone = slices.IndexFunc(all, func(c net.Conn) bool { return c != nil && isEnded(c) })
				return gone >= 0
			})
			if s.Now() > used[0]+after {
				t.Skip("this machine is too slow")
			}
			if gone != next {
				t.Fatalf("connection %d has ended, want %d", gone, next)
			}
			all[gone] = nil
		}
	})
}

// TestNoneIsReclaimedTooSoon: without one that has been idle for long enough a newcomer
// is turned away.
func TestNoneIsReclaimedTooSoon(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 2, MaxConns: 1}, reclaiming(t, time.Hour))
		holder := dial(t, addr)
		roundTrip(t, holder)
		wantTurnedAway(t, addr)
		eventually(t, "it is counted", func() bool { return s.Services()[0].Ended(flow.ServerFull) == 1 })
		roundTrip(t, holder)
	})
}

// TestOtherServicesIdleFlowsMakeRoom: a service that has no more than its reserve keeps
// its flows, however idle; one beyond it does not.
func TestOtherServicesIdleFlowsMakeRoom(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const most, after = 8, 100 * time.Millisecond
		modest, greedy, newcomer := reclaiming(t, after), reclaiming(t, after), service(t, echo(t))
		modest.Reserve, greedy.Reserve, newcomer.Reserve = 2, 1, 1
		s, err := newServer(Options{Engine: engine, Workers: 1, MaxConns: most}, modest, greedy, newcomer)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		s.Start()
		addr := func(i int) string { return s.Services()[i].Config().Listeners[0].Addr.String() }
		for range 2 {
			roundTrip(t, dial(t, addr(0)))
		}
		for range 5 {
			roundTrip(t, dial(t, addr(1)))
		}
		full := s.Now()
		eventually(t, "all have been idle for long enough", func() bool { return s.Now() > full+after })
		for range 5 { // the first has its reserve
			findRoom(t, addr(2))
		}
		if a, b := s.Services()[0].Ended(flow.Reclaimed), s.Services()[1].Ended(flow.Reclaimed); a != 0 || b != 4 {
			t.Errorf("%d flows within their reserve and %d beyond were ended", a, b)
		}
	})
}

// TestIdleDatagramsMakeRoomForConnections: answered flows do as well, when they have been
// silent for long enough.
func TestIdleDatagramsMakeRoomForConnections(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, err := newServer(Options{Engine: engine, Workers: 1, MaxConns: 4},
			udpService(t, UDPConfig{}, udpEcho(t)), service(t, echo(t)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		s.Start()
		datagrams, streams := s.Services()[0], s.Services()[1]
		begun := s.Now()
		for range 3 {
			ask(t, dialUDP(t, datagrams.Config().Listeners[0].Addr), "x")
		}
		roundTrip(t, dial(t, streams.Config().Listeners[0].Addr.String()))
		for tries := 1; ; tries++ {
			if c, err := net.Dial("tcp", streams.Config().Listeners[0].Addr.String()); err == nil { // else reset already
				defer c.Close()
				_, _ = c.Write([]byte("x"))
				_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				if n, _ := c.Read(make([]byte, 1)); n == 1 {
					if tries > 1 && streams.Ended(flow.ServerFull) == 0 {
						t.Error("no connection was refused")
					}
					break
				}
			}
			if s.Now() > begun+6*promisedIdleGrace {
				t.Fatal("no idle flow makes room")
			}
			time.Sleep(50 * time.Millisecond)
		}
		if took := s.Now() - begun; took < promisedIdleGrace || datagrams.Ended(flow.Evicted) != 1 {
			t.Errorf("after %v: %d evicted, %d refused", took, datagrams.Ended(flow.Evicted), streams.Ended(flow.ServerFull))
		}
	})
}

// TestOneAddressHasItsShare: a client address gets half of a service's flows, and others
// find room beside it.
func TestOneAddressHasItsShare(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const most = 2 * (64 + 1) // the least share of a client is 64
		_, svc, at := startUDP(t, engine, udpService(t, UDPConfig{MaxFlows: most}, udpEcho(t)))
		share := svc.ClientShare()
		for range share {
			ask(t, dialUDP(t, at), "x")
		}
		// On a slow machine its first flows are idle by now, and make way before it is refused.
		eventually(t, "it is refused", func() bool {
			say(t, dialUDP(t, at), "x")
			return svc.Ended(flow.ClientFull) > 0
		})
		if share != most/2 || svc.Active() != most/2 {
			t.Errorf("%d flows with a share of %d, want %d", svc.Active(), share, most/2)
		}
		other, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}, net.UDPAddrFromAddrPort(at))
		if err != nil {
			t.Skip(err)
		}
		defer other.Close()
		ask(t, other, "x")
	})
}

// TestDatagramsReclaimNoMoreThanTheyNeed: one client of a full server, however often it
// asks before it has its place, ends one idle connection.
func TestDatagramsReclaimNoMoreThanTheyNeed(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const most, after = 20, 50 * time.Millisecond
		streams, datagrams := reclaiming(t, after), udpService(t, UDPConfig{}, udpEcho(t))
		streams.Reserve, datagrams.Reserve = 1, 1
		s, err := newServer(Options{Engine: engine, Workers: 1, MaxConns: most}, streams, datagrams)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		s.Start()
		ask(t, dialUDP(t, s.Services()[1].Config().Listeners[0].Addr), "x") // its reserve
		for range most - 1 {
			roundTrip(t, dial(t, s.Services()[0].Config().Listeners[0].Addr.String()))
		}
		full := s.Now()
		eventually(t, "all have been idle for long enough", func() bool { return s.Now() > full+after })
		c := dialUDP(t, s.Services()[1].Config().Listeners[0].Addr)
		for range 100 {
			say(t, c, "x")
		}
		eventually(t, "it has its place", func() bool {
			say(t, c, "x")
			return s.Services()[1].Active() == 2
		})
		if n := s.Services()[0].Ended(flow.Reclaimed); n != 1 {
			t.Errorf("%d connections were ended for one client", n)
		}
	})
}
