package balancer

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestEmptyPool(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		p, err := NewPool(Options{Scheduler: scheduler, Random: rand.Uint64})
		if err != nil {
			t.Fatal(err)
		}
		if b := acquire(p, client(0), nil); b != nil {
			t.Errorf("new pool gave %v", b)
		}
		update(p, specs(2))
		update(p, nil)
		if b := acquire(p, client(0), nil); b != nil {
			t.Errorf("emptied pool gave %v", b)
		}
		if n := len(p.Backends()); n != 0 {
			t.Errorf("emptied pool shows %d backends", n)
		}
	})
}

func TestUpdateKeepsIdentity(t *testing.T) {
	t.Parallel()
	p := newPool(t, "rr", specs(3))
	before := p.Backends()
	setStatus(p, before[1], Down)

	s := specs(4)
	one := s[1]
	one.Weight = 7
	one.Endpoint.Ports = 1 // as good as 0
	removed := update(p, []Spec{s[3], one, s[0], s[0]})

	after := p.Backends()
	if len(after) != 3 || after[1] != before[1] || after[2] != before[0] {
		t.Fatalf("backends %v, before %v", names(after), names(before))
	}
	if !slices.Equal(removed, before[2:]) {
		t.Errorf("removed %v", names(removed))
	}
	if b := after[1]; b.Status() != Down || b.Weight() != 7 {
		t.Errorf("backend that stayed: status %v, weight %d; want down, 7", b.Status(), b.Weight())
	}

	update(p, specs(3))
	if b := p.Backends()[2]; b == before[2] || b.ID() == before[2].ID() {
		t.Error("a backend that was removed came back with its old identity")
	}
}

// TestStatus is the table of the package document.
func TestStatus(t *testing.T) {
	t.Parallel()
	p := newPool(t, "rr", nil)
	for _, tt := range []struct {
		check   Status
		admin   AdminState
		ejected bool
		want    Status
	}{
		{Unknown, Ready, false, Unknown},
		{Up, Ready, false, Up},
		{Up, Drain, false, Draining},
		{Down, Drain, false, Draining}, // what checks find stays below
		{Down, Maint, true, InMaint},
		{Down, Ready, true, Down},
		{Up, Ready, true, Down},
		{Up, Ready, false, Up},
		{Down, Ready, false, Down},
		{Status(99), Ready, false, Unknown},
	} {
		spec := specs(1)[0]
		spec.Check, spec.Admin, spec.Ejected = tt.check, tt.admin, tt.ejected
		p.Update([]Spec{spec}, 0)
		if b := p.Backends()[0]; b.Status() != tt.want || b.Ejected() != tt.ejected {
			t.Errorf("%+v: status %v, ejected %v", tt, b.Status(), b.Ejected())
		}
	}
}

func TestAcquireSticky(t *testing.T) {
	t.Parallel()
	const no, quiesced, overloaded, both = 1, 2, 4, 8 // what has to be allowed
	const always, never = no | quiesced | overloaded | both, 0
	for _, tt := range []struct {
		name  string
		spec  Spec
		do    func(p *Pool, b *Backend)
		works int
	}{
		{name: "up", works: always},
		{name: "unknown", do: func(p *Pool, b *Backend) { setStatus(p, b, Unknown) }, works: always},
		{name: "down", do: func(p *Pool, b *Backend) { setStatus(p, b, Down) }},
		{name: "ejected", do: func(p *Pool, b *Backend) { eject(p, true, b) }},
		{name: "ejected and readmitted", do: func(p *Pool, b *Backend) { eject(p, true, b); eject(p, false, b) }, works: always},
		{name: "all down, and used for want of others", do: func(p *Pool, b *Backend) {
			for _, x := range p.Backends() {
				setStatus(p, x, Down)
			}
		}, works: always},
		{name: "all down, until another comes up", do: func(p *Pool, b *Backend) {
			for _, x := range p.Backends() {
				setStatus(p, x, Down)
			}
			setStatus(p, p.Backends()[1], Up)
		}},
		{name: "drain", do: func(p *Pool, b *Backend) { setAdmin(p, Drain, b) }, works: quiesced | both},
		{name: "drain, and down", do: func(p *Pool, b *Backend) { setAdmin(p, Drain, b); setStatus(p, b, Down) }},
		{name: "down, and drain", do: func(p *Pool, b *Backend) { setStatus(p, b, Down); setAdmin(p, Drain, b) }},
		{name: "drain, and ejected", do: func(p *Pool, b *Backend) { setAdmin(p, Drain, b); eject(p, true, b) }},
		{name: "drain, down and up again", do: func(p *Pool, b *Backend) {
			setAdmin(p, Drain, b)
			setStatus(p, b, Down)
			setStatus(p, b, Up)
		}, works: quiesced | both},
		{name: "drain, lifted", do: func(p *Pool, b *Backend) { setAdmin(p, Drain, b); setAdmin(p, Ready, b) }, works: always},
		{name: "maint", do: func(p *Pool, b *Backend) { setAdmin(p, Maint, b) }},
		{name: "weight 0", spec: Spec{Weight: -1}, works: quiesced | both},
		{name: "weight 0, and down", spec: Spec{Weight: -1}, do: func(p *Pool, b *Backend) { setStatus(p, b, Down) }},
		{name: "weight 0, and drain", spec: Spec{Weight: -1}, do: func(p *Pool, b *Backend) { setAdmin(p, Drain, b) }, works: quiesced | both},
		{name: "removed", do: func(p *Pool, b *Backend) { update(p, specs(3)[1:]) }},
		{name: "removed and listed again", do: func(p *Pool, b *Backend) { update(p, specs(3)[1:]); update(p, specs(3)) }},
		{name: "backup that is not needed", spec: Spec{Backup: true}, works: always},
		{name: "backup that is down", spec: Spec{Backup: true}, do: func(p *Pool, b *Backend) { setStatus(p, b, Down) }},
		{name: "overloaded", spec: Spec{Limits: Limits{Upper: 2}}, works: overloaded | both},
		{name: "overloaded, weight 0", spec: Spec{Weight: -1, Limits: Limits{Upper: 2}}, works: both},
		{name: "at its maximum", spec: Spec{Limits: Limits{Max: 2}}},
		{name: "at both", spec: Spec{Limits: Limits{Upper: 2, Max: 2}}},
		{name: "below both", spec: Spec{Limits: Limits{Upper: 3, Max: 3}}, works: always},
		{name: "a name that does not resolve", spec: Spec{Endpoint: Endpoint{Host: "db.local:5432"}}, do: func(p *Pool, b *Backend) { setStatus(p, b, Up) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachScheduler(t, func(t *testing.T, scheduler string) {
				s := specs(3)
				for i := range s {
					s[i].Weight = 20
				}
				if tt.spec.Endpoint.Host != "" {
					s[0].Endpoint = tt.spec.Endpoint
				}
				p := newPool(t, scheduler, s)
				b := p.Backends()[0]
				if b.endpoint.Resolved() {
					for range 2 {
						if !p.AcquireSticky(b, AffinityPolicy{}) {
							t.Fatal("cannot rejoin an idle backend")
						}
					}
				}
				s[0].Backup, s[0].Limits = tt.spec.Backup, tt.spec.Limits
				if tt.spec.Weight < 0 {
					s[0].Weight = 0
				}
				update(p, s)
				if tt.do != nil {
					tt.do(p, b)
				}
				active := b.Active()
				for mask, allow := range map[int]AffinityPolicy{no: {}, quiesced: {Quiesced: true}, overloaded: {Overloaded: true}, both: {Quiesced: true, Overloaded: true}} {
					got := p.AcquireSticky(b, allow)
					if want := tt.works&mask != 0; got != want {
						t.Errorf("%+v: AcquireSticky %v, want %v", allow, got, want)
					}
					if got {
						p.Release(b)
					}
					if b.Active() != active {
						t.Errorf("%+v: %d flows were %d before", allow, b.Active(), active)
					}
				}
				for range active {
					p.Release(b)
				}
			})
		})
	}
}

// TestAcquireStickyOfAnotherPool: a client may come with a backend of the pool that its
// service had before.
func TestAcquireStickyOfAnotherPool(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		before, now := newPool(t, scheduler, specs(3)), newPool(t, scheduler, specs(1))
		for _, b := range before.Backends() {
			if now.AcquireSticky(b, AffinityPolicy{}) {
				t.Errorf("%v is another pool's", b)
			}
		}
	})
}

// TestNoNewsWaitsToo has two callers report the same: neither returns before choices
// follow the report.
func TestNoNewsWaitsToo(t *testing.T) {
	t.Parallel()
	p := newPool(t, "rr", specs(2))
	slow := &slowScheduler{entered: make(chan struct{}, 2), gate: make(chan struct{})}
	slow.roundRobin.update(nil)
	p.chooser.Store(&chooser{scheduler: slow})
	b := p.Backends()[0]
	var wg sync.WaitGroup
	wg.Go(func() { setStatus(p, b, Down) })
	<-slow.entered
	second := make(chan bool)
	wg.Go(func() { second <- setStatus(p, b, Down) })
	select {
	case <-second:
		t.Error("returned while flows still went there")
	case <-time.After(20 * time.Millisecond): // long enough to see it wrong, never wrong if right
		close(slow.gate)
		if <-second {
			t.Error("the second report of one thing changed something")
		}
	}
	if t.Failed() {
		close(slow.gate)
	}
	wg.Wait()
}

// TestTriedSkipped follows one flow over all backends that fail, up to the limit.
func TestTriedSkipped(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 5, maxTried, maxTried + 1, 100} {
		eachScheduler(t, func(t *testing.T, scheduler string) {
			s := specs(n)
			s[0].Weight = maxWeight // fills nearly every slot of a hash table
			p := newPool(t, scheduler, s)
			var tried Tried
			for range min(n, maxTried) {
				b := acquire(p, client(n), &tried)
				if b == nil {
					t.Fatalf("%d backends: none left after %d", n, tried.Len())
				}
				if tried.Has(b) {
					t.Fatalf("%d backends: %v again after %d", n, b, tried.Len())
				}
				tried.Add(b)
				p.Release(b)
			}
			b := acquire(p, client(n), &tried)
			if (b != nil) != (n > maxTried) {
				t.Errorf("%d backends: %v after trying %d", n, b, tried.Len())
			}
			if b != nil && tried.Has(b) {
				t.Errorf("%d backends: %v again with a full Tried", n, b)
			}
		})
	}
}

// slowScheduler stands in for one whose tables take long to build.
type slowScheduler struct {
	roundRobin
	entered chan struct{}
	gate    chan struct{}
	updates int
}

func (s *slowScheduler) update(members []member) {
	s.updates++
	s.entered <- struct{}{}
	<-s.gate
	s.roundRobin.update(members)
}

// TestChangesBuildTogether shows that changes that wait for a build need only one more.
func TestChangesBuildTogether(t *testing.T) {
	t.Parallel()
	const n = 100
	p := newPool(t, "rr", specs(n))
	slow := &slowScheduler{entered: make(chan struct{}, n), gate: make(chan struct{})}
	slow.roundRobin.update(nil)
	p.chooser.Store(&chooser{scheduler: slow})

	backends := p.Backends()
	var wg sync.WaitGroup
	wg.Go(func() { setAdmin(p, Maint, backends[0]) })
	<-slow.entered
	for _, b := range backends[1 : n-1] {
		wg.Go(func() { setAdmin(p, Maint, b) })
	}
	deadline := time.Now().Add(10 * time.Second)
	for slices.ContainsFunc(backends[:n-1], func(b *Backend) bool { return b.Status() != InMaint }) {
		if time.Now().After(deadline) {
			t.Fatal("a change waits for the build before it is recorded")
		}
		time.Sleep(time.Millisecond)
	}
	close(slow.gate)
	wg.Wait()
	if slow.updates != 2 {
		t.Errorf("%d builds for %d changes, want 2", slow.updates, n-1)
	}
	if got := picks(p, 3)[backends[n-1]]; got != 3 {
		t.Errorf("the only backend left got %d of 3 flows", got)
	}
}

func TestUpdateClampsWeight(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ weight, want int }{
		{-1, 0}, {0, 0}, {1, 1}, {maxWeight, maxWeight}, {math.MaxInt, maxWeight},
	} {
		p := newPool(t, "rr", weighing(tt.weight))
		if got := p.Backends()[0].Weight(); got != tt.want || (acquire(p, client(0), nil) != nil) != (tt.want > 0) {
			t.Errorf("weight %d counts as %d, want %d", tt.weight, got, tt.want)
		}
	}
}

// TestEndpointsOfAllKinds: paths and port ranges are backends like others, and a client of
// a unix socket, which has no address, is a client.
func TestEndpointsOfAllKinds(t *testing.T) {
	t.Parallel()
	eachForm(t, func(t *testing.T, o Options) {
		p := poolOf(t, o, []Spec{
			{Endpoint: Endpoint{Path: "/run/a.sock"}, Weight: 1},
			{Endpoint: Endpoint{Addr: netip.MustParseAddrPort("[::1]:9000"), Ports: 10}, Weight: 1},
			{Endpoint: Endpoint{Addr: netip.MustParseAddrPort("[::1]:9000")}, Weight: 1},
		})
		for tried := new(Tried); tried.Len() < 3; {
			b := acquire(p, Flow{}, tried)
			if b == nil || tried.Has(b) {
				t.Fatalf("%v after %d of 3", b, tried.Len())
			}
			tried.Add(b)
		}
	})
}
