package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/internal/discovery"
	"usher/proxy"
	"usher/proxy/flow"
)

// samePort opens a udp socket on the same port of each address. Each answers with
// its own address.
func samePort(t *testing.T, addrs ...netip.Addr) (port uint16) {
	t.Helper()
	for range 100 {
		var all []*net.UDPConn
		port = 0
		for _, a := range addrs {
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
			if err != nil {
				break
			}
			all = append(all, c)
			port = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		}
		if len(all) < len(addrs) {
			for _, c := range all {
				c.Close()
			}
			continue
		}
		var serving sync.WaitGroup
		for i, c := range all {
			serving.Go(func() {
				buf := make([]byte, 1500)
				for {
					_, from, err := c.ReadFromUDPAddrPort(buf)
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err == nil {
						_, _ = c.WriteToUDPAddrPort([]byte(addrs[i].String()), from)
					}
				}
			})
		}
		t.Cleanup(func() {
			for _, c := range all {
				c.Close()
			}
			serving.Wait()
		})
		return port
	}
	t.Skip("no port is free on all of ", addrs)
	return 0
}

// changing answers look-ups, differently over time.
type changing struct {
	mu    sync.Mutex
	addrs []netip.Addr
}

func (c *changing) set(addrs ...netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addrs = addrs
}

func (c *changing) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addrs, nil
}

func (c *changing) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errors.New("no SRV records here")
}

// TestAddressThatIsGoneLosesItsFlows takes one of two addresses out of the answers for
// a name. Flows to its backend end at once, and what their clients send next goes to
// the other one; with --on-remove keep they stay.
func TestAddressThatIsGoneLosesItsFlows(t *testing.T) {
	t.Parallel()
	stays, goes := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	for _, engine := range []string{"epoll", "portable"} {
		for _, down := range []string{"reset", "keep"} {
			t.Run(engine+" "+down, func(t *testing.T) {
				t.Parallel()
				port := samePort(t, stays, goes)
				names := new(changing)
				names.set(stays, goes)
				r, err := New(Options{Log: zap.NewNop(), Names: discovery.Resolver{Lookup: names}, Checks: 1})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				s, err := r.NewService(parse(t, "udp:127.0.0.1:0=names.test:"+fmt.Sprint(port), "health=off", "on-remove="+down))
				if err != nil {
					t.Fatal(err)
				}
				server, err := proxy.New(proxy.Options{Engine: engine, Workers: 2, MaxConns: 1000, Logger: zap.NewNop()})
				if err != nil {
					t.Skip(err) // no such engine here
				}
				defer server.Close()
				if err := server.Apply([]*proxy.ServiceConfig{{
					Name: "udp", Pool: s.Pool(), Listeners: []proxy.Listener{{Network: "udp", Addr: netip.MustParseAddrPort("127.0.0.1:0")}},
					UDP: proxy.UDPConfig{IdleTimeout: time.Minute, UnrepliedTimeout: time.Minute},
				}}); err != nil {
					t.Fatal(err)
				}
				r.Set(t.Context(), server, desired(s))
				r.WaitFirst(t.Context())
				server.Start()
				service := server.Services()[0]
				ask := func(conn net.Conn) string {
					t.Helper()
					buf := make([]byte, 100)
					_ = conn.SetDeadline(time.Now().Add(patience))
					_, err := io.WriteString(conn, "who?")
					if err != nil {
						t.Fatal(err)
					}
					n, err := conn.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					return string(buf[:n])
				}
				const clients = 10
				var all []net.Conn
				first := map[net.Conn]string{}
				for range clients {
					conn, err := net.Dial("udp", service.Config().Listeners[0].Addr.String())
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					all = append(all, conn)
					first[conn] = ask(conn)
				}

				names.set(stays)
				// What the watcher does when it asks again.
				r.names.onUpdate(discovery.Update{Name: "names.test", Records: recordsOf("names.test", stays)})
				r.flush(t.Context())

				cut := uint64(clients / 2)
				if down == "keep" {
					cut = 0
				}
				if n := service.Ended(flow.BackendDown); n != cut {
					t.Errorf("%d flows have ended with the backend, want %d of %d", n, cut, clients)
				}
				for row := range server.Flows() {
					if down != "keep" && row.Backend.Endpoint().Addr.Addr() == goes {
						t.Errorf("a flow to %v is left", row.Backend)
					}
				}
				for _, conn := range all {
					want := stays.String()
					if down == "keep" {
						want = first[conn]
					}
					if got := ask(conn); got != want {
						t.Errorf("%s answers after %s, want %s", got, first[conn], want)
					}
				}
			})
		}
	}
}
