package balancer

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestNewPoolRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{Scheduler: "wrongrobin"}, `unknown scheduler "wrongrobin"`},
		{Options{Initial: Drain}, `"drain"`},
	} {
		if _, err := NewPool(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("NewPool(%+v): error %v, want one with %s", tt.o, err, tt.want)
		}
	}
}

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
		p.Update(specs(2))
		p.Update(nil)
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
	p.SetStatus(before[1], Down)

	s := specs(4)
	one := s[1]
	one.Weight = 7
	one.Endpoint.Ports = 1 // as good as 0
	added, removed := p.Update([]Spec{s[3], one, s[0], s[0]})

	after := p.Backends()
	if len(after) != 3 || after[1] != before[1] || after[2] != before[0] {
		t.Fatalf("backends %v, before %v", names(after), names(before))
	}
	if !slices.Equal(added, after[:1]) || !slices.Equal(removed, before[2:]) {
		t.Errorf("added %v, removed %v", names(added), names(removed))
	}
	if b := after[1]; b.Status() != Down || b.Weight() != 7 {
		t.Errorf("backend that stayed: status %v, weight %d; want down, 7", b.Status(), b.Weight())
	}

	p.Update(specs(3))
	if b := p.Backends()[2]; b == before[2] || b.ID() == before[2].ID() {
		t.Error("a backend that was removed came back with its old identity")
	}
}

func TestUpdateClampsWeight(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ weight, want int }{
		{-1, 0}, {0, 0}, {1, 1}, {maxWeight, maxWeight}, {math.MaxInt, maxWeight},
	} {
		eachScheduler(t, func(t *testing.T, scheduler string) {
			p := newPool(t, scheduler, []Spec{{Endpoint: endpoint(0), Weight: tt.weight}})
			if got := p.Backends()[0].Weight(); got != tt.want {
				t.Errorf("weight %d counts as %d, want %d", tt.weight, got, tt.want)
			}
			if got := acquire(p, client(0), nil) != nil; got != (tt.want > 0) {
				t.Errorf("weight %d: gets a flow: %v", tt.weight, got)
			}
		})
	}
}

func TestSetStatus(t *testing.T) {
	t.Parallel()
	p, err := NewPool(Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.Update(specs(2))
	b := p.Backends()[0]
	for i, tt := range []struct {
		set     Status
		resume  bool
		changed bool
		want    Status
	}{
		{set: Unknown, changed: false, want: Unknown},
		{set: Up, changed: true, want: Up},
		{set: Up, changed: false, want: Up},
		{set: Drain, changed: true, want: Drain},
		{set: Down, changed: false, want: Drain}, // a finding under an order
		{set: Maint, changed: true, want: Maint},
		{resume: true, changed: true, want: Down},
		{resume: true, changed: false, want: Down},
		{set: Status(99), changed: false, want: Down},
	} {
		var changed bool
		if tt.resume {
			changed = p.Resume(b)
		} else {
			changed = p.SetStatus(b, tt.set)
		}
		if changed != tt.changed || b.Status() != tt.want {
			t.Errorf("step %d: changed %v, status %v; want %v, %v", i, changed, b.Status(), tt.changed, tt.want)
		}
	}
	p.Update(specs(2)[1:])
	if p.SetStatus(b, Up) || b.Status() != Down {
		t.Error("a removed backend changed its status")
	}
}

func TestRejoin(t *testing.T) {
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
		{name: "unknown", do: func(p *Pool, b *Backend) { p.SetStatus(b, Unknown) }, works: always},
		{name: "down", do: func(p *Pool, b *Backend) { p.SetStatus(b, Down) }},
		{name: "ejected", do: func(p *Pool, b *Backend) { p.Eject(b) }},
		{name: "ejected and readmitted", do: func(p *Pool, b *Backend) { p.Eject(b); p.Readmit(b) }, works: always},
		{name: "all down, and used for want of others", do: func(p *Pool, b *Backend) {
			for _, x := range p.Backends() {
				p.SetStatus(x, Down)
			}
		}, works: always},
		{name: "all down, until another comes up", do: func(p *Pool, b *Backend) {
			for _, x := range p.Backends() {
				p.SetStatus(x, Down)
			}
			p.SetStatus(p.Backends()[1], Up)
		}},
		{name: "drain", do: func(p *Pool, b *Backend) { p.SetStatus(b, Drain) }, works: quiesced | both},
		{name: "drain, and down", do: func(p *Pool, b *Backend) { p.SetStatus(b, Drain); p.SetStatus(b, Down) }},
		{name: "down, and drain", do: func(p *Pool, b *Backend) { p.SetStatus(b, Down); p.SetStatus(b, Drain) }},
		{name: "drain, and ejected", do: func(p *Pool, b *Backend) { p.SetStatus(b, Drain); p.Eject(b) }},
		{name: "drain, down and up again", do: func(p *Pool, b *Backend) {
			p.SetStatus(b, Drain)
			p.SetStatus(b, Down)
			p.SetStatus(b, Up)
		}, works: quiesced | both},
		{name: "drain, lifted", do: func(p *Pool, b *Backend) { p.SetStatus(b, Drain); p.Resume(b) }, works: always},
		{name: "maint", do: func(p *Pool, b *Backend) { p.SetStatus(b, Maint) }},
		{name: "weight 0", spec: Spec{Weight: -1}, works: quiesced | both},
		{name: "weight 0, and down", spec: Spec{Weight: -1}, do: func(p *Pool, b *Backend) { p.SetStatus(b, Down) }},
		{name: "weight 0, and drain", spec: Spec{Weight: -1}, do: func(p *Pool, b *Backend) { p.SetStatus(b, Drain) }, works: quiesced | both},
		{name: "removed", do: func(p *Pool, b *Backend) { p.Update(specs(3)[1:]) }},
		{name: "removed and listed again", do: func(p *Pool, b *Backend) { p.Update(specs(3)[1:]); p.Update(specs(3)) }},
		{name: "backup that is not needed", spec: Spec{Backup: true}, works: always},
		{name: "backup that is down", spec: Spec{Backup: true}, do: func(p *Pool, b *Backend) { p.SetStatus(b, Down) }},
		{name: "overloaded", spec: Spec{Limits: Limits{Upper: 2}}, works: overloaded | both},
		{name: "overloaded, weight 0", spec: Spec{Weight: -1, Limits: Limits{Upper: 2}}, works: both},
		{name: "at its maximum", spec: Spec{Limits: Limits{Max: 2}}},
		{name: "at both", spec: Spec{Limits: Limits{Upper: 2, Max: 2}}},
		{name: "below both", spec: Spec{Limits: Limits{Upper: 3, Max: 3}}, works: always},
		{name: "a name that does not resolve", spec: Spec{Endpoint: Endpoint{Host: "db.local:5432"}}, do: func(p *Pool, b *Backend) { p.SetStatus(b, Up) }},
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
						if !p.Rejoin(b, Stickiness{}) {
							t.Fatal("cannot rejoin an idle backend")
						}
					}
				}
				s[0].Backup, s[0].Limits = tt.spec.Backup, tt.spec.Limits
				if tt.spec.Weight < 0 {
					s[0].Weight = 0
				}
				p.Update(s)
				if tt.do != nil {
					tt.do(p, b)
				}
				active := b.Active()
				for mask, allow := range map[int]Stickiness{no: {}, quiesced: {Quiesced: true}, overloaded: {Overloaded: true}, both: {Quiesced: true, Overloaded: true}} {
					got := p.Rejoin(b, allow)
					if want := tt.works&mask != 0; got != want {
						t.Errorf("%+v: Rejoin %v, want %v", allow, got, want)
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

// TestNoNewsWaitsToo has two callers report the same: neither returns before choices
// follow the report.
func TestNoNewsWaitsToo(t *testing.T) {
	t.Parallel()
	p := newPool(t, "rr", specs(2))
	slow := &slowScheduler{entered: make(chan struct{}, 2), gate: make(chan struct{})}
	slow.roundRobin.update(nil)
	p.scheduler = slow
	b := p.Backends()[0]
	var wg sync.WaitGroup
	wg.Go(func() { p.SetStatus(b, Down) })
	<-slow.entered
	second := make(chan bool)
	wg.Go(func() { second <- p.SetStatus(b, Down) })
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

func TestReleaseAfterRemoval(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		s := weighing(100, 100) // room for all with ovf
		p := newPool(t, scheduler, s)
		picks(p, 100)
		if p.Backends()[0].Active() == 0 { // one may have got them all
			slices.Reverse(s)
			p.Update(s)
		}
		gone := p.Backends()[0]
		n := gone.Active()
		p.Update(s[1:])
		for range n {
			p.Release(gone)
		}
		// The same endpoint again is another backend: a flow of the old one that ends now
		// must not touch it.
		releaseAll(p)
		late := acquire(p, client(0), nil)
		p.Update(s[:1])
		fresh := p.Backends()[0]
		p.Release(late)
		if gone.Active() != 0 || fresh.Active() != 0 {
			t.Errorf("active: removed %d, its successor %d; want 0, 0", gone.Active(), fresh.Active())
		}
		if got := picks(p, 3)[fresh]; got != 3 {
			t.Errorf("successor got %d of 3 flows", got)
		}
	})
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
	p.scheduler = slow

	backends := p.Backends()
	var wg sync.WaitGroup
	wg.Go(func() { p.SetStatus(backends[0], Maint) })
	<-slow.entered
	for _, b := range backends[1 : n-1] {
		wg.Go(func() { p.SetStatus(b, Maint) })
	}
	deadline := time.Now().Add(10 * time.Second)
	for slices.ContainsFunc(backends[:n-1], func(b *Backend) bool { return b.Status() != Maint }) {
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

func TestUnixAndPortRangeBackends(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		p := newPool(t, scheduler, []Spec{
			{Endpoint: Endpoint{Path: "/run/a.sock"}, Weight: 1},
			{Endpoint: Endpoint{Addr: netip.MustParseAddrPort("[::1]:9000"), Ports: 10}, Weight: 1},
			{Endpoint: Endpoint{Addr: netip.MustParseAddrPort("[::1]:9000")}, Weight: 1},
		})
		if n := len(p.Backends()); n != 3 {
			t.Fatalf("%d backends, want 3", n)
		}
		for tried := new(Tried); tried.Len() < 3; {
			b := acquire(p, client(0), tried)
			if b == nil || tried.Has(b) {
				t.Fatalf("%v after %d of 3", b, tried.Len())
			}
			tried.Add(b)
			p.Release(b)
		}
		// A client of a unix socket has no address.
		if acquire(p, Flow{}, nil) == nil {
			t.Error("a client without an address got no backend")
		}
	})
}
