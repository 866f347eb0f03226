package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

// deadUDP is an address where nobody listens, and nobody else can: its socket is connected
// to an address that nothing comes from.
func deadUDP(t testing.TB) netip.AddrPort {
	t.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestRefusedDatagramsReachTheNextBackend has dead backends first in the list: no client
// loses anything to them, whatever the scheduler, and what is counted is counted where it
// belongs.
func TestRefusedDatagramsReachTheNextBackend(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		scheduler string
		dead      int
		edit      func(c *ServiceConfig, specs []balancer.Spec)
	}{
		{"rr", "rr", 1, nil},
		{"two of three", "rr", 2, nil},
		{"wlc", "wlc", 1, nil},
		{"fo", "fo", 1, nil},
		{"mh", "mh", 1, nil},
		{"replies", "rr", 1, func(c *ServiceConfig, _ []balancer.Spec) { c.UDP.Replies = 1 }},
		{"backup", "rr", 1, func(_ *ServiceConfig, specs []balancer.Spec) { specs[1].Backup = true }},
		{"persist", "rr", 1, func(c *ServiceConfig, _ []balancer.Spec) {
			c.Persist = Persist{AffinityConfig: conntrack.AffinityConfig{Timeout: time.Minute}, On: true}
		}},
		{"ops", "rr", 1, func(c *ServiceConfig, _ []balancer.Spec) { c.UDP.OnePacket = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) {
				pool, err := balancer.NewPool(balancer.Options{Scheduler: tt.scheduler})
				if err != nil {
					t.Fatal(err)
				}
				var all []balancer.Spec
				for range tt.dead {
					all = append(all, balancer.Spec{Endpoint: balancer.Endpoint{Addr: deadUDP(t)}, Weight: 1, Check: balancer.Up})
				}
				all = append(all, balancer.Spec{Endpoint: balancer.Endpoint{Addr: udpEcho(t)}, Weight: 1, Check: balancer.Up})
				c := udpService(t, UDPConfig{})
				if c.Pool = pool; tt.edit != nil {
					tt.edit(&c, all)
				}
				pool.Update(all, 0)
				s, svc, at := startUDP(t, engine, c)
				// Each flow keeps its order, but what is a flow of its own may overtake.
				oneFlow := tt.name != "ops" && tt.name != "replies"
				for i := range 8 {
					client := dialUDP(t, at)
					var want, got []string
					for k := range 3 {
						want = append(want, fmt.Sprint("client ", i, " datagram ", k))
						say(t, client, want[k])
					}
					for range 3 {
						got = append(got, heard(t, client))
					}
					if !oneFlow {
						slices.Sort(got)
					}
					if !slices.Equal(got, want) {
						t.Fatalf("%q came back, want %q", got, want)
					}
				}
				for row := range s.Flows() {
					if alive := pool.Backends()[tt.dead]; row.Backend == alive && row.Up != row.Down || row.Backend != alive && row.Up > 0 {
						t.Errorf("%v got %d bytes and has answered %d", row.Backend, row.Up, row.Down)
					}
				}
				for i, b := range pool.Backends() {
					if failed := b.Failures() > 0; failed != (i < tt.dead) && tt.scheduler != "mh" {
						t.Errorf("backend %d has %d failures", i, b.Failures())
					}
				}
				if n := svc.Ended(flow.Refused) + svc.Dropped(flow.DropRefused); n > 0 {
					t.Errorf("%d flows or datagrams refused", n)
				}
			})
		})
	}
}

// TestRefusedByAll counts what was dropped as dropped, and as nobody's.
func TestRefusedByAll(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{}, deadUDP(t), deadUDP(t)))
		client := dialUDP(t, at)
		say(t, client, "hello")
		eventually(t, "the flow ends", func() bool { return svc.Ended(flow.Refused) == 1 && s.Open() == 0 })
		if up, _ := svc.Bytes(); up != 0 || svc.Dropped(flow.DropRefused) != 1 {
			t.Errorf("%d bytes up, %d datagrams dropped; want none and 1", up, svc.Dropped(flow.DropRefused))
		}
		for _, b := range svc.Config().Pool.Backends() {
			if b.Failures() != 1 {
				t.Errorf("%v has %d failures, want 1", b, b.Failures())
			}
		}
	})
}

// TestBytesAreOfTheBackendThatGotThem has a flow whose first backend dies after it has
// answered. The access log has a line of each.
func TestBytesAreOfTheBackendThatGotThem(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		core, logged := observer.New(zap.InfoLevel)
		first, at1 := udpNamed(t, "first")
		second, at2 := udpNamed(t, "second")
		s, _ := start(t, Options{Engine: engine, Workers: 1, Logger: zap.New(core), AccessLog: true}, udpService(t, UDPConfig{}, at1, at2))
		client := dialUDP(t, s.Services()[0].Config().Listeners[0].Addr)
		from, to := at1, at2
		if answer := ask(t, client, "12345"); strings.HasPrefix(answer, "first") {
			first.Close()
		} else {
			second.Close()
			from, to = at2, at1
		}
		time.Sleep(2 * promisedVouch)
		ask(t, client, "123456789")
		s.Close()
		type line struct {
			backend string
			up      uint64
			end     string
		}
		var got []line
		for _, e := range logged.FilterMessage("flow").All() {
			m := e.ContextMap()
			got = append(got, line{m["backend"].(string), m["bytes_up"].(uint64), m["end"].(string)})
		}
		want := []line{{from.String(), 5, "refused"}, {to.String(), 9, "drain"}}
		if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("logged %v, want %v", got, want)
		}
	})
}

// TestRefusedDatagramsOfEverySize come back whole and in order.
func TestRefusedDatagramsOfEverySize(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, size := range []int{0, 1, 1200, 9000, 65507} {
			_, _, at := startUDP(t, engine, udpService(t, UDPConfig{}, deadUDP(t), udpEcho(t)))
			for range 2 { // rr: one of them begins at the dead one
				client := dialUDP(t, at)
				n := min(5, 1+60_000/max(size, 1)) // more than that is lost in the sockets of this test
				for i := range n {
					say(t, client, strings.Repeat(string(rune('a'+i)), size))
				}
				for i := range n {
					if got, want := heard(t, client), strings.Repeat(string(rune('a'+i)), size); got != want {
						t.Fatalf("datagram %d of %d bytes came as %d bytes %.1q", i, size, len(got), got)
					}
				}
			}
		}
	})
}
