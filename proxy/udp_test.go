package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"usher/proxy/flow"
)

// udpService returns the settings of a udp service in front of backends.
func udpService(t testing.TB, c UDPConfig, backends ...netip.AddrPort) ServiceConfig {
	s := service(t, backends...)
	s.Listeners = []Listener{{Network: "udp", Addr: netip.MustParseAddrPort("127.0.0.1:0")}}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	s.UDP = c
	return s
}

// udpBackend is a socket that answers by serve, if there is one.
func udpBackend(t testing.TB, serve func(c *net.UDPConn, p []byte, from netip.AddrPort)) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 64<<10)
		for serve != nil {
			n, from, err := c.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				serve(c, buffer[:n], from)
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// udpEcho is a backend that returns what it gets.
func udpEcho(t testing.TB) netip.AddrPort {
	_, at := udpBackend(t, func(c *net.UDPConn, p []byte, from netip.AddrPort) { _, _ = c.WriteToUDPAddrPort(p, from) })
	return at
}

// udpNamed is a backend that answers with its name and the flow's port.
func udpNamed(t testing.TB, name string) (*net.UDPConn, netip.AddrPort) {
	return udpBackend(t, func(c *net.UDPConn, _ []byte, from netip.AddrPort) {
		_, _ = c.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %d", name, from.Port()), from)
	})
}

// startUDP runs a server with one service and returns where it listens.
func startUDP(t testing.TB, engine string, c ServiceConfig) (*Server, *Service, netip.AddrPort) {
	t.Helper()
	s, _ := start(t, Options{Engine: engine, Workers: 2}, c)
	svc := s.Services()[0]
	return s, svc, svc.Config().Listeners[0].Addr
}

func dialUDP(t testing.TB, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func say(t testing.TB, c *net.UDPConn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// heard returns the next reply.
func heard(t testing.TB, c *net.UDPConn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	buffer := make([]byte, 64<<10)
	n, err := c.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func ask(t testing.TB, c *net.UDPConn, text string) string {
	t.Helper()
	say(t, c, text)
	return heard(t, c)
}

func noneLeft(t *testing.T, s *Server, svc *Service) {
	t.Helper()
	eventually(t, "all flows end", func() bool { return s.Open() == 0 })
	for _, b := range svc.Config().Pool.Backends() {
		if b.Active() != 0 {
			t.Errorf("%v: %d active", b, b.Active())
		}
	}
	for range s.Flows() {
		t.Error("a row is left")
	}
}

func TestDatagramsOfEverySizeComeBackWhole(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{}, udpEcho(t)))
		c := dialUDP(t, at)
		r := rand.New(rand.NewPCG(1, 2))
		sum := 0
		sizes := []int{0, 1, 2, 511, 512, 1199, 1472, 1473, 4096, 9000, 32768, 65506, 65507, 0, 1}
		for _, n := range sizes {
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			if got := ask(t, c, string(p)); got != string(p) {
				t.Fatalf("%d bytes came back where %d were sent", len(got), n)
			}
			sum += n
		}
		s.Close()
		if up, down := svc.Bytes(); up != uint64(sum) || down != uint64(sum) {
			t.Errorf("counted %d up, %d down, want %d", up, down, sum)
		}
		noneLeft(t, s, svc)
	})
}

func TestBurstsComeBackOneForOneInOrder(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		_, _, at := startUDP(t, engine, udpService(t, UDPConfig{}, udpEcho(t)))
		c := dialUDP(t, at)
		const seed = 1 // another one tests other cases
		r := rand.New(rand.NewPCG(seed, 0))
		for range 100 {
			var burst [][]byte
			for room, size := 60_000, 0; len(burst) < 40; {
				if r.IntN(3) == 0 {
					size = []int{0, r.IntN(10), r.IntN(1500), r.IntN(8000)}[r.IntN(4)]
				}
				if room -= size + 800; room < 0 {
					break
				}
				burst = append(burst, bytes.Repeat([]byte{byte(len(burst))}, size))
			}
			for _, p := range burst {
				say(t, c, string(p))
			}
			for i, p := range burst {
				if got := heard(t, c); got != string(p) {
					t.Fatalf("datagram %d of %d bytes came back as %d bytes", i, len(p), len(got))
				}
			}
		}
	})
}

func TestRepliesComeFromTheAddressAsked(t *testing.T) {
	t.Parallel()
	for _, once := range []bool{false, true} {
		t.Run(fmt.Sprintf("one-packet=%v", once), func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) {
				config := udpService(t, UDPConfig{OnePacket: once}, udpEcho(t))
				config.Listeners[0].Addr = netip.MustParseAddrPort("[::]:0")
				_, _, at := startUDP(t, engine, config)
				c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				asked := map[string]bool{}
				for i := range 9 {
					to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i%3)}), at.Port())
					asked[to.String()] = true
					if _, err := c.WriteToUDPAddrPort([]byte(to.String()), to); err != nil {
						t.Fatal(err)
					}
				}
				buffer := make([]byte, 100)
				for range 9 {
					n, from, err := c.ReadFromUDPAddrPort(buffer)
					if err != nil {
						t.Fatal(err)
					}
					if got := string(buffer[:n]); got != from.String() || !asked[got] {
						t.Errorf("%v answers what was sent to %s", from, got)
					}
				}
				six, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.IPv6loopback, Port: int(at.Port())})
				if err != nil {
					t.Skipf("no IPv6: %v", err)
				}
				defer six.Close()
				if got := ask(t, six, "six"); got != "six" { // from any other address it would not be heard
					t.Errorf("got %q over IPv6", got)
				}
			})
		})
	}
}

func TestFlowEndsWithTheRepliesItIsFor(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		b, backend := udpBackend(t, nil)
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{Replies: 2}, backend))
		c := dialUDP(t, at)
		say(t, c, "A?")
		say(t, c, "AAAA?")
		buffer := make([]byte, 100)
		_ = b.SetReadDeadline(time.Now().Add(time.Minute))
		var from netip.AddrPort
		for range 2 {
			var err error
			if _, from, err = b.ReadFromUDPAddrPort(buffer); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 5 {
			if i == 4 {
				noneLeft(t, s, svc)
			}
			_, _ = b.WriteToUDPAddrPort([]byte{byte('0' + i)}, from)
		}
		for i := range 4 {
			if got := heard(t, c); got != string(byte('0'+i)) {
				t.Errorf("reply %d is %q", i, got)
			}
		}
		if n := svc.Ended(flow.Replied); n != 1 {
			t.Errorf("%d flows have had their replies, want 1", n)
		}
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a reply too many: %q, %v", buffer[:n], err)
		}
	})
}

func TestIdleFlowsReturnTheirSockets(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{IdleTimeout: 300 * time.Millisecond}, udpEcho(t)))
		want := uint64(0)
		wave := func() {
			clients := make([]*net.UDPConn, 100)
			for i := range clients {
				clients[i] = dialUDP(t, at)
				say(t, clients[i], "x") // the answer may come when the flow has expired
			}
			want += uint64(len(clients))
			eventually(t, "all have had flows", func() bool { return svc.Accepted() == want })
			for _, c := range clients {
				c.Close()
			}
			noneLeft(t, s, svc)
		}
		wave()
		before := openFiles(t)
		wave()
		eventually(t, "the sockets are closed", func() bool { return openFiles(t) <= before })
		if n := svc.Ended(flow.IdleTimeout); n != 200 {
			t.Errorf("%d flows idle, want 200", n)
		}
	})
}

// openFiles counts the descriptors of the process.
func openFiles(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}
