package flow

import (
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRedivideIsExact changes reserves and limits while flows come and go. At no time are
// there more than may be, and at the end all places are there again.
func TestRedivideIsExact(t *testing.T) {
	t.Parallel()
	const places = 40
	services := make([]*Service, 4)
	for i := range services {
		c := ServiceConfig{}
		if i%2 == 0 {
			c.Listeners = []Listener{{Network: "udp"}}
		}
		services[i] = testService(c)
	}
	s := dividing(t, places, 25, services...)
	var stop atomic.Bool
	var flows sync.WaitGroup
	var in atomic.Int64
	for i := range 8 {
		flows.Go(func() {
			for !stop.Load() {
				c := services[i%4].Settings()
				if s.Place(c) != Running {
					continue
				}
				if n := in.Add(1); n > places {
					t.Errorf("%d flows", n)
				}
				in.Add(-1)
				s.leave(c)
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var some []*Settings
		var removed []*Service
		for _, svc := range services {
			if c := *svc.Settings(); r.IntN(4) > 0 {
				c.Reserve = r.IntN(8)
				some = append(some, &c)
			} else {
				removed = append(removed, svc)
			}
		}
		d, err := Divide(some, places, int64(24+r.IntN(10)))
		if err != nil {
			t.Fatal(err)
		}
		s.Redivide(d, removed)
	}
	stop.Store(true)
	flows.Wait()
	if err := s.CheckInvariants(); err != nil || s.Open.Load() != 0 {
		t.Errorf("%d flows are left, %v", s.Open.Load(), err)
	}
}

// TestRedivideTurnsNobodyAway changes the reserve of a service that is in use. Clients of another one, which has none left,
// find a shared place all the time, and one that is gone serves its last clients.
func TestRedivideTurnsNobodyAway(t *testing.T) {
	t.Parallel()
	for name, ports := range map[string]int64{"places": 0, "ports": 100} {
		places := 100 + 100*min(ports, 1) // what is short has 100
		busy, other := udpReserving(60), udpReserving(1)
		s := dividing(t, places, ports, busy, other)
		for range 60 {
			s.Place(busy.Settings())
		}
		s.Place(other.Settings())
		var stop atomic.Bool
		var clients sync.WaitGroup
		clients.Go(func() {
			for !stop.Load() {
				if o := s.Place(other.Settings()); o != Running {
					t.Errorf("%s: with 38 of them free: %v", name, o)
					return
				}
				s.leave(other.Settings())
			}
		})
		for i := range 20000 {
			c := *busy.Settings()
			c.Reserve = []int{10, 60}[i%2]
			d, err := Divide([]*Settings{&c, other.Settings()}, places, ports)
			if err != nil {
				t.Fatal(err)
			}
			s.Redivide(d, nil)
		}
		stop.Store(true)
		clients.Wait()
		c := *other.Settings()
		c.Reserve = 100
		d, err := Divide([]*Settings{&c}, places, ports)
		if err != nil {
			t.Fatal(err)
		}
		busy.MarkRemoved()
		s.Redivide(d, []*Service{busy})
		if o := s.Place(busy.Settings()); o != Running {
			t.Errorf("%s: a last client of a service that is gone: %v", name, o)
		}
	}
}

// udpReserving is a udp service that reserves places.
func udpReserving(n int) *Service {
	return testService(ServiceConfig{Reserve: n, Listeners: []Listener{{Network: "udp"}}})
}

// TestFewerPlacesEndNothing: with a smaller limit than there are flows nobody is let in
// until there is room.
func TestFewerPlacesEndNothing(t *testing.T) {
	t.Parallel()
	svc := testService(ServiceConfig{Listeners: []Listener{{Network: "udp"}}})
	c := svc.Settings()
	s := dividing(t, 10, 0, svc)
	for range 10 {
		if o := s.Place(c); o != Running {
			t.Fatal(o)
		}
	}
	other := testService(ServiceConfig{})
	d, err := Divide([]*Settings{c, other.Settings()}, 6, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Redivide(d, nil)
	for left := 10; left > 0; left-- {
		o := s.Place(other.Settings())
		if want := left < 6; (o == Running) != want {
			t.Errorf("with %d flows of 6: %v", left, o)
		}
		if o == Running {
			s.leave(other.Settings())
		}
		s.leave(c)
	}
	if err := s.CheckInvariants(); err != nil || s.Open.Load() != 0 {
		t.Errorf("%d flows are left, %v", s.Open.Load(), err)
	}
}

// TestDividesAs: settings that say so divide as others do.
func TestDividesAs(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	settings := func() *Settings {
		c := ServiceConfig{Reserve: r.IntN(2), UDP: UDPConfig{MaxFlows: r.IntN(2), MaxClientFlows: r.IntN(2), Replies: r.IntN(2)}}
		c.ReclaimIdle, c.IdleTimeout = time.Duration(r.IntN(2)), time.Duration(r.IntN(3))
		if r.IntN(2) == 0 {
			c.Listeners = []Listener{{Network: "udp"}}
		}
		return testService(c).Settings()
	}
	alike := 0
	for range 5000 {
		a, b, other := settings(), settings(), settings()
		divide := func(s *Settings) *Division {
			d, err := Divide([]*Settings{s, other}, 1000, 500)
			if err != nil {
				t.Fatal(err)
			}
			d.services = nil
			return d
		}
		if a.DividesAs(b) {
			alike++
			if x, y := divide(a), divide(b); !reflect.DeepEqual(x, y) {
				t.Fatalf("%+v and %+v divide as %+v and %+v", a.ServiceConfig, b.ServiceConfig, x, y)
			}
		}
	}
	if alike == 0 {
		t.Error("none are alike")
	}
}
