package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"usher/proxy/flow"
)

// wish is a random list of services, and which of them has what of each address.
type wish struct {
	services []*ServiceConfig
	owner    map[part]string
}

// part is what one service alone may have: an address, or the clients there with a server name.
type part struct {
	at   netip.AddrPort
	name string
}

// isShared reports whether a ClientHello decides who has a client of an address.
func (w wish) isShared(at netip.AddrPort) bool {
	for p := range w.owner {
		if p.at == at && p.name != "" {
			return true
		}
	}
	return false
}

// first returns who accounts for a client of a shared address.
func (w wish) first(at netip.AddrPort) string {
	if name := w.owner[part{at, ""}]; name != "" {
		return name
	}
	for _, c := range w.services {
		if slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Has(at) }) {
			return c.Name
		}
	}
	return ""
}

// serverNames are those of listeners. Most have none.
var serverNames = []string{"", "", "a.test", "*.test"}

// randomWish shares addresses out among some of the services. Some stay as they are: the same config, or a copy of it.
func randomWish(r *rand.Rand, now wish, services []ServiceConfig, streams, datagrams []netip.AddrPort) wish {
	w := wish{owner: make(map[part]string)}
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
		network, all, names := "tcp", streams, serverNames
		if c.IsUDP() {
			network, all, names = "udp", datagrams, serverNames[:1]
		}
		c.Listeners = nil
		for first := 0; first < len(all); first++ {
			// Of neighbouring addresses some make a range.
			n, name := 0, names[r.IntN(len(names))]
			for first+n < len(all) && w.owner[part{all[first+n], name}] == "" && r.IntN(3) == 0 {
				w.owner[part{all[first+n], name}] = c.Name
				n++
			}
			if n > 0 {
				c.Listeners = append(c.Listeners, Listener{Network: network, Addr: all[first], Ports: n, ServerName: name})
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
			before := maps.Clone(s.bindings)
			if err := s.Apply(next.services); err != nil {
				t.Fatal(err)
			}
			for a, b := range s.bindings {
				if was := before[a]; was != nil && was != b {
					t.Errorf("%v was bound anew", a)
				}
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
		if w.isShared(p) {
			checkShared(t, s, w, p)
			continue
		}
		got, err := whose(p.String(), 1)
		if want := w.owner[part{p, ""}]; got != want && want != "" || want == "" && !errors.Is(err, syscall.ECONNREFUSED) || want != "" && err != nil {
			t.Errorf("%v answers %q, %v, want %q", p, got, err, want)
		}
	}
	for _, p := range datagrams {
		got, err := askOnce(p)
		if want := w.owner[part{p, ""}]; got != want || (err != nil) != (want == "") {
			t.Errorf("%v answers %q, %v, want %q", p, got, err, want)
		}
	}
}

// checkShared asks a shared address whose the clients with each server name are.
func checkShared(t *testing.T, s *Server, w wish, p netip.AddrPort) {
	t.Helper()
	b := s.bindings[addressOf(Listener{Network: "tcp", Addr: p})]
	if b == nil || !b.NeedsHello() {
		t.Errorf("%v is not bound, or not shared", p)
		return
	}
	if got, want := b.Destination().Service.Name, w.first(p); got != want {
		t.Errorf("%v: %q accounts for the clients, want %q", p, got, want)
	}
	rest := w.owner[part{p, ""}]
	wild := cmp.Or(w.owner[part{p, "*.test"}], rest)
	for name, want := range map[string]string{
		"a.test": cmp.Or(w.owner[part{p, "a.test"}], wild), "b.test": wild, "test": rest, "": rest,
	} {
		got := ""
		if d := b.DestinationOf(name, nil); d != nil {
			got = d.Service.Name
		}
		if got != want {
			t.Errorf("%v: a client with server name %q is %q's, want %q", p, name, got, want)
		}
	}
}

// checkBooks adds up again what a server keeps between two calls of Apply.
func checkBooks(t *testing.T, s *Server) {
	t.Helper()
	sockets, datagrams := 0, 0
	bindings := make(map[*binding]int) // the parts that services have of it
	for i, svc := range s.Services() {
		now := s.byName[svc.Name]
		if now.index != i || now.service != svc || now.given != s.given[i] || now.settings != svc.Settings() {
			t.Errorf("service %s is not what the list has at %d", svc.Name, i)
		}
		if svc.IsUDP() {
			datagrams++
		}
		for _, b := range now.bindings {
			bindings[b]++
			if s.bindings[b.address()] != b || !slices.ContainsFunc(b.Destinations(), func(d flow.Destination) bool { return d.Service == svc }) {
				t.Errorf("%v is not %s's", b.address(), svc.Name)
			}
		}
	}
	for b, parts := range bindings {
		sockets += s.kind.sockets(b.at, s.workers)
		if len(b.claims) != parts || len(b.Destinations()) != parts {
			t.Errorf("%v has %d parts and %d destinations, want %d", b.address(), len(b.claims), len(b.Destinations()), parts)
		}
	}
	if n := len(s.Services()); n != len(s.byName) || n != len(s.given) || len(bindings) != len(s.bindings) || sockets != s.sockets || datagrams != s.datagrams {
		t.Errorf("of %d services %d have a name; of %d bindings %d an address; %d sockets are counted as %d, %d of datagrams as %d",
			n, len(s.byName), len(bindings), len(s.bindings), sockets, s.sockets, datagrams, s.datagrams)
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
		if name < "4" && !w.isShared(p.at) {
			c := dial(t, p.at.String())
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
