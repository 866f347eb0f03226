package proxy

import (
	"flag"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/balancer"
)

func TestMain(m *testing.M) {
	overlap()
	goleak.VerifyTestMain(m)
}

// overlap has many tests run beside each other, on however small a machine, unless
// -parallel says otherwise: most of the time they wait.
func overlap() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "8")
	}
}

// eachEngine runs a test on every engine that works here.
func eachEngine(t *testing.T, test func(t *testing.T, engine string)) {
	t.Helper()
	for _, engine := range []string{"epoll", "portable"} {
		t.Run(engine, func(t *testing.T) {
			if engine == "epoll" {
				if err := probeEpoll(); err != nil {
					t.Skipf("engine epoll: %v", err)
				}
			}
			test(t, engine)
		})
	}
}

// echo is a backend that returns what it gets, and its FIN.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	return serve(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
}

// serve is a backend that runs handle for each connection and closes it then.
func serve(t *testing.T, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// loopback is a listener on a port that the kernel chooses.
var loopback = Listener{Network: "tcp", Addr: netip.MustParseAddrPort("127.0.0.1:0")}

// service returns the settings of a service in front of backends.
func service(t testing.TB, backends ...netip.AddrPort) ServiceConfig {
	t.Helper()
	pool, err := balancer.NewPool(balancer.Options{Initial: balancer.Up})
	if err != nil {
		t.Fatal(err)
	}
	pool.Update(specs(backends...))
	return ServiceConfig{
		Name: "test", Listeners: []Listener{loopback}, Pool: pool,
		ConnectTimeout: 5 * time.Second, HalfCloseTimeout: time.Minute,
	}
}

func specs(backends ...netip.AddrPort) []balancer.Spec {
	var all []balancer.Spec
	for _, b := range backends {
		all = append(all, balancer.Spec{Endpoint: balancer.Endpoint{Addr: b}, Weight: 1})
	}
	return all
}

// start runs a server with one service and returns the service's address.
func start(t testing.TB, o Options, c ServiceConfig) (*Server, string) {
	t.Helper()
	s, err := New(o, []ServiceConfig{c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Start()
	return s, s.Services()[0].Listeners[0].String()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// roundTrip sends one byte and waits for it to come back.
func roundTrip(t *testing.T, c net.Conn) {
	t.Helper()
	var b [1]byte
	if _, err := c.Write([]byte{'x'}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b[:]); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition. A machine under load may take its time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
