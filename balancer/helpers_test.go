package balancer

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/race"
)

// specs returns n backends of weight 1, 10.0.0.0:80 and on.
func specs(n int) []Spec {
	s := make([]Spec, n)
	for i := range s {
		s[i] = Spec{Endpoint: endpoint(i), Weight: 1}
	}
	return s
}

func endpoint(i int) Endpoint {
	return Endpoint{Addr: netip.AddrPortFrom(ipv4(10<<24|uint32(i)), 80)}
}

func ipv4(n uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}

// client returns the flow of the i-th of many clients.
func client(i int) Flow {
	return Flow{Client: netip.AddrPortFrom(ipv4(172<<24|uint32(i)), 40000)}
}

// poolOf returns a pool whose backends are up.
func poolOf(tb testing.TB, o Options, s []Spec) *Pool {
	tb.Helper()
	if o.Random == nil {
		o.Random = draws()
	}
	p, err := NewPool(o)
	if err != nil {
		tb.Fatal(err)
	}
	update(p, s)
	return p
}

// draws returns a source of random numbers, always the same, for any number of
// goroutines (SplitMix64).
func draws() func() uint64 {
	var state atomic.Uint64
	return func() uint64 {
		x := state.Add(0x9e3779b97f4a7c15)
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return x ^ x>>31
	}
}

func newPool(tb testing.TB, scheduler string, s []Spec) *Pool {
	tb.Helper()
	return poolOf(tb, Options{Scheduler: scheduler}, s)
}

func newIPVS(tb testing.TB, scheduler string, s []Spec, flags ...string) *Pool {
	tb.Helper()
	return poolOf(tb, Options{Scheduler: scheduler, Flags: append([]string{IPVS}, flags...)}, s)
}

// eachScheduler runs a test of what all of them promise.
func eachScheduler(t *testing.T, test func(t *testing.T, scheduler string)) {
	t.Helper()
	for _, name := range Schedulers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, name)
		})
	}
}

// forms are all schedulers, plain, with ipvs, with ipvs and a fallback, and with a bound.
func forms() (all []Options) {
	for _, a := range Algorithms() {
		all = append(all, Options{Scheduler: a.Name})
		if a.Bounds {
			all = append(all, Options{Scheduler: a.Name, Balance: 125})
		}
		for _, flag := range a.Flags {
			switch {
			case flag == IPVS:
				all = append(all, Options{Scheduler: a.Name, Flags: []string{IPVS}})
			case strings.HasSuffix(flag, "-fallback"):
				all = append(all, Options{Scheduler: a.Name, Flags: []string{IPVS, flag}})
			}
		}
	}
	return all
}

func formOf(o Options) string {
	name := strings.Join(append([]string{o.Scheduler}, o.Flags...), " ")
	if o.Balance > 0 {
		name += " bounded"
	}
	return name
}

func eachForm(t *testing.T, test func(t *testing.T, o Options)) {
	t.Helper()
	for _, o := range forms() {
		t.Run(formOf(o), func(t *testing.T) {
			t.Parallel()
			test(t, o)
		})
	}
}

// weighing gives the first backends these weights.
func weighing(weights ...int) []Spec {
	s := specs(len(weights))
	for i, w := range weights {
		s[i].Weight = w
	}
	return s
}

// letters acquires and releases n times, and writes the backends as letters in the order
// in which they were added.
func letters(p *Pool, n int) string {
	return held(p, n, func(b *Backend) { p.Release(b) })
}

// held acquires n times, and writes the backends as letters. Each one is passed to then.
func held(p *Pool, n int, then ...func(*Backend)) string {
	s := ""
	for i := range n {
		b := acquire(p, client(i), nil)
		if b == nil {
			s += "-"
			continue
		}
		s += string(rune('A' + b.ID() - 1))
		for _, f := range then {
			f(b)
		}
	}
	return s
}

// listed makes specs of the endpoints with these numbers.
func listed(numbers ...int) []Spec {
	s := specs(len(numbers))
	for i, n := range numbers {
		s[i].Endpoint = endpoint(n)
	}
	return s
}

// ofOneGoroutine skips a long test under the race detector, which has nothing to find there.
func ofOneGoroutine(t *testing.T) {
	t.Helper()
	if race.Enabled {
		t.Skip("long, and of one goroutine")
	}
}

var seedFlag = flag.Uint64("seed", 1, "seed of the random tests; 0: a new one for each run")

// newRand returns a source of a test's own. By default each run of the test draws the same.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	name := fnv.New64a()
	_, _ = io.WriteString(name, t.Name())
	return rand.New(rand.NewPCG(seed, name.Sum64()))
}

func names(backends []*Backend) string {
	s := ""
	for _, b := range backends {
		s += fmt.Sprint(b.ID(), " ")
	}
	return s
}

// picks acquires n times with a new flow each and counts by backend.
func picks(p *Pool, n int) map[*Backend]int {
	count := make(map[*Backend]int)
	for i := range n {
		count[acquire(p, client(i), nil)]++
	}
	return count
}

func releaseAll(p *Pool) {
	for _, b := range p.Backends() {
		for range b.Active() {
			p.Release(b)
		}
	}
}

// acquire is p.Acquire for tests that do not ask why there is no backend.
func acquire(p *Pool, f Flow, tried *Tried) *Backend {
	b, _ := p.Acquire(f, tried)
	return b
}

// edit is an Update in which each backend is as it was, but for what change does.
func edit(p *Pool, change func([]Spec) []Spec, now time.Duration) (removed []*Backend, next time.Duration) {
	p.mu.Lock()
	specs := make([]Spec, len(p.Backends()))
	for i, b := range p.Backends() {
		specs[i] = specOf(b)
	}
	removed, next = p.updateLocked(change(specs), now)
	v := p.version
	p.mu.Unlock()

	p.apply(v)
	return removed, next
}

// specOf is what a backend was given last.
func specOf(b *Backend) Spec {
	g := b.given
	return Spec{b.endpoint, g.weight, g.share, g.backup, g.limits, g.source, g.check, g.admin, g.ejected}
}

// update keeps what checks and operators have said of backends that stay. New ones are up.
func update(p *Pool, specs []Spec) (removed []*Backend) {
	removed, _ = edit(p, func([]Spec) []Spec {
		specs = slices.Clone(specs)
		for i := range specs {
			s := &specs[i]
			s.Check = Up
			for _, b := range p.Backends() {
				if b.endpoint == s.Endpoint.canonical() {
					s.Check, s.Admin, s.Ejected = b.given.check, b.given.admin, b.given.ejected
				}
			}
		}
		return specs
	}, 0)
	return removed
}

// editOne changes the spec of one backend, and reports whether its status changed by it.
func editOne(p *Pool, b *Backend, change func(*Spec)) bool {
	before := b.Status()
	edit(p, func(specs []Spec) []Spec {
		for i := range specs {
			if specs[i].Endpoint == b.endpoint && !b.gone.Load() {
				change(&specs[i])
			}
		}
		return specs
	}, 0)
	return b.Status() != before
}

// setStatus has a check find the status, or an operator ask for it.
func setStatus(p *Pool, b *Backend, status Status) bool {
	return editOne(p, b, func(s *Spec) {
		switch status {
		case Unknown, Up, Down:
			s.Check = status
		case Draining:
			s.Admin = Drain
		case InMaint:
			s.Admin = Maint
		}
	})
}

func setAdmin(p *Pool, a AdminState, b *Backend) bool {
	return editOne(p, b, func(s *Spec) { s.Admin = a })
}

func eject(p *Pool, out bool, b *Backend) bool {
	return editOne(p, b, func(s *Spec) { s.Ejected = out })
}

// advance changes nothing but the time.
func advance(p *Pool, now time.Duration) (next time.Duration) {
	_, next = edit(p, func(specs []Spec) []Spec { return specs }, now)
	return next
}

// overloaded reports whether a backend is between its thresholds.
func overloaded(b *Backend) bool { return load(b.flows.Load()).overloaded() }

// releaseOne releases a random one of held, if there is any, and calls then with it.
func releaseOne(rnd *rand.Rand, p *Pool, held []*Backend, then ...func(*Backend)) []*Backend {
	if len(held) == 0 {
		return held
	}
	i := rnd.IntN(len(held))
	b := held[i]
	p.Release(b)
	for _, f := range then {
		f(b)
	}
	held[i] = held[len(held)-1]
	return held[:len(held)-1]
}

// wantIdle is what is left when all flows have ended.
func wantIdle(t *testing.T, backends []*Backend) {
	t.Helper()
	for _, b := range backends {
		if b.Active() != 0 || overloaded(b) {
			t.Errorf("%v ends with %d flows, overloaded %v", b, b.Active(), overloaded(b))
		}
	}
}

// randomTried is nil, or names a random number of the backends.
func randomTried(rnd *rand.Rand, p *Pool) *Tried {
	if rnd.IntN(3) > 0 {
		return nil
	}
	tried, all := new(Tried), p.Backends()
	for range rnd.IntN(maxTried + 1) {
		if len(all) > 0 {
			tried.Add(all[rnd.IntN(len(all))])
		}
	}
	return tried
}

// randomSpecs is a random part of specs(n) in random order, some of weight 0.
func randomSpecs(rnd *rand.Rand, n int) []Spec {
	s := specs(n)
	rnd.Shuffle(n, func(i, j int) { s[i], s[j] = s[j], s[i] })
	s = s[:rnd.IntN(n+1)]
	for i := range s {
		s[i].Weight = rnd.IntN(10)
	}
	return s
}

// limitedSpecs are random ones of which half have limits.
func limitedSpecs(rnd *rand.Rand, size int) []Spec {
	s := randomSpecs(rnd, size)
	for i := range s {
		l := &s[i].Limits
		switch rnd.IntN(6) {
		case 0:
			l.Max = 1 + rnd.IntN(5)
		case 1:
			l.Upper = 1 + rnd.IntN(8)
			l.Lower = rnd.IntN(l.Upper + 1)
		case 2:
			l.Upper = 1 + rnd.IntN(8)
			l.Max = l.Upper + rnd.IntN(4)
		}
	}
	return s
}

func schedulerOf(p *Pool) scheduler { return p.chooser.Load().scheduler }
