package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
)

// named is a service in front of a backend that says the service's name, and then returns
// what it gets.
func named(t *testing.T, name string) ServiceConfig {
	t.Helper()
	c := service(t, serve(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, name)
		_, _ = io.Copy(c, c)
	}))
	c.Name = name
	return c
}

// apply has a server run services.
func apply(t testing.TB, s *Server, services ...ServiceConfig) {
	t.Helper()
	if err := s.Apply(pointers(services)); err != nil {
		t.Fatal(err)
	}
}

// startServer runs a server of services.
func startServer(t testing.TB, o Options, services ...ServiceConfig) *Server {
	t.Helper()
	s, err := newServer(o, services...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Start()
	return s
}

// at is where the only listener of a service is.
func at(s *Server, service int) netip.AddrPort {
	return s.Services()[service].Config().Listeners[0].Addr
}

// whose returns the name that a new connection is greeted with.
func whose(addr string, length int) (string, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	name := make([]byte, length)
	_, err = io.ReadFull(c, name)
	return string(name), err
}

// owned counts the addresses that ownPorts has given out.
var owned atomic.Uint32

// ownPorts returns ports of an address that the caller has for itself: no kernel gives them
// to anybody meanwhile.
func ownPorts(t testing.TB, n int) []netip.AddrPort {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("this system has one loopback address")
	}
	host := netip.AddrFrom4([4]byte{127, byte(16 + owned.Add(1)%200), byte(os.Getpid() >> 8), byte(os.Getpid())})
	all := make([]netip.AddrPort, n)
	for i := range all {
		all[i] = netip.AddrPortFrom(host, uint16(20000+i))
	}
	return all
}

// checked moves bytes through an echoing service until done is closed, and reports whether
// all came back as they were sent.
func checked(addr string, skip int, seed uint64, done <-chan struct{}) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, skip)); err != nil {
		return err
	}
	sent, got := sha256.New(), sha256.New()
	r := rand.New(rand.NewPCG(seed, 0))
	p, q := make([]byte, 8<<10), make([]byte, 8<<10)
	for rounds := 0; ; rounds++ {
		select {
		case <-done:
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				return errors.New("what came back is not what was sent")
			}
			return nil
		default:
		}
		n := 1 + r.IntN(len(p))
		for i := range n {
			p[i] = byte(r.Uint32())
		}
		sent.Write(p[:n])
		if _, err := c.Write(p[:n]); err != nil {
			return fmt.Errorf("round %d: %w", rounds, err)
		}
		if _, err := io.ReadFull(c, q[:n]); err != nil {
			return fmt.Errorf("round %d: %w", rounds, err)
		}
		got.Write(q[:n])
	}
}

// TestApplyUnderLoad adds, changes and removes services, listeners, backends and schedulers
// while flows of a service that stays, and of those that change and go, carry bytes. None
// of them notices.
func TestApplyUnderLoad(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		stays, changes, goes, comes := named(t, "stays"), named(t, "chang"), named(t, "goesy"), named(t, "comes")
		changes.Listeners = append(changes.Listeners, loopback)
		s := startServer(t, Options{Engine: engine, Workers: 2}, stays, changes, goes)
		var load sync.WaitGroup
		done := make(chan struct{})
		for i := range 6 {
			addr := at(s, i%3).String()
			load.Go(func() {
				if err := checked(addr, 5, uint64(i), done); err != nil {
					t.Errorf("flow %d: %v", i, err)
				}
			})
		}
		eventually(t, "all flows run", func() bool { return s.Open() == 6 })
		removed := s.Services()[2]
		second := changes.Listeners[1]

		apply(t, s, stays, changes, comes) // one goes, another one comes
		if got, err := whose(at(s, 2).String(), 5); got != "comes" {
			t.Errorf("a service that was added: %q, %v", got, err)
		}
		if removed.Active() != 2 {
			t.Errorf("%d flows of the removed service", removed.Active())
		}
		rows := 0
		for r := range s.Flows() {
			if r.Service == removed {
				rows++
			}
		}
		if rows != 2 {
			t.Errorf("%d rows of the removed service, want 2", rows)
		}
		changes.Pool = comes.Pool // other backends
		changes.Listeners = []Listener{loopback}
		apply(t, s, stays, changes, comes)
		if got, err := whose(at(s, 1).String(), 5); got != "comes" {
			t.Errorf("a service with another pool: %q, %v", got, err)
		}
		if at(s, 1).Port() == 0 || second.Addr.Port() != 0 {
			t.Errorf("listeners %v, %v", at(s, 1), second)
		}
		pool, err := balancer.NewPool(balancer.Options{Scheduler: "lc"})
		if err != nil {
			t.Fatal(err)
		}
		pool.Update(specs(stays.Pool.Backends()[0].Endpoint().Addr), 0)
		stays.Pool = pool // another scheduler
		apply(t, s, stays)
		if got, err := whose(at(s, 0).String(), 5); got != "stays" {
			t.Errorf("a service with another scheduler: %q, %v", got, err)
		}
		close(done)
		load.Wait()
		eventually(t, "all flows end", func() bool { return s.Open() == 0 && removed.Active() == 0 })
		if removed.Ended(flow.Finished) != 2 {
			t.Errorf("%d flows of the removed service have finished", removed.Ended(flow.Finished))
		}
		if err := s.admission.CheckInvariants(); err != nil {
			t.Error(err)
		}
	})
}

// TestFailedApplyChangesNothing: whichever of the addresses cannot be had, none is bound,
// and what ran goes on as it did.
func TestFailedApplyChangesNothing(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const n = 5
		runs := named(t, "first")
		s := startServer(t, Options{Engine: engine, Workers: 2}, runs)
		before := s.Services()[0].Config()
		for k := range n {
			var services []ServiceConfig
			ports := ownPorts(t, n)
			taken, err := net.Listen("tcp", ports[k].String())
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range ports {
				c := named(t, fmt.Sprint("other", i))
				c.Listeners = []Listener{{Network: "tcp", Addr: p}}
				services = append(services, c)
			}
			err = s.Apply(pointers(services))
			var wrong *ListenError
			if !errors.Is(err, syscall.EADDRINUSE) || !errors.As(err, &wrong) ||
				wrong.Address != ports[k].String() || wrong.Service != fmt.Sprint("other", k) || !strings.Contains(err.Error(), wrong.Address) {
				t.Errorf("address %d: %v", k, err)
			}
			taken.Close()
			for i, p := range ports {
				l, err := net.Listen("tcp", p.String())
				if err != nil {
					t.Errorf("address %d is left bound after a failure of %d: %v", i, k, err)
					continue
				}
				l.Close()
			}
			if len(s.Services()) != 1 || s.Services()[0].Config() != before || len(s.bindings) != 1 {
				t.Errorf("something has changed")
			}
			if got, err := whose(at(s, 0).String(), 5); got != "first" {
				t.Errorf("what ran: %q, %v", got, err)
			}
		}
	})
}

// TestApplyListsAllRefused listeners: those that others have, and those that another service of the call has.
func TestApplyListsAllRefused(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s := startServer(t, Options{Engine: engine, Workers: 1}, named(t, "runs"))
		ports := ownPorts(t, 6)
		for _, p := range []netip.AddrPort{ports[1], ports[4]} {
			taken, err := net.Listen("tcp", p.String())
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
		}
		a, b, twin := named(t, "a"), named(t, "b"), named(t, "twin")
		tcp := func(p netip.AddrPort) Listener { return Listener{Network: "tcp", Addr: p} }
		a.Listeners = []Listener{tcp(ports[0]), tcp(ports[1])}
		b.Listeners = []Listener{tcp(ports[2]), tcp(ports[3]), {Network: "tcp", Addr: ports[4], Ports: 2}}
		twin.Listeners = []Listener{tcp(ports[2]), {Network: "udp", Addr: ports[0]}}
		err := s.Apply([]*ServiceConfig{&a, &b, &twin})
		all, ok := errors.AsType[ListenErrors](err)
		var got []string
		for _, e := range all {
			got = append(got, fmt.Sprint(e.Service, e.Index))
		}
		if want := "a1 b2 twin0 twin1"; !ok || strings.Join(got, " ") != want || !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%v: %v, want %s", err, got, want)
		}
		if len(s.bindings) != 1 || len(s.Services()) != 1 {
			t.Error("something has changed")
		}
		a.Listeners, b.Listeners, twin.Listeners = a.Listeners[:1], b.Listeners[:2], nil
		if err := s.Apply([]*ServiceConfig{&a, &b, &twin}); err != nil {
			t.Errorf("without those: %v", err)
		}
	})
}

// TestApplyRefuses what cannot be, before it binds anything.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, err := New(Options{Engine: engine, Workers: 1, MaxConns: 10})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		p := ownPorts(t, 1)[0]
		a, b := named(t, "a"), named(t, "b")
		a.Listeners = []Listener{{Network: "tcp", Addr: netip.AddrPortFrom(p.Addr(), p.Port()-3), Ports: 5}}
		b.Listeners = []Listener{{Network: "tcp", Addr: p}}
		mixed := named(t, "mixed")
		mixed.Listeners = []Listener{loopback, {Network: "udp", Addr: loopback.Addr}}
		greedy := named(t, "greedy")
		greedy.Reserve = 11
		beyond, chosen := named(t, "beyond"), named(t, "chosen")
		beyond.Listeners = []Listener{{Network: "tcp", Addr: netip.AddrPortFrom(p.Addr(), 65530), Ports: 7}}
		chosen.Listeners = []Listener{{Network: "tcp", Addr: loopback.Addr, Ports: 2}}
		for what, services := range map[string][]ServiceConfig{
			"65530-65536: a range of ports":   {beyond},
			"0-1: a range of ports is within": {chosen},
			"service a listens there":         {a, b},
			"two services of that name":       {b, b},
			"all listeners of a service are":  {mixed},
			"the reserves of services add up": {greedy},
		} {
			if err := s.Apply(pointers(services)); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: %v", what, err)
			}
		}
		err = s.Apply([]*ServiceConfig{&a, &b})
		if wrong := new(ListenError); !errors.As(err, &wrong) || wrong.Service != "b" || wrong.Address != p.String() {
			t.Errorf("%v", err)
		}
		if len(s.bindings) > 0 || len(s.Services()) > 0 {
			t.Error("something was bound")
		}
		s.Close()
		if err := s.Apply(nil); !errors.Is(err, ErrShutDown) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestListenerMoves between services and back while clients connect without a pause. None
// is refused, and who connects afterwards gets the new service.
func TestListenerMoves(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		a, b := named(t, "a"), named(t, "b")
		a.Listeners = []Listener{{Network: "tcp", Addr: ownPorts(t, 1)[0]}}
		b.Listeners = nil
		s := startServer(t, Options{Engine: engine, Workers: 2}, a, b)
		addr := at(s, 0).String()
		var stop atomic.Bool
		var clients sync.WaitGroup
		var served [2]atomic.Int64
		for range 4 {
			clients.Go(func() {
				for !stop.Load() {
					name, err := whose(addr, 1)
					if err != nil {
						t.Error(err)
						return
					}
					served[name[0]-'a'].Add(1)
				}
			})
		}
		for range 20 {
			a.Listeners, b.Listeners = b.Listeners, a.Listeners
			apply(t, s, a, b)
			want := "a"
			if len(b.Listeners) > 0 {
				want = "b"
			}
			if got, err := whose(addr, 1); got != want {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
			before := served[want[0]-'a'].Load()
			eventually(t, "others are served", func() bool { return served[want[0]-'a'].Load() > before })
		}
		stop.Store(true)
		clients.Wait()
		if n := len(s.bindings); n != 1 {
			t.Errorf("%d bindings", n)
		}
	})
}
