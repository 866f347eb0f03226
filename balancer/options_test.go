package balancer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{Scheduler: "wrongrobin"}, `unknown scheduler "wrongrobin": one of rr, `},
		{Options{Scheduler: "RR"}, `unknown scheduler "RR"`},
		{Options{Scheduler: "rr\nlc"}, `unknown scheduler "rr\nlc"`},
		{Options{Flags: []string{"mh-port"}}, `scheduler rr has no flag "mh-port" (it has ipvs)`},
		{Options{Scheduler: "rr", Flags: []string{""}}, `no flag ""`},
		{Options{Scheduler: "rr", Flags: []string{IPVS, IPVS}}, "flag ipvs is there twice"},
		{Options{Scheduler: "rr", HashKey: HashKey{Of: ClientAddrPort}}, "scheduler rr has no hash key"},
		{Options{Scheduler: "rr", HashKey: HashKey{Prefix4: 24}}, "scheduler rr has no hash key"},
		{Options{Scheduler: "mh", HashKey: HashKey{Of: LocalAddrPort + 1}}, "hash"},
		{Options{Scheduler: "mh", HashKey: HashKey{Prefix4: 33}}, "hash key"},
		{Options{Scheduler: "mh", HashKey: HashKey{Prefix6: 129}}, "hash key"},
		{Options{Scheduler: "rr", Balance: 125}, "scheduler rr has no bounded load"},
		{Options{Scheduler: "mh", Balance: 100}, "bounded load of 100%"},
		{Options{Scheduler: "mh", Balance: -1}, "bounded load of -1%"},
		{Options{Scheduler: "mh", Balance: maxBalance + 1}, "bounded load of 100001%"},
		{Options{Scheduler: "rr", SlowStart: time.Second}, "scheduler rr has no slow start"},
		{Options{Scheduler: "mh", SlowStart: -time.Second}, "slow start of -1s"},
		{Options{Panic: -1}, "panic share of -1%"},
		{Options{Panic: 101}, "panic share of 101%"},
		{Options{Panic: 50, FailClosed: true}, "panic share"},
	} {
		err := tt.o.Check()
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: error %v, want one line with %s", tt.o, err, tt.want)
			continue
		}
		if _, got := NewPool(tt.o); got == nil || got.Error() != err.Error() {
			t.Errorf("%+v: NewPool says %v, Check %v", tt.o, got, err)
		}
	}
}

// subsets returns all of a list, the empty one first.
func subsets(list []string) [][]string {
	all := [][]string{nil}
	for _, x := range list {
		for _, s := range all {
			all = append(all, append(slices.Clone(s), x))
		}
	}
	return all
}

// TestOptionsOfAll goes through schedulers × flags × options. What is refused is refused
// in one line that names it; what is accepted acts.
func TestOptionsOfAll(t *testing.T) {
	t.Parallel()
	var every []string // all flags that any scheduler has
	for _, a := range Algorithms() {
		for _, f := range a.Flags {
			if !slices.Contains(every, f) {
				every = append(every, f)
			}
		}
	}
	options := []struct {
		term string // in the refusal
		set  func(o *Options)
		can  func(a Algorithm, ipvs, port bool) bool
	}{
		{"hash key", func(o *Options) { o.HashKey.Prefix4 = 24 }, func(a Algorithm, ipvs, port bool) bool { return a.Hashes && !ipvs && !port }},
		{"hash key", func(o *Options) { o.HashKey.Prefix6 = 64 }, func(a Algorithm, ipvs, port bool) bool { return a.Hashes && !ipvs && !port }},
		{"hash key", func(o *Options) { o.HashKey.Of = ClientAddrPort }, func(a Algorithm, ipvs, port bool) bool { return a.Hashes && !ipvs && !port }},
		{"hash key", func(o *Options) { o.HashKey.Of = LocalAddr }, func(a Algorithm, ipvs, port bool) bool { return a.Hashes && !ipvs && !port }},
		{"hash key", func(o *Options) { o.HashKey.Of = LocalAddrPort }, func(a Algorithm, ipvs, port bool) bool { return a.Hashes && !ipvs && !port }},
		{"bounded load", func(o *Options) { o.Balance = 101 }, func(a Algorithm, ipvs, port bool) bool { return a.Bounds && !ipvs }},
		{"slow start", func(o *Options) { o.SlowStart = time.Minute }, func(a Algorithm, ipvs, port bool) bool { return a.Weighs && !ipvs }},
		{"panic share", func(o *Options) { o.Panic = 90 }, func(Algorithm, bool, bool) bool { return true }},
		{"fail closed", func(o *Options) { o.FailClosed = true }, func(Algorithm, bool, bool) bool { return true }},
	}
	for _, a := range Algorithms() {
		t.Run(a.Name, func(t *testing.T) {
			t.Parallel()
			for _, f := range every {
				o := Options{Scheduler: a.Name, Flags: []string{f}, Random: rand.Uint64}
				if err := o.Check(); !slices.Contains(a.Flags, f) && (err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", f))) {
					t.Errorf("flag %s: error %v, want one that names it", f, err)
				}
			}
			tables := make(tableCache)
			for _, flags := range subsets(a.Flags) {
				ipvs := slices.Contains(flags, IPVS)
				has := func(suffix string) bool {
					return slices.ContainsFunc(flags, func(f string) bool { return strings.HasSuffix(f, suffix) })
				}
				plain := Options{Scheduler: a.Name, Flags: flags, Random: rand.Uint64}
				err := plain.Check()
				if want := !has("-fallback") || ipvs; (err == nil) != want {
					t.Errorf("flags %v: error %v, want none: %v", flags, err, want)
				}
				if err != nil {
					continue
				}
				without := deeds(t, plain, tables)
				for _, f := range flags {
					less := plain
					less.Flags = slices.DeleteFunc(slices.Clone(flags), func(x string) bool { return x == f })
					if less.Check() == nil && without == deeds(t, less, tables) {
						t.Errorf("flags %v: %s has no effect", flags, f)
					}
				}
				for _, opt := range options {
					o := plain
					opt.set(&o)
					err := o.Check()
					if !opt.can(a, ipvs, has("-port")) {
						if err == nil || !strings.Contains(err.Error(), opt.term) || strings.Contains(err.Error(), "\n") {
							t.Errorf("flags %v: error %v, want one line with %q", flags, err, opt.term)
						}
						continue
					}
					if err != nil {
						t.Errorf("flags %v, %s: %v", flags, opt.term, err)
					} else if deeds(t, o, tables) == without {
						t.Errorf("flags %v, %s: it has no effect", flags, opt.term)
					}
				}
			}
			o := Options{Scheduler: a.Name}
			if err := o.Check(); (err != nil) != a.Random || a.Random && !strings.Contains(err.Error(), "random") {
				t.Errorf("without randomness: %v", err)
			}
		})
	}
}

// deeds tells all that a pool with the options does in a scene that has something of
// everything: weights, backends of weight 0 and full ones, clients that differ in little,
// one that comes often, and backends that go down and come up.
func deeds(t *testing.T, o Options, tables tableCache) string {
	t.Helper()
	if o.Random != nil {
		o.Random = rand.New(rand.NewPCG(1, 2)).Uint64
	}
	p, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := schedulerOf(p).(*hashing); ok {
		s.build = tables.build(s.build)
	}
	var story strings.Builder
	now := time.Duration(0)
	flows := func() {
		var held []*Backend
		n := 0
		choose := func(f Flow) {
			f.Now = now
			b, busy := p.Acquire(f, nil)
			if b == nil {
				fmt.Fprint(&story, "-", busy, " ")
				return
			}
			fmt.Fprint(&story, b.ID(), " ")
			held = append(held, b)
			if n++; n%4 == 0 {
				p.Release(held[0])
				held = held[1:]
			}
		}
		for i := range 40 {
			f := client(i/3 + i%3<<8)
			f.Local = client(i).Client
			choose(f)
			f.Client = netip.AddrPortFrom(f.Client.Addr(), uint16(i))
			choose(f)
			f.Local = netip.AddrPortFrom(f.Local.Addr(), uint16(i))
			choose(f)
			six := Flow{
				Client: netip.MustParseAddrPort(fmt.Sprintf("[2001:db8::%x:%x]:%d", i, i, 1000+i)),
				Local:  netip.MustParseAddrPort("[2001:db8::1]:443"),
			}
			choose(six)
			choose(client(0))
		}
		for _, b := range held {
			p.Release(b)
		}
		story.WriteByte('\n')
	}
	s := specs(5)
	for i, w := range []int{3, 5, 1, 5, 2} {
		s[i].Weight = w
	}
	p.Update(s, 0)
	backends := p.Backends()
	setStatus(p, backends[0], Up)
	flows()
	for _, b := range slices.Backward(backends) { // one build: the first one is the only member
		setStatus(p, b, Down)
	}
	flows()
	for _, b := range backends {
		setStatus(p, b, Up)
	}
	advance(p, now)
	now += 2 * time.Minute
	advance(p, now)
	flows()
	setStatus(p, backends[1], Down)
	setStatus(p, backends[1], Up)
	advance(p, now)
	flows()
	s[0].Weight, s[3].Limits.Max = 0, 1
	update(p, s)
	flows()
	setStatus(p, backends[1], Down)
	setStatus(p, backends[3], Down)
	flows()
	return story.String()
}

// tableCache saves pools that go through the same scene, of one scheduler, the building of
// the same tables.
type tableCache map[string]*hashTable

func (c tableCache) build(build func([]member) *hashTable) func([]member) *hashTable {
	return func(members []member) *hashTable {
		key, byName := "", map[string]*Backend{}
		for _, m := range members {
			key += fmt.Sprint(m.name, " ", m.weight, " ", m.turned, " ")
			byName[m.name] = m.Backend
		}
		if c[key] == nil {
			c[key] = build(members)
		}
		t := *c[key]
		t.backends = slices.Clone(t.backends)
		for i, b := range t.backends {
			t.backends[i] = byName[b.name]
		}
		return &t
	}
}
