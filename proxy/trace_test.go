package proxy

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

// TestDebugHasEachChoiceAndEnd: at debug, which may come and go, a flow has a line for each backend that it gets, with the
// reason, and one for its end.
func TestDebugHasEachChoiceAndEnd(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) {
				core, lines := observer.New(zap.DebugLevel)
				s, addr, dead := tracedServer(t, Options{Engine: engine, Workers: 1, Logger: zap.New(core)}, network)
				visit := func(n uint64) {
					c, err := net.Dial(network, addr)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					roundTrip(t, c)
					c.Close()
					eventually(t, "the flow ends", func() bool { return s.Services()[0].Ended(flow.Finished)+s.Services()[0].Ended(flow.Replied) == n })
				}
				has := func(want ...string) {
					t.Helper()
					s.access.Load().flush(time.Minute)
					var got []string
					for _, l := range lines.TakeAll() {
						if m := l.ContextMap(); l.Level == zap.DebugLevel && m["backend"] != nil {
							word, _ := m["why"].(string)
							if end, isEnd := m["end"].(string); isEnd {
								word = end
							}
							if m["backend"] == dead.String() {
								word = "dead: " + word
							}
							got = append(got, l.Message+": "+word)
						}
					}
					if !slices.Equal(got, want) {
						t.Errorf("got  %q\nwant %q", got, want)
					}
				}
				end := map[string]string{"tcp": "flow: fin", "udp": "flow: replied"}[network]
				visit(1)
				first := []string{"backend chosen: dead: fo", "backend chosen: fo, backup, failover, try 2", end}
				has(first...)
				s.SetTrace(false)
				visit(2)
				has()
				s.SetTrace(true)
				visit(3)
				has("backend chosen: affinity, backup", end)
			})
		})
	}
}

// tracedServer has a service whose first backend is dead. The second one answers, and keeps the clients that it gets.
func tracedServer(t *testing.T, o Options, network string) (s *Server, addr string, dead netip.AddrPort) {
	t.Helper()
	c, live := service(t), echo(t)
	dead = refusing(t)
	if network == "udp" {
		c, live, dead = udpService(t, UDPConfig{Replies: 1}), udpEcho(t), deadUDP(t)
	}
	pool, err := balancer.NewPool(balancer.Options{Scheduler: "fo"})
	if err != nil {
		t.Fatal(err)
	}
	all := specs(dead, live)
	all[1].Backup = true
	pool.Update(all, 0)
	c.Pool = pool
	c.Persist = Persist{On: true, AffinityConfig: conntrack.AffinityConfig{Timeout: time.Minute}}
	s, _ = start(t, o, c)
	return s, s.Services()[0].Config().Listeners[0].Addr.String(), dead
}
