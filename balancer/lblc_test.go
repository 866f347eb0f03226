package balancer

import (
	"net/netip"
	"strings"
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
		t.Run(strings.Join(append([]string{o.Scheduler}, o.Flags...), " "), func(t *testing.T) {
			t.Parallel()
			o.Initial = Up
			test(t, o)
		})
	}
}

func TestLocalityEqualsPlain(t *testing.T) {
	t.Parallel()
	eachLocality(t, func(t *testing.T, o Options) {
		rnd := newRand(t)
		kept, left, large := 0, 0, 0
		for range 15 {
			size := 1 + rnd.IntN(40)
			p := poolOf(t, o, boundedSpecs(rnd, size))
			m := newPlainLocality(p, o.Scheduler == "lblcr", o.Flags != nil)
			var held []*Backend
			now := time.Duration(0)
			to := 1 + rnd.IntN(30)
			most := 1 + rnd.IntN(8*size)
			for step := range 3000 {
				m.read()
				now += time.Duration(rnd.Int64N(int64(time.Minute)))
				switch op := rnd.IntN(1000); {
				case op < 550:
					f := toward(rnd.IntN(to), now)
					tried := randomTried(rnd, p)
					want, wantBusy := m.acquire(f, tried)
					got, busy := p.Acquire(f, tried)
					if got != want || want == nil && busy != wantBusy {
						t.Fatalf("step %d, %d tried: %v, busy %v; want %v, %v", step, tried.Len(), got, busy, want, wantBusy)
					}
					if got != nil {
						held = append(held, got)
					}
					for len(held) > most {
						m.read()
						held = releaseOne(rnd, p, held)
					}
				case op < 900:
					held = releaseOne(rnd, p, held)
				case op < 950:
					if all := p.Backends(); len(all) > 0 {
						p.SetStatus(all[rnd.IntN(len(all))], []Status{Unknown, Up, Up, Up, Up, Up, Down}[rnd.IntN(7)])
					}
				case op < 960:
					p.Update(boundedSpecs(rnd, size))
				case op < 965:
					now += time.Duration(rnd.Int64N(int64(40 * time.Hour)))
				case op < 970:
					if all := p.Backends(); len(all) > 0 {
						b := all[rnd.IntN(len(all))]
						if p.Rejoin(b, Stickiness{true, true}) {
							held = append(held, b)
							if has(m.members(), b) {
								m.pick(b)
							}
						}
					}
				}
			}
			kept, left = kept+m.kept, left+m.left
			for _, home := range m.homes {
				large = max(large, len(home.servers))
			}
			for len(held) > 0 {
				held = releaseOne(rnd, p, held)
			}
			for _, b := range p.Backends() {
				if b.Active() != 0 {
					t.Errorf("%v ends with %d flows", b, b.Active())
				}
			}
		}
		if kept < 1000 || left < 1000 || o.Scheduler == "lblcr" && large < 3 {
			t.Errorf("%d flows stayed, %d moved, a set had up to %d: this tests little", kept, left, large)
		}
	})
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
		{"draining", 0, 0, func(p *Pool, _, b *Backend) { p.SetStatus(b, Drain) }, 0, all(false)},
		{"down", 0, 0, func(p *Pool, _, b *Backend) { p.SetStatus(b, Down) }, 0, all(false)},
		{"weight 0", 0, 0, func(p *Pool, a, b *Backend) { p.Update(two(Spec{Weight: 4}, Spec{Weight: 0})) }, 0, all(false)},
		{"removed and listed again", 0, 0, func(p *Pool, a, b *Backend) {
			p.Update(two(Spec{Weight: 4}, Spec{Weight: 4})[:1])
			p.Update(two(Spec{Weight: 4}, Spec{Weight: 4}))
		}, 0, all(false)},
		{"past its threshold", 3, 3, func(p *Pool, a, b *Backend) {
			p.Update(two(Spec{Weight: 4}, Spec{Weight: 4, Limits: Limits{Upper: 3}}))
		}, 0, map[string]bool{"lblc ipvs": true}},
		{"at its maximum", 3, 3, func(p *Pool, a, b *Backend) {
			p.Update(two(Spec{Weight: 4}, Spec{Weight: 4, Limits: Limits{Max: 3}}))
		}, 0, all(false)},
		{"crowded, the other at its maximum", 1, 5, func(p *Pool, a, b *Backend) {
			p.Update(two(Spec{Weight: 4, Limits: Limits{Max: 1}}, Spec{Weight: 4}))
		}, 0, all(true)},
	} {
		eachLocality(t, func(t *testing.T, o Options) {
			p := poolOf(t, o, two(Spec{Weight: 4}, Spec{Weight: 4}))
			first, second := p.Backends()[0], p.Backends()[1]
			p.SetStatus(first, Drain)
			if b := acquire(p, toward(1, 0), nil); b != second {
				t.Fatalf("%v is the only one", b)
			}
			p.Resume(first)
			p.Release(second)
			for b, n := range map[*Backend]int{first: tt.first, second: tt.second} {
				for range n {
					p.Rejoin(b, Stickiness{})
				}
			}
			if tt.change != nil {
				tt.change(p, first, second)
			}
			// A flow elsewhere, which must not make a difference.
			if b := acquire(p, toward(2, tt.after), nil); b != nil {
				p.Release(b)
			}
			form := strings.Join(append([]string{o.Scheduler}, o.Flags...), " ")
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

// TestLBLCKeepsDestinationsApart: while there is room, each destination has one backend,
// and all backends have their share of destinations.
func TestLBLCKeepsDestinationsApart(t *testing.T) {
	t.Parallel()
	eachLocality(t, func(t *testing.T, o Options) {
		s := specs(10)
		for i := range s {
			s[i].Weight = 1000
		}
		p := poolOf(t, o, s)
		homes := make(map[int]*Backend)
		for i := range 5000 {
			b := acquire(p, toward(i%100, 0), nil)
			if home := homes[i%100]; home != nil && home != b {
				t.Fatalf("flow %d to %d went to %v, before to %v", i, i%100, b, home)
			}
			homes[i%100] = b
		}
		for _, b := range p.Backends() {
			if b.Active() != 500 {
				t.Errorf("%v has %d of 5000 flows", b, b.Active())
			}
		}
	})
}
