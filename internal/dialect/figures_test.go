package dialect

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/ipvsadm"
)

// newFigures returns a Server whose control runs services of the API, and their addresses.
func newFigures(t *testing.T, engine string, services ...*config.Service) (*Server, []netip.AddrPort) {
	t.Helper()
	process := config.DefaultProcess()
	process.Workers, process.Engine = 1, engine
	c, err := control.New(control.Options{Log: zap.NewNop(), Process: process})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Replace(t.Context(), control.API, control.Part{Services: services}); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var at []netip.AddrPort
	for _, l := range c.Live() {
		at = append(at, netip.AddrPortFrom(l.Config.Listeners[0].IP, l.Config.Listeners[0].Port))
	}
	return New(c), at
}

// echoing returns a service before a backend that echoes.
func echoing(t *testing.T, network string, hold <-chan struct{}) *config.Service {
	t.Helper()
	s := config.NewService(network, network)
	s.Health.Kind = "off"
	s.Persist.Timeout = time.Hour
	s.Listeners = []config.Addr{{Network: network, IP: netip.MustParseAddr("127.0.0.1"), Ports: 1}}
	at := echo(t, network, hold)
	s.Backends = []config.Backend{{Addr: config.Addr{Network: network, IP: at.Addr(), Port: at.Port(), Ports: 1}, Weight: 1}}
	return s
}

// echo returns the address of a server that returns what it gets. One of tcp closes a connection once hold is closed.
func echo(t *testing.T, network string, hold <-chan struct{}) netip.AddrPort {
	t.Helper()
	var serving sync.WaitGroup
	if network == config.UDP {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); serving.Wait() })
		serving.Go(func() {
			p := make([]byte, 1<<16)
			for {
				n, from, err := c.ReadFrom(p)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(p[:n], from)
			}
		})
		return netip.MustParseAddrPort(c.LocalAddr().String())
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
				<-hold
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// await waits until ok returns no complaint; a machine under load may take its time.
func await(t *testing.T, what string, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for got := ok(); got != ""; got = ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s: %s", what, got)
		}
		time.Sleep(time.Millisecond)
	}
}

// exchange sends n bytes and reads them back.
func exchange(t *testing.T, c net.Conn, n int) {
	t.Helper()
	p := make([]byte, n)
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatal(err)
	}
}

// Figures are exact after known traffic, on both engines, and a flow counts as IPVS counts it in its state.
func TestFigures(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"epoll", "portable"} {
		t.Run(engine, func(t *testing.T) {
			hold := make(chan struct{})
			release := sync.OnceFunc(func() { close(hold) })
			t.Cleanup(release)
			s, at := newFigures(t, engine, echoing(t, config.TCP, hold), echoing(t, config.UDP, nil))
			tcp, err := net.Dial("tcp", at[0].String())
			if err != nil {
				t.Fatal(err)
			}
			defer tcp.Close()
			udp, err := net.Dial("udp", at[1].String())
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			exchange(t, tcp, 100)
			exchange(t, udp, 10)
			exchange(t, udp, 20)
			wants := func(what, want string) {
				t.Helper()
				await(t, what, func() string {
					if got := summary(s); got != want {
						return got + ", want " + want
					}
					return ""
				})
			}
			wants("live", "[1 0 1 1/100/100] [0 1 1 1/30/30] TCP:ASSURED TCP:ESTABLISHED UDP:ASSURED UDP:UDP")
			if err := tcp.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			wants("half-closed", "[0 1 1 1/100/100] [0 1 1 1/30/30] TCP:ASSURED TCP:CLOSE_WAIT UDP:ASSURED UDP:UDP")
			release()
			wants("ended", "[0 0 1 1/100/100] [0 1 1 1/30/30] TCP:ASSURED UDP:ASSURED UDP:UDP")
		})
	}
}

// summary is active, inactive, persistent, connections and bytes of each backend, and the table.
func summary(s *Server) (text string) {
	for _, v := range s.IPVS().Services {
		for _, d := range v.Destinations {
			if v.Protocol == ipvsadm.UDP && (d.Stats.InPkts != 2 || d.Stats.OutPkts != 2) {
				text += fmt.Sprintf("%d and %d datagrams ", d.Stats.InPkts, d.Stats.OutPkts)
			}
			text += fmt.Sprintf("[%d %d %d %d/%d/%d] ", d.Active, d.Inactive, d.Persistent, d.Stats.Conns, d.Stats.InBytes, d.Stats.OutBytes)
		}
	}
	var all []string
	for c := range s.IPVSConnections() {
		protocol := "TCP"
		if c.Protocol == ipvsadm.UDP {
			protocol = "UDP"
		}
		if isTemplate := c.Client.Port() == 0; isTemplate != (c.State == "ASSURED") || c.Expires == 0 || !c.Destination.IsValid() {
			return fmt.Sprintf("%+v", c)
		}
		all = append(all, protocol+":"+c.State)
	}
	slices.Sort(all)
	return text + strings.Join(all, " ")
}

// A second question after whole turns of the estimator has the kernel's average, and what is new counts from nothing.
func TestRates(t *testing.T) {
	t.Parallel()
	pool, err := balancer.NewPool(balancer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:80")}, Weight: 1}}, 0)
	b := pool.Backends()[0]
	e := advance(nil, b, ipvsadm.Stats{InBytes: 1 << 40}, turns{isFirst: true})
	all := map[*balancer.Backend]estimate{b: e}
	total := uint64(1 << 40)
	kernel := 0.0
	for range 20 {
		total += 8000 // 4000 a second
		kernel += (4000 - kernel) / 4
		all[b] = advance(all, b, ipvsadm.Stats{InBytes: total}, turns{n: 1, elapsed: 2 * time.Second})
	}
	if got, want := all[b].average.rates().InBPS, uint64(kernel+0.5); got != want {
		t.Errorf("%d bytes a second, the kernel has %d", got, want)
	}
	e = all[b]
	all[b] = advance(all, b, ipvsadm.Stats{InBytes: total}, turns{n: 3, elapsed: 6 * time.Second})
	if got, want := all[b].average[3], e.average[3]*0.75*0.75*0.75; got < want*0.999 || got > want*1.001 {
		t.Errorf("%f after three turns without traffic, want %f", got, want)
	}
	fresh := advance(nil, b, ipvsadm.Stats{Conns: 80}, turns{n: 1, elapsed: 2 * time.Second})
	if got := fresh.average.rates().CPS; got != 10 {
		t.Errorf("80 new connections in 2s are %d a second, want 10", got)
	}
}
