package balancer

import (
	"math"
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
		p, err := NewPool(Options{Scheduler: scheduler})
		if err != nil {
			t.Fatal(err)
		}
		if b := p.Acquire(client(0), nil); b != nil {
			t.Errorf("new pool gave %v", b)
		}
		p.Update(specs(2))
		p.Update(nil)
		if b := p.Acquire(client(0), nil); b != nil {
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
			if got := p.Acquire(client(0), nil) != nil; got != (tt.want > 0) {
				t.Errorf("weight %d: gets a flow: %v", tt.weight, got)
			}
		})
	}
}

// TestTiers names the backends of each case by the letter of their status. The rule is the
// pool's; rr and lc show it exactly, each by its own way to take in a change.
func TestTiers(t *testing.T) {
	t.Parallel()
	status := map[byte]Status{'?': Unknown, 'u': Up, 'd': Down, 'D': Drain, 'M': Maint}
	for _, tt := range []struct {
		backends       string // 0: up, but of weight 0; h: a name that does not resolve
		open, isClosed string
	}{
		{"uu?dDM0h", "uu", "uu"},
		{"u?", "u", "u"},
		{"??dDM0h", "??", "??"},
		{"ddDM0h", "dd", ""},
		{"DM0h", "", ""},
		{"D", "", ""},
		{"M", "", ""},
		{"0", "", ""},
		{"0?d", "?", "?"},
		{"h", "", ""},
		{"hd", "d", ""},
	} {
		for _, failClosed := range []bool{false, true} {
			want := tt.open
			if failClosed {
				want = tt.isClosed
			}
			for _, scheduler := range []string{"rr", "lc"} {
				p, err := NewPool(Options{Scheduler: scheduler, FailClosed: failClosed})
				if err != nil {
					t.Fatal(err)
				}
				s := specs(len(tt.backends))
				for i, c := range tt.backends {
					switch c {
					case '0':
						s[i].Weight = 0
					case 'h':
						s[i].Endpoint = Endpoint{Host: "db.local:5432"}
					}
				}
				p.Update(s)
				for i, b := range p.Backends() {
					switch c := tt.backends[i]; c {
					case '0':
						p.SetStatus(b, Up)
					case 'h':
						if b.Status() != Down {
							t.Errorf("a name that does not resolve starts %v", b.Status())
						}
						p.SetStatus(b, Up) // even if somebody believes so
					default:
						p.SetStatus(b, status[c])
					}
				}
				got := ""
				count := picks(p, 200)
				for i, b := range p.Backends() {
					if count[b] > 0 {
						got += tt.backends[i : i+1]
					}
				}
				if got != want || (want == "") != (count[nil] > 0) {
					t.Errorf("%s, fail closed %v, backends %q: flows go to %q (%d nowhere), want %q",
						scheduler, failClosed, tt.backends, got, count[nil], want)
				}
			}
		}
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

func TestReleaseAfterRemoval(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		p := newPool(t, scheduler, specs(2))
		picks(p, 100)
		gone := p.Backends()[0]
		n := gone.Active()
		if n == 0 {
			t.Fatal("no flow to keep")
		}
		p.Update(specs(2)[1:])
		for range n {
			p.Release(gone)
		}
		// The same endpoint again is another backend: a flow of the old one that ends now
		// must not touch it.
		late := p.Acquire(client(0), nil)
		p.Update(specs(1))
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
				b := p.Acquire(client(n), &tried)
				if b == nil {
					t.Fatalf("%d backends: none left after %d", n, tried.Len())
				}
				if tried.Has(b) {
					t.Fatalf("%d backends: %v again after %d", n, b, tried.Len())
				}
				tried.Add(b)
				p.Release(b)
			}
			b := p.Acquire(client(n), &tried)
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
		for b, n := range picks(p, 300) {
			if b == nil || n < 50 {
				t.Errorf("%v got %d of 300 flows", b, n)
			}
		}
		// A client of a unix socket has no address.
		if p.Acquire(Flow{}, nil) == nil {
			t.Error("a client without an address got no backend")
		}
	})
}
