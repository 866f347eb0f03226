package balancer

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// toward is the flow of some client to the i-th of many destinations.
func toward(i int, now time.Duration) Flow {
	return Flow{Local: netip.AddrPortFrom(ipv4(198<<24|uint32(i)), 443), Now: now}
}

// localities are lblc and lblcr in both forms.
var localities = []Options{
	{Scheduler: "lblc"},
	{Scheduler: "lblc", Flags: []string{IPVS}},
	{Scheduler: "lblcr"},
	{Scheduler: "lblcr", Flags: []string{IPVS}},
}

func eachLocality(t *testing.T, test func(t *testing.T, o Options)) {
	t.Helper()
	for _, o := range localities {
		t.Run(formOf(o), func(t *testing.T) {
			t.Parallel()
			test(t, o)
		})
	}
}

// TestLocalityTable is section 1.5 of the reference, case by case, with two backends of
// weight 4 and the destination at the second one.
func TestLocalityTable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		first, second int // their flows
		change        func(p *Pool, first, second *Backend)
		after         time.Duration
		stays         map[string]bool // by form
	}{
		{"idle", 0, 0, nil, 0, all(true)},
		{"the other is less loaded", 0, 3, nil, 0, all(true)},
		{"as many flows as weight", 0, 4, nil, 0, all(true)},
		{"more flows than weight, the other below half", 1, 5, nil, 0, all(false)},
		{"more flows than weight, the other at half", 2, 5, nil, 0, all(true)},
		{"many more flows than weight, the other at half", 2, 100, nil, 0, all(true)},
		{"nearly a day", 0, 3, nil, 24*time.Hour - 1, all(true)},
		{"a day", 0, 3, nil, 24 * time.Hour, all(false)},
		{"draining", 0, 0, func(p *Pool, _, b *Backend) { setAdmin(p, Drain, b) }, 0, all(false)},
		{"down", 0, 0, func(p *Pool, _, b *Backend) { setStatus(p, b, Down) }, 0, all(false)},
		{"weight 0", 0, 0, func(p *Pool, a, b *Backend) { update(p, two(Spec{Weight: 4}, Spec{Weight: 0})) }, 0, all(false)},
		{"removed and listed again", 0, 0, func(p *Pool, a, b *Backend) {
			update(p, two(Spec{Weight: 4}, Spec{Weight: 4})[:1])
			update(p, two(Spec{Weight: 4}, Spec{Weight: 4}))
		}, 0, all(false)},
		{"past its threshold", 3, 3, func(p *Pool, a, b *Backend) {
			update(p, two(Spec{Weight: 4}, Spec{Weight: 4, Limits: Limits{Upper: 3}}))
		}, 0, map[string]bool{"lblc ipvs": true}},
		{"at its maximum", 3, 3, func(p *Pool, a, b *Backend) {
			update(p, two(Spec{Weight: 4}, Spec{Weight: 4, Limits: Limits{Max: 3}}))
		}, 0, all(false)},
		{"crowded, the other at its maximum", 1, 5, func(p *Pool, a, b *Backend) {
			update(p, two(Spec{Weight: 4, Limits: Limits{Max: 1}}, Spec{Weight: 4}))
		}, 0, all(true)},
	} {
		eachLocality(t, func(t *testing.T, o Options) {
			p := poolOf(t, o, two(Spec{Weight: 4}, Spec{Weight: 4}))
			first, second := p.Backends()[0], p.Backends()[1]
			setAdmin(p, Drain, first)
			if b := acquire(p, toward(1, 0), nil); b != second {
				t.Fatalf("%v is the only one", b)
			}
			setAdmin(p, Ready, first)
			p.Release(second)
			for b, n := range map[*Backend]int{first: tt.first, second: tt.second} {
				for range n {
					p.AcquireSticky(b, AffinityPolicy{})
				}
			}
			if tt.change != nil {
				tt.change(p, first, second)
			}
			// A flow elsewhere, which must not make a difference.
			if b := acquire(p, toward(2, tt.after), nil); b != nil {
				p.Release(b)
			}
			form := formOf(o)
			got := acquire(p, toward(1, tt.after), nil)
			if stays := got == second; stays != tt.stays[form] {
				t.Errorf("%s: %s stays: %v", tt.name, form, stays)
			}
			again := acquire(p, toward(1, tt.after), nil)
			if o.Scheduler == "lblc" && got != second && again != got {
				t.Errorf("%s: moved to %v, then to %v", tt.name, got, again)
			}
		})
	}
}

// all is for cases in which all forms do the same.
func all(stays bool) map[string]bool {
	return map[string]bool{"lblc": stays, "lblc ipvs": stays, "lblcr": stays, "lblcr ipvs": stays}
}

func two(a, b Spec) []Spec {
	a.Endpoint, b.Endpoint = endpoint(0), endpoint(1)
	return []Spec{a, b}
}

func active(p *Pool) []*Backend {
	var some []*Backend
	for _, b := range p.Backends() {
		if b.Active() > 0 {
			some = append(some, b)
		}
	}
	return some
}

// TestLBLCRSetIsBounded: one destination that all backends are not enough for.
func TestLBLCRSetIsBounded(t *testing.T) {
	t.Parallel()
	s := specs(200)
	for i := range s {
		s[i].Weight = 2
	}
	p := newPool(t, "lblcr", s)
	for range 10_000 {
		acquire(p, toward(1, 0), nil)
	}
	set := schedulerOf(p).(*locality[serverSet]).entries.oldest.value
	if set.n != serverSetMost || len(active(p)) != 200 {
		t.Errorf("the set has %d of %d backends", set.n, len(active(p)))
	}
	for i, b := range set.servers {
		if b == nil || slices.Contains(set.servers[:i], b) {
			t.Errorf("%v is there twice", b)
		}
	}
}

// TestLBLCRFullSet: the most loaded backend of a full set leaves for one that joins.
func TestLBLCRFullSet(t *testing.T) {
	t.Parallel()
	p, set := newPool(t, "lc", specs(serverSetMost+1)), new(serverSet)
	backends := p.Backends()
	p.AcquireSticky(backends[5], AffinityPolicy{})
	for _, b := range backends {
		set.add(b, 0)
	}
	if want := slices.Delete(slices.Clone(backends), 5, 6); !slices.Equal(set.servers[:set.n], want) {
		t.Errorf("the set is %v, want %v", set.servers, want)
	}
}
