package app

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"usher/balancer"
	"usher/proxy"
	"usher/proxy/flow"
)

// fewDescriptors lowers the limit of descriptors to those in use and some more. lift restores it. Tests that run it are
// not parallel: the limit is the process's.
func fewDescriptors(t *testing.T, more int) (lift func()) {
	t.Helper()
	next, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	low := before
	low.Cur = uint64(next + more)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWantOfDescriptorsIsTold(t *testing.T) {
	for _, engine := range []string{"epoll", "portable"} {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(engine+" "+network, func(t *testing.T) {
				pool, err := balancer.NewPool(balancer.Options{})
				if err != nil {
					t.Fatal(err)
				}
				backend, err := net.ListenPacket("udp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer backend.Close()
				pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort(backend.LocalAddr().String())}, Weight: 1, Check: balancer.Up}}, 0)
				server, err := newServer(proxy.Options{Engine: engine, Workers: 1}, proxy.ServiceConfig{
					Name: "hungry", Pool: pool, ConnectTimeout: time.Second,
					Listeners: []proxy.Listener{{Network: network, Addr: netip.MustParseAddrPort("127.0.0.1:0")}},
					UDP:       proxy.UDPConfig{IdleTimeout: time.Minute},
				})
				if err != nil {
					t.Skip(err) // this system lacks the engine
				}
				defer server.Close()
				core, lines := observer.New(zap.DebugLevel)
				d := newDropReporter(server.Services, zap.New(core))
				server.Start()
				service := server.Services()[0]
				at := service.Config().Listeners[0].Addr
				kind := unix.SOCK_STREAM
				if network == "udp" {
					kind = unix.SOCK_DGRAM
				}
				var clients []int
				for range 10 {
					fd, err := unix.Socket(unix.AF_INET, kind, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer unix.Close(fd)
					clients = append(clients, fd)
				}
				lift := fewDescriptors(t, 1)
				deadline := time.Now().Add(patience)
				to := &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
				for i := 0; service.Starved() == 0 && time.Now().Before(deadline); i++ {
					if i < len(clients) {
						if err := unix.Connect(clients[i], to); err != nil {
							t.Error(err)
						}
						if _, err := unix.Write(clients[i], []byte("hello")); err != nil {
							t.Error(err)
						}
					}
					time.Sleep(time.Millisecond)
				}
				lift()

				d.close()
				d.report() // which has less to report, if anything
				if network == "udp" {
					// On a slow machine the flow that has the descriptor is old enough to make room.
					got := lines.FilterField(zap.Stringer("reason", flow.NoResources)).FilterMessage(turnedAway).All()
					got = append(got, lines.FilterField(zap.Stringer("reason", flow.Evicted)).FilterMessage(madeRoom).All()...)
					if len(got) == 0 || !strings.Contains(fmt.Sprint(got[0].ContextMap()["remedy"]), "ulimit -n") {
						t.Errorf("logged %v", lines.All())
					}
					return
				}
				got := lines.FilterMessageSnippet("descriptors").All()
				if len(got) == 0 {
					t.Fatalf("no warning; accepting paused %d times", service.Starved())
				}
				logged, total := uint64(0), service.Starved()
				for _, line := range got {
					fields := line.ContextMap()
					logged += fields["times"].(uint64)
					if fields["service"] != "hungry" || line.Level != zap.WarnLevel {
						t.Errorf("got %q, %v", line.Message, fields)
					}
				}
				if logged == 0 || logged > total {
					t.Errorf("logged %d of %d times", logged, total)
				}
			})
		}
	}
}
