package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// wish is a random list of services, and which of them has each address.
type wish struct {
	services []*ServiceConfig
	owner    map[netip.AddrPort]string
}

// randomWish shares addresses out among some of the services. Some stay as they are: the same config, or a copy of it.
func randomWish(r *rand.Rand, now wish, services []ServiceConfig, streams, datagrams []netip.AddrPort) wish {
	w := wish{owner: make(map[netip.AddrPort]string)}
	stays := make(map[string]bool)
	change := r.IntN(4) // of so many in three
	for _, c := range now.services {
		if r.IntN(3) < change {
			continue
		}
		stays[c.Name] = true
		if r.IntN(4) == 0 {
			copied := *c
			c = &copied
		}
		w.services = append(w.services, c)
	}
	for at, name := range now.owner {
		if stays[name] {
			w.owner[at] = name
		}
	}
	for _, i := range r.Perm(len(services)) {
		if stays[services[i].Name] || r.IntN(4) == 0 {
			continue
		}
		c := services[i]
		network, all := "tcp", streams
		if c.IsUDP() {
			network, all = "udp", datagrams
		}
		c.Listeners = nil
		for first := 0; first < len(all); first++ {
			// Of neighbouring addresses some make a range.
			n := 0
			for first+n < len(all) && w.owner[all[first+n]] == "" && r.IntN(3) == 0 {
				w.owner[all[first+n]] = c.Name
				n++
			}
			if n > 0 {
				c.Listeners = append(c.Listeners, Listener{Network: network, Addr: all[first], Ports: n})
				first += n - 1
			}
		}
		if len(c.Listeners) > 0 {
			w.services = append(w.services, &c)
		}
	}
	if r.IntN(3) == 0 {
		r.Shuffle(len(w.services), func(i, j int) { w.services[i], w.services[j] = w.services[j], w.services[i] })
	}
	return w
}

// TestRandomApplies compares a server with what it was last told, again and again: which
// address answers, and for which service. Some lists cannot be had, and change nothing. A
// few connections live through all of it. At the end nothing is left.
func TestRandomApplies(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const seed = 1 // another one tests other cases
		r := rand.New(rand.NewPCG(seed, 0))
		ports := ownPorts(t, 9)
		streams, datagrams, taken := ports[:5], ports[5:8], ports[8]
		stranger, err := net.Listen("tcp", taken.String())
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		var services []ServiceConfig
		for i := range 6 {
			if i < 4 {
				services = append(services, named(t, fmt.Sprint(i)))
			} else {
				services = append(services, namedUDP(t, fmt.Sprint(i), UDPConfig{Replies: 1}))
			}
		}
		s := startServer(t, Options{Engine: engine, Workers: 2})
		now := wish{}
		var lasting []net.Conn
		for range 300 {
			next := randomWish(r, now, services, streams, datagrams)
			if len(next.services) > 0 && r.IntN(5) == 0 {
				i := r.IntN(len(next.services))
				spoilt := *next.services[i]
				if !spoilt.IsUDP() {
					spoilt.Listeners = append(slices.Clone(spoilt.Listeners), Listener{Network: "tcp", Addr: taken})
					next.services[i] = &spoilt
					if err := s.Apply(next.services); !errors.Is(err, syscall.EADDRINUSE) {
						t.Fatalf("an address that a stranger has: %v", err)
					}
					next = now
				}
			}
			if err := s.Apply(next.services); err != nil {
				t.Fatal(err)
			}
			now = next
			checkWish(t, s, now, streams, datagrams)
			checkBooks(t, s)
			if t.Failed() {
				return
			}
			lasting = step(t, r, lasting, now)
		}
		apply(t, s)
		for _, c := range lasting {
			c.Close()
		}
		eventually(t, "all flows end", func() bool { return s.Open() == 0 })
		if err := s.admission.CheckInvariants(); err != nil || len(s.bindings) > 0 {
			t.Errorf("%d bindings are left, and of the places: %v", len(s.bindings), err)
		}
	})
}

// checkWish asks every address who has it.
func checkWish(t *testing.T, s *Server, w wish, streams, datagrams []netip.AddrPort) {
	t.Helper()
	names := func(all []*Service) (names []string) {
		for _, svc := range all {
			names = append(names, svc.Name)
		}
		return names
	}
	var want []string
	for _, c := range w.services {
		want = append(want, c.Name)
	}
	if got := names(s.Services()); !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	for _, p := range streams {
		got, err := whose(p.String(), 1)
		if want := w.owner[p]; got != want && want != "" || want == "" && !errors.Is(err, syscall.ECONNREFUSED) || want != "" && err != nil {
			t.Errorf("%v answers %q, %v, want %q", p, got, err, want)
		}
	}
	for _, p := range datagrams {
		got, err := askOnce(p)
		if want := w.owner[p]; got != want || (err != nil) != (want == "") {
			t.Errorf("%v answers %q, %v, want %q", p, got, err, want)
		}
	}
}

// checkBooks adds up again what a server keeps between two calls of Apply.
func checkBooks(t *testing.T, s *Server) {
	t.Helper()
	sockets, datagrams, bindings := 0, 0, 0
	for i, svc := range s.Services() {
		now := s.byName[svc.Name]
		if now.index != i || now.service != svc || now.given != s.given[i] || now.settings != svc.Settings() {
			t.Errorf("service %s is not what the list has at %d", svc.Name, i)
		}
		sockets += now.sockets
		if svc.IsUDP() {
			datagrams++
		}
		for _, b := range now.bindings {
			bindings++
			if s.bindings[b.address()] != b || b.Destination().Service != svc {
				t.Errorf("%v is not %s's", b.address(), svc.Name)
			}
		}
	}
	if n := len(s.Services()); n != len(s.byName) || n != len(s.given) || bindings != len(s.bindings) || sockets != s.sockets || datagrams != s.datagrams {
		t.Errorf("of %d services %d have a name; of %d bindings %d an address; %d sockets are counted as %d, %d of datagrams as %d",
			n, len(s.byName), bindings, len(s.bindings), sockets, s.sockets, datagrams, s.datagrams)
	}
}

// step uses the lasting connections, and ends one or begins one.
func step(t *testing.T, r *rand.Rand, lasting []net.Conn, w wish) []net.Conn {
	t.Helper()
	for _, c := range lasting {
		roundTrip(t, c)
	}
	if len(lasting) > 8 || len(lasting) > 0 && r.IntN(4) == 0 {
		lasting[0].Close()
		return lasting[1:]
	}
	for p, name := range w.owner {
		if name < "4" {
			c := dial(t, p.String())
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			return append(lasting, c)
		}
	}
	return lasting
}

// TestNothingIsLeftAfterManyApplies: no descriptor and no goroutine.
func TestNothingIsLeftAfterManyApplies(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		ports := ownPorts(t, 40)
		c, u, x := named(t, "c"), namedUDP(t, "u", UDPConfig{Replies: 1}), named(t, "x")
		c.Listeners = []Listener{{Network: "tcp", Addr: ports[0], Ports: 20}, {Network: "unix", Path: t.TempDir() + "/socket"}}
		u.Listeners = []Listener{{Network: "udp", Addr: ports[20], Ports: 20}}
		taken, err := net.Listen("tcp", ports[39].String())
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		x.Listeners = []Listener{{Network: "tcp", Addr: ports[39]}}
		s := startServer(t, Options{Engine: engine, Workers: 3})
		round := func() {
			apply(t, s, c, u)
			if _, err := whose(ports[7].String(), 1); err != nil {
				t.Error(err)
			}
			if _, err := askOnce(ports[27]); err != nil {
				t.Error(err)
			}
			apply(t, s)
			if err := s.Apply([]*ServiceConfig{&c, &u, &x}); err == nil {
				t.Error("a stranger's address was bound")
			}
			eventually(t, "all flows end", func() bool { return s.Open() == 0 })
		}
		round()
		goroutines := runtime.NumGoroutine()
		files := openFiles(t)
		for range 10 {
			round()
		}
		eventually(t, "goroutines return", func() bool { return runtime.NumGoroutine() <= goroutines })
		eventually(t, "descriptors return", func() bool {
			runtime.GC() // the pipes that package net keeps for the backend
			return openFiles(t) <= files
		})
	})
}

// TestCostOfApply, counted in allocations: four times as many services cost about four times as much, and one change among
// them as much as among few.
func TestCostOfApply(t *testing.T) {
	const most = 2000
	pool := service(t).Pool
	mallocs := func(s *Server, services []*ServiceConfig) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := s.Apply(services); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	cost := func(n int) (all, one uint64) {
		s, err := New(Options{Engine: "portable", Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		services := make([]ServiceConfig, n)
		for i := range services {
			services[i] = ServiceConfig{
				Name: fmt.Sprint(i), Pool: pool, ConnectTimeout: time.Second,
				Listeners: []Listener{{Network: "tcp", Addr: loopback.Addr}},
			}
		}
		apply(t, s, services...)
		shared := pointers(services)
		all = mallocs(s, shared)
		changed := services[n/2]
		changed.IdleTimeout = time.Hour
		shared = slices.Clone(shared)
		shared[n/2] = &changed
		one = mallocs(s, shared)
		if s.Services()[n/2].Config().IdleTimeout != time.Hour {
			t.Error("the change is lost")
		}
		return all, one
	}
	fewAll, fewOne := cost(most / 4)
	manyAll, manyOne := cost(most)
	if manyAll > 6*fewAll {
		t.Errorf("%d allocations for %d services, %d for %d", fewAll, most/4, manyAll, most)
	}
	if manyOne > fewOne+100 {
		t.Errorf("%d allocations for one change among %d services, %d among %d", fewOne, most/4, manyOne, most)
	}
}
