package balancer

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// plainMaglev fills the table as the pseudocode of the paper does, from whole
// permutations. Names are in order. With weights, a scan finds whose turn it is.
func plainMaglev(names []string, weights []int) []string {
	const m = 65537
	permutation := make([][]int, len(names))
	for i, name := range names {
		h1, h2 := xxhash.NewWithSeed(1), xxhash.NewWithSeed(2)
		h1.WriteString(name)
		h2.WriteString(name)
		offset, skip := h1.Sum64()%m, h2.Sum64()%(m-1)+1
		permutation[i] = make([]int, m)
		for j := range permutation[i] {
			permutation[i][j] = int((offset + uint64(j)*skip) % m)
		}
	}
	next, taken := make([]int, len(names)), make([]int, len(names))
	entry := make([]string, m)
	for filled := range m {
		i := filled % len(names)
		if weights != nil {
			i = 0
			for k := range names {
				due, least := taken[k]*weights[i], taken[i]*weights[k]
				if due < least || due == least && weights[k] > weights[i] {
					i = k
				}
			}
		}
		c := permutation[i][next[i]]
		for entry[c] != "" {
			next[i]++
			c = permutation[i][next[i]]
		}
		entry[c] = names[i]
		next[i]++
		taken[i]++
	}
	return entry
}

// table returns the backend of each slot by name.
func table(p *Pool) []string {
	t := p.scheduler.(*hashing).table.Load()
	names := make([]string, len(t.slots))
	for i, at := range t.slots {
		names[i] = t.backends[at].String()
	}
	return names
}

func TestMaglevEqualsPaper(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 50} {
		p := newPool(t, "mh", specs(n))
		var names []string
		for _, b := range p.Backends() {
			names = append(names, b.String())
		}
		slices.Sort(names)
		if !slices.Equal(table(p), plainMaglev(names, nil)) {
			t.Errorf("table of %d backends is not the paper's", n)
		}
	}
}

func TestMaglevWeightsEqualScan(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for range 3 {
		n := 2 + rnd.IntN(10)
		s := specs(n)
		weight := map[string]int{}
		var names []string
		for i := range s {
			s[i].Weight = 1 + rnd.IntN(100)
			name := s[i].Endpoint.String()
			weight[name] = s[i].Weight
			names = append(names, name)
		}
		slices.Sort(names)
		var weights []int
		for _, name := range names {
			weights = append(weights, weight[name])
		}
		if !slices.Equal(table(newPool(t, "mh", s)), plainMaglev(names, weights)) {
			t.Errorf("table of weights %v differs from the scan's", weights)
		}
	}
}

// TestMaglevIsFixed fails when the table or the client's hash changes.
// That moves every client at the moment when one of two instances is upgraded.
func TestMaglevIsFixed(t *testing.T) {
	t.Parallel()
	s := specs(10)
	s[3].Weight = 5
	p := newPool(t, "mh", s)
	if got, want := xxhash.Sum64String(strings.Join(table(p), " ")), uint64(0xe02cbea3c308adf9); got != want {
		t.Errorf("hash of the table %#x, want %#x", got, want)
	}
	for addr, want := range map[string]string{
		"192.0.2.1":   "10.0.0.5:80",
		"192.0.2.2":   "10.0.0.7:80",
		"2001:db8::1": "10.0.0.3:80",
	} {
		b := acquire(p, Flow{Client: netip.AddrPortFrom(netip.MustParseAddr(addr), 1)}, nil)
		if b.String() != want {
			t.Errorf("%s goes to %v, want %s", addr, b, want)
		}
	}
}

func TestMaglevAgreesInAnyOrder(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	s := specs(50)
	for i := range s {
		s[i].Weight = 1 + rnd.IntN(4)
	}
	p := newPool(t, "mh", s)
	rnd.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	// The other instance has seen more: backends that came and went, and health.
	q := newPool(t, "mh", specs(70)[40:])
	q.Update(s)
	q.SetStatus(q.Backends()[7], Down)
	q.SetStatus(q.Backends()[7], Up)

	var tried1, tried2 Tried
	for i := range 20_000 {
		f := client(int(rnd.Uint32()))
		tried1.Reset()
		tried2.Reset()
		for range i % 4 { // agree on the next choice too
			a, b := acquire(p, f, &tried1), acquire(q, f, &tried2)
			if a.String() != b.String() {
				t.Fatalf("%v, try %d: %v here, %v there", f.Client, tried1.Len(), a, b)
			}
			tried1.Add(a)
			tried2.Add(b)
		}
	}
}

func TestMaglevClient(t *testing.T) {
	t.Parallel()
	p := newPool(t, "mh", specs(100))
	pick := func(addr string, port uint16, local string) *Backend {
		f := Flow{Client: netip.AddrPortFrom(netip.MustParseAddr(addr), port)}
		if local != "" {
			f.Local = netip.MustParseAddrPort(local)
		}
		return acquire(p, f, nil)
	}
	for _, addr := range []string{"192.0.2.1", "2001:db8::1", "fe80::1"} {
		want := pick(addr, 1, "")
		for port := range uint16(100) {
			if b := pick(addr, port, "10.0.0.1:80"); b != want {
				t.Fatalf("%s goes to %v from port %d and to %v from port 1", addr, b, port, want)
			}
		}
	}
	if pick("192.0.2.1", 1, "") != pick("::ffff:192.0.2.1", 1, "") {
		t.Error("an IPv4 client of a listener for both families goes elsewhere")
	}
	if pick("fe80::1", 1, "") != pick("fe80::1%eth0", 1, "") {
		t.Error("the zone of a client's address matters")
	}
	for want := acquire(p, Flow{}, nil); want.Total() < 20; {
		if b := acquire(p, Flow{}, nil); b != want {
			t.Fatalf("a client without an address goes to %v, another one to %v", want, b)
		}
	}
}

// TestMaglevDisruption takes one of 100 backends away, many times over, and counts the
// clients of the others that move.
func TestMaglevDisruption(t *testing.T) {
	t.Parallel()
	const n, clients, every = 100, 10_000, 10
	p := newPool(t, "mh", specs(n))
	place := func() []*Backend {
		at := make([]*Backend, clients)
		for i := range at {
			at[i] = acquire(p, client(i*7919), nil)
			p.Release(at[i])
		}
		return at
	}
	before := place()
	worst, sum := 0.0, 0.0
	for i := 0; i < n; i += every {
		gone := p.Backends()[i]
		p.SetStatus(gone, Down)
		others, moved := 0, 0
		for i, b := range place() {
			switch before[i] {
			case gone:
				if b == gone {
					t.Fatalf("%v is down and gets flows", gone)
				}
			default:
				others++
				if b != before[i] {
					moved++
				}
			}
		}
		share := float64(moved) / float64(others)
		worst, sum = max(worst, share), sum+share
		p.SetStatus(gone, Up)
	}
	t.Logf("clients of others that move when one of %d leaves: mean %.2f %%, worst %.2f %%", n, 100*sum/(n/every), 100*worst)
	if worst >= 0.02 {
		t.Errorf("%.2f %% of the other clients moved, want under 2 %%", 100*worst)
	}
	if after := place(); !slices.Equal(after, before) {
		t.Error("with all backends back, some clients stay elsewhere")
	}

	// The tables of a backend that is down and of one that is not there are the same.
	p.SetStatus(p.Backends()[42], Down)
	down := table(p)
	p.Update(slices.Delete(specs(n), 42, 43))
	if !slices.Equal(table(p), down) {
		t.Error("a removed backend gives another table than one that is down")
	}
}

// TestMaglevDisruptionByWeight removes the heaviest backend, on which a table that
// counts turns in relation to the largest weight would depend as a whole.
func TestMaglevDisruptionByWeight(t *testing.T) {
	t.Parallel()
	s := specs(100)
	for i := range s {
		s[i].Weight = 1 + i%10
	}
	s[50].Weight = 37
	p := newPool(t, "mh", s)
	before := table(p)
	gone := p.Backends()[50]
	p.SetStatus(gone, Down)
	others, moved := 0, 0
	for i, b := range table(p) {
		if before[i] != gone.String() {
			others++
			if b != before[i] {
				moved++
			}
		}
	}
	share := float64(moved) / float64(others)
	t.Logf("%.2f %% of the other slots moved with %.2f %% gone", 100*share, 100*float64(maglevSize-others)/maglevSize)
	if share > 0.04 {
		t.Errorf("%.2f %% of the other slots moved, want at most 4 %%", 100*share)
	}
}

func TestMaglevBalance(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for _, tt := range []struct {
		n      int
		weight func() int
	}{
		{1, nil},
		{3, nil},
		{100, nil},
		{1000, nil},
		{10, func() int { return 1 + rnd.IntN(100) }},
		{100, func() int { return 1 + rnd.IntN(100) }},
		{2, func() int { return 1 + rnd.IntN(maxWeight) }},
	} {
		s, total := specs(tt.n), 0
		for i := range s {
			if tt.weight != nil {
				s[i].Weight = tt.weight()
			}
			total += s[i].Weight
		}
		slots := map[string]int{}
		for _, name := range table(newPool(t, "mh", s)) {
			slots[name]++
		}
		for _, spec := range s {
			// A backend's last turn can be one early or late; the first one of each
			// is free, which costs the others at most one slot in n.
			got := slots[spec.Endpoint.String()]
			want := float64(maglevSize) * float64(spec.Weight) / float64(total)
			slack := 1 + float64(tt.n)*float64(spec.Weight)/float64(total)
			if d := float64(got) - want; d > slack || d < -slack {
				t.Errorf("%d backends: weight %d of %d has %d slots, want %.1f", tt.n, spec.Weight, total, got, want)
			}
		}
	}
}

// TestMaglevSpreadsClients checks the clients' hash by chi-square.
func TestMaglevSpreadsClients(t *testing.T) {
	t.Parallel()
	const n, clients = 20, 40_000
	rnd := rand.New(rand.NewPCG(1, 2)) // fixed: a statistical test that fails by chance is useless
	for name, flow := range map[string]func(i int) Flow{
		"neighbours": client,
		"random v4":  func(int) Flow { return client(int(rnd.Uint32())) },
		"v6 prefixes": func(i int) Flow {
			a := netip.MustParseAddr("2001:db8::1").As16()
			a[6], a[7] = byte(i>>8), byte(i)
			return Flow{Client: netip.AddrPortFrom(netip.AddrFrom16(a), 1)}
		},
	} {
		p := newPool(t, "mh", specs(n))
		for i := range clients {
			acquire(p, flow(i), nil)
		}
		chi := 0.0
		for _, b := range p.Backends() {
			d := float64(b.Active()) - clients/n
			chi += d * d / (clients / n)
		}
		if chi > 43.8 { // 19 degrees of freedom, p = 0.001
			t.Errorf("%s: chi-square %.1f over %d backends, want at most 43.8", name, chi, n)
		}
	}
}

// TestMaglevSpreadsRetries: the clients of a dead backend go to all others by weight.
func TestMaglevSpreadsRetries(t *testing.T) {
	t.Parallel()
	const n, clients = 10, 100_000
	s, others := specs(n), 0
	for i := range s {
		s[i].Weight = 1 + i%3
		others += s[i].Weight
	}
	others -= s[4].Weight
	s[4].Weight = others // so that a walk often meets it again
	p := newPool(t, "mh", s)
	dead, retried := p.Backends()[4], 0
	for i := range clients {
		b := acquire(p, client(i), nil)
		p.Release(b)
		if b == dead {
			var tried Tried
			tried.Add(b)
			acquire(p, client(i), &tried)
			retried++
		}
	}
	for _, b := range p.Backends() {
		if b == dead {
			continue
		}
		share := float64(b.Active()) / float64(retried) * float64(others) / float64(b.Weight())
		if share < 0.8 || share > 1.2 {
			t.Errorf("%v got %.2f of its share of the dead backend's clients", b, share)
		}
	}
}

// TestMaglevMoreBackendsThanSlots must still serve every client.
func TestMaglevMoreBackendsThanSlots(t *testing.T) {
	t.Parallel()
	p := newPool(t, "mh", specs(maglevSize+100))
	if got := picks(p, 1000)[nil]; got != 0 {
		t.Errorf("%d of 1000 clients got no backend", got)
	}
}
