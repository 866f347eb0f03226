package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
)

func TestDeadBackendLosesItsFlows(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		dead, at1 := udpNamed(t, "dead")
		_, at2 := udpNamed(t, "alive")
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{}, at1, at2))
		var c *net.UDPConn
		for {
			if c = dialUDP(t, at); strings.HasPrefix(ask(t, c, "who?"), "dead") {
				break
			}
		}
		dead.Close()
		// No reply vouches for the backend any more: what meets the refusal is not lost.
		time.Sleep(2 * promisedVouch)
		if got := ask(t, c, "who?"); !strings.HasPrefix(got, "alive") {
			t.Errorf("answered by %q", got)
		}
		failed := svc.Config().Pool.Backends()[0].Failures
		eventually(t, "the refusal is heard", func() bool { return failed() == 1 })
		if got := ask(t, c, "who?"); !strings.HasPrefix(got, "alive") {
			t.Errorf("answered by %q", got)
		}
		if n := svc.Ended(flow.Refused); n != 0 {
			t.Errorf("%d flows refused, want none: there was another backend", n)
		}
		svc.Config().Pool.Update(specs(at1), 0)
		s.CutBackend(svc.Config().Pool.Backends()[0], flow.Reset)
		c = dialUDP(t, at)
		say(t, c, "nobody is there")
		eventually(t, "the flow is refused", func() bool { return svc.Ended(flow.Refused) == 1 })
	})
}

// TestBurstToADeadBackend sends datagrams of many sizes at once: all of them reach the
// other backend, in order.
func TestBurstToADeadBackend(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		b, dead := udpBackend(t, nil)
		b.Close()
		alive := udpEcho(t)
		_, _, at := startUDP(t, engine, udpService(t, UDPConfig{}, dead, alive))
		for range 2 { // rr: one of them begins at the dead one
			c := dialUDP(t, at)
			for i := range 30 {
				say(t, c, strings.Repeat("x", 100+i))
			}
			for i := range 30 {
				if n := len(heard(t, c)); n != 100+i {
					t.Fatalf("%d bytes came where %d were due", n, 100+i)
				}
			}
		}
	})
}

func TestCutBackendEndsItsFlows(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep=%v", keep), func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) {
				_, at1 := udpNamed(t, "a")
				_, at2 := udpNamed(t, "b")
				s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{}, at1, at2))
				var all []*net.UDPConn
				var first []string
				for range 10 {
					c := dialUDP(t, at)
					all, first = append(all, c), append(first, ask(t, c, "who?"))
				}
				a := svc.Config().Pool.Backends()[0]
				setStatus(svc.Config().Pool, a, balancer.Down)
				how, want := flow.Reset, uint64(5)
				if keep {
					how, want = flow.Keep, 0
				}
				s.CutBackend(a, how)
				if n := svc.Ended(flow.BackendDown); n != want {
					t.Errorf("%d flows were cut, want %d", n, want)
				}
				for i, c := range all {
					stays := keep || strings.HasPrefix(first[i], "b")
					if got := ask(t, c, "who?"); (got == first[i]) != stays || !stays && !strings.HasPrefix(got, "b") {
						t.Errorf("%q answers after %q", got, first[i])
					}
				}
				s.Close()
				s.CutBackend(a, flow.Reset) // by a check that was under way
			})
		})
	}
}

func TestShutdownWaitsForSilence(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{}, udpEcho(t)))
		c := dialUDP(t, at)
		ask(t, c, "x")
		answered := s.Now()
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		eventually(t, "new clients are turned away", func() bool {
			c := dialUDP(t, at)
			say(t, c, "new")
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, err := c.Read(make([]byte, 1)) // Linux: nobody has the address any more
			return svc.Ended(flow.Draining) > 0 || errors.Is(err, syscall.ECONNREFUSED)
		})
		say(t, c, "x")
		// On a slow machine the flow may have fallen silent before that.
		if asked := s.Now(); asked < answered+promisedSilence/2 {
			if got := heard(t, c); got != "x" {
				t.Errorf("got %q while the others are turned away", got)
			}
		}
		if err := <-done; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if svc.Ended(flow.IdleTimeout) == 0 {
			t.Error("no flow fell silent")
		}
		noneLeft(t, s, svc)
	})
}

func TestShutdownCutsDatagramFlows(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{}, udpEcho(t)))
		const flows = 20
		begun := s.Now()
		for range flows {
			ask(t, dialUDP(t, at), "x")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := s.Shutdown(ctx)
		// On a slow machine the first ones may have been silent for long enough to end so.
		silent := svc.Ended(flow.IdleTimeout)
		if s.Now() < begun+promisedSilence && silent > 0 || silent+svc.Ended(flow.Drained) != flows {
			t.Errorf("%d drained, %d fell silent", svc.Ended(flow.Drained), silent)
		}
		if silent < flows && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		noneLeft(t, s, svc)
	})
}

// TestEveryClientIsAccountedFor has more clients than there may be flows.
func TestEveryClientIsAccountedFor(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		_, silent := udpBackend(t, func(*net.UDPConn, []byte, netip.AddrPort) {})
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{MaxFlows: 5}, silent))
		for range 50 {
			say(t, dialUDP(t, at), "x")
		}
		eventually(t, "all are seen", func() bool { return svc.Accepted() == 50 })
		s.Close()
		ended := uint64(0)
		for o := flow.Running; o.String() != "invalid"; o++ {
			ended += svc.Ended(o)
		}
		if ended != 50 || svc.Ended(flow.ServiceFull) != 45 {
			t.Errorf("%d of 50 ended, %d were evicted, %d refused", ended, svc.Ended(flow.Evicted), svc.Ended(flow.ServiceFull))
		}
		noneLeft(t, s, svc)
	})
}
