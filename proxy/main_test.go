package proxy

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
	"usher/conntrack"

	"go.uber.org/goleak"

	"usher/balancer"
	"usher/proxy/flow"
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

// Times that users are promised; see the package of the policy.
const (
	promisedGrace     = time.Second            // a new session makes room for nobody
	promisedIdleGrace = 5 * time.Second        // nor does an answered one that was in use
	promisedSilence   = time.Second            // ends a session that is owed nothing while draining
	promisedVouch     = 250 * time.Millisecond // a reply vouches for a backend
	promisedLook      = time.Second            // the first in a queue looks so often
	promisedHeader    = 500 * time.Millisecond // a backend is not told of a client again
)

// loopback is a listener on a port that the kernel chooses.
var loopback = Listener{Network: "tcp", Addr: netip.MustParseAddrPort("127.0.0.1:0")}

// service returns the settings of a service in front of backends.
func service(t testing.TB, backends ...netip.AddrPort) ServiceConfig {
	t.Helper()
	pool, err := balancer.NewPool(balancer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pool.Update(specs(backends...), 0)
	return ServiceConfig{
		Name: "test", Listeners: []Listener{loopback}, Pool: pool,
		ConnectTimeout: 5 * time.Second, HalfCloseTimeout: time.Minute,
	}
}

// newServer returns a server of services that is bound and not started. Of services of
// one name the later ones get a number.
func newServer(o Options, services ...ServiceConfig) (*Server, error) {
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	names := make(map[string]int)
	for i := range services {
		name := &services[i].Name
		if names[*name]++; names[*name] > 1 {
			*name = fmt.Sprint(*name, names[*name])
		}
	}
	if err := s.Apply(pointers(services)); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// serviceOf returns a service with its config, which no server has.
func serviceOf(c ServiceConfig) *Service {
	svc := flow.NewService(c.Name, 0)
	svc.SetSettings(flow.NewSettings(svc, c, nil, nil))
	return svc
}

// configOf returns the settings of a service that no server has.
func configOf(c ServiceConfig) *flow.Settings { return serviceOf(c).Settings() }

func specs(backends ...netip.AddrPort) []balancer.Spec {
	var all []balancer.Spec
	for _, b := range backends {
		all = append(all, balancer.Spec{Endpoint: balancer.Endpoint{Addr: b}, Weight: 1, Check: balancer.Up})
	}
	return all
}

// setStatus has checks find the status of a backend, and setAdmin an operator say its admin state. The other is forgotten.
func setStatus(pool *balancer.Pool, b *balancer.Backend, found balancer.Status) {
	setSpec(pool, b, func(s *balancer.Spec) { s.Check = found })
}

func setAdmin(pool *balancer.Pool, b *balancer.Backend, admin balancer.AdminState) {
	setSpec(pool, b, func(s *balancer.Spec) { s.Check, s.Admin = balancer.Up, admin })
}

func setSpec(pool *balancer.Pool, b *balancer.Backend, change func(*balancer.Spec)) {
	var all []balancer.Spec
	for _, x := range pool.Backends() {
		s := balancer.Spec{Endpoint: x.Endpoint(), Weight: x.Weight(), Backup: x.Backup(), Limits: x.Limits(), Check: x.Status()}
		if x == b {
			change(&s)
		}
		all = append(all, s)
	}
	pool.Update(all, 0)
}

// start runs a server with one service and returns the service's address.
func start(t testing.TB, o Options, c ServiceConfig) (*Server, string) {
	t.Helper()
	s, err := newServer(o, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Start()
	return s, s.Services()[0].Config().Listeners[0].String()
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
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// beginFlowOf begins a flow of a service that no server has, as an engine would.
func beginFlowOf(f *flow.Flow, c ServiceConfig) flow.Action {
	cfg := configOf(c)
	rows := conntrack.New[Service, balancer.Backend](1)
	from := flow.Origin{Client: netip.MustParseAddrPort("192.0.2.1:1000"), Local: netip.MustParseAddrPort("127.0.0.1:80")}
	id, ent := rows.Insert(conntrack.NewKey(conntrack.TCP, from.Client, from.Local), cfg.Service, 0)
	f.Begin(cfg, id, ent, &from, 0)
	return f.Next(0)
}

// pointers returns configs that nobody else has.
func pointers(services []ServiceConfig) []*ServiceConfig {
	all := make([]*ServiceConfig, len(services))
	for i, c := range services {
		all[i] = &c
	}
	return all
}
