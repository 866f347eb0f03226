package conntrack

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// affinityTest is a table with what its flows need most often.
type affinityTest struct {
	*testing.T
	*Affinity[service, backend]
	s service
	p Persistence
}

func newAffinityTest(t *testing.T, capacity int, p Persistence) *affinityTest {
	return &affinityTest{T: t, Affinity: NewAffinity[service, backend](capacity), p: p}
}

func (a *affinityTest) get(client string, at time.Duration) (h Hold, b *backend) {
	b = a.Get(&h, &a.s, netip.MustParseAddr(client), a.p, at)
	return h, b
}

func (a *affinityTest) put(client string, from, to *backend, at time.Duration) (h Hold, b *backend) {
	b = a.Put(&h, &a.s, netip.MustParseAddr(client), a.p, from, to, at)
	return h, b
}

// want checks the template of a client, nil for none, without refreshing it.
func (a *affinityTest) want(client string, want *Template[service, backend], at time.Duration) {
	a.Helper()
	prefix := a.p.Mask.Prefix(netip.MustParseAddr(client))
	var got *Template[service, backend]
	for r := range a.Rows(at) {
		if r.Client == prefix && r.Service == &a.s {
			got = &r
		}
	}
	switch {
	case got == nil && want == nil:
	case got == nil || want == nil:
		a.Errorf("at %v: the template of %s is %+v, want %+v", at, client, got, want)
	case got.Backend != want.Backend || got.Flows != want.Flows || got.Expires != want.Expires || got.Created != want.Created:
		a.Errorf("at %v: the template of %s is %+v, want %+v", at, client, *got, *want)
	}
}

func (a *affinityTest) wantStats(want AffinityStats) {
	a.Helper()
	want.Capacity = a.Stats().Capacity
	if got := a.Stats(); got != want {
		a.Errorf("stats %+v, want %+v", got, want)
	}
}

// TestAffinityLife follows one template through the rules of IPVS.
func TestAffinityLife(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Second
	a := newAffinityTest(t, 10, Persistence{Timeout: timeout})
	b := &backend{1}
	const client = "192.0.2.1"
	type row = Template[service, backend]

	if h, got := a.get(client, 0); got != nil || h != (Hold{}) {
		t.Errorf("a new client has %v, %v", got, h)
	}
	h1, got := a.put(client, nil, b, 10*time.Second)
	if got != b {
		t.Errorf("Put gives %v, want %v", got, b)
	}
	a.want(client, &row{Backend: b, Flows: 1, Created: 10 * time.Second, Expires: 310 * time.Second}, 20*time.Second)

	// A new flow refreshes it, the end of one does not.
	h2, got := a.get(client, 100*time.Second)
	if got != b {
		t.Errorf("Get gives %v, want %v", got, b)
	}
	a.want(client, &row{Backend: b, Flows: 2, Created: 10 * time.Second, Expires: 400 * time.Second}, 100*time.Second)
	a.Release(&h1, 200*time.Second)
	a.Release(&h1, 200*time.Second) // is empty now
	a.want(client, &row{Backend: b, Flows: 1, Created: 10 * time.Second, Expires: 400 * time.Second}, 200*time.Second)

	// Its time is over with a flow alive: a minute more, again and again, whether
	// anybody looked meanwhile or not.
	for _, at := range []time.Duration{400, 459, 460, 1000, 1059} {
		at *= time.Second
		expires := 460 * time.Second
		for expires <= at {
			expires += Linger
		}
		a.Expire(at)
		a.want(client, &row{Backend: b, Flows: 1, Created: 10 * time.Second, Expires: expires}, at)
	}
	a.Release(&h2, 1100*time.Second)
	a.want(client, &row{Backend: b, Created: 10 * time.Second, Expires: 1120 * time.Second}, 1100*time.Second)
	h3, got := a.get(client, 1120*time.Second-1)
	if got != b {
		t.Errorf("just before the end Get gives %v, want %v", got, b)
	}
	a.Release(&h3, 1120*time.Second-1)
	a.want(client, &row{Backend: b, Created: 10 * time.Second, Expires: 1420*time.Second - 1}, 1120*time.Second)
	if h, got := a.get(client, 1420*time.Second-1); got != nil || h != (Hold{}) {
		t.Errorf("at the end Get gives %v, %v", got, h)
	}
	a.wantStats(AffinityStats{Made: 1, Expired: 1})
	checkAffinity(t, a.Affinity)
}

// TestAffinityExpire: what has ended is gone for all who ask, and its room is taken
// back by Expire within a tick.
func TestAffinityExpire(t *testing.T) {
	t.Parallel()
	a := newAffinityTest(t, 5000, Persistence{Timeout: time.Minute})
	holds := make([]Hold, 4000)
	for i := range holds {
		h, _ := a.put(testKey(uint64(i)<<16).Client().Addr().String(), nil, &backend{}, time.Duration(i)*time.Millisecond)
		holds[i] = h
	}
	for i := range holds[:3000] {
		a.Release(&holds[i], 5*time.Second)
	}
	rows := 0
	for range a.Rows(time.Minute + 1999*time.Millisecond) {
		rows++
	}
	if rows != 2000 || a.Len() != 4000 {
		t.Errorf("%d rows of %d, want 2000 of 4000", rows, a.Len())
	}
	a.Expire(time.Minute + 1999*time.Millisecond + Tick)
	if got := a.Len(); got < 1990 || got > 2000 {
		t.Errorf("Len is %d, want 2000 or a tick less", got)
	}
	a.Expire(time.Hour)
	a.wantStats(AffinityStats{Templates: 1000, Made: 4000, Expired: 3000})
	for i := range holds {
		a.Release(&holds[i], time.Hour)
	}
	a.Expire(time.Hour + Linger)
	a.wantStats(AffinityStats{Made: 4000, Expired: 4000})
	checkAffinity(t, a.Affinity)
}

// TestAffinityTimeouts: the ends of the range, and one that changes.
func TestAffinityTimeouts(t *testing.T) {
	t.Parallel()
	const client = "2001:db8::1"
	b := &backend{1}
	for _, timeout := range []time.Duration{math.MinInt64, -1, 0} {
		a := newAffinityTest(t, 10, Persistence{Timeout: timeout})
		h, _ := a.put(client, nil, b, time.Second)
		again, got := a.get(client, time.Second)
		if got != b {
			t.Errorf("timeout %v: with a flow alive Get gives %v", timeout, got)
		}
		a.Release(&h, 2*time.Second)
		a.Release(&again, 2*time.Second)
		a.want(client, &Template[service, backend]{Backend: b, Created: time.Second, Expires: 61 * time.Second}, 2*time.Second)
	}

	a := newAffinityTest(t, 10, Persistence{Timeout: math.MaxInt64})
	h, _ := a.put(client, nil, b, time.Hour)
	a.want(client, &Template[service, backend]{Backend: b, Flows: 1, Created: time.Hour, Expires: math.MaxInt64}, math.MaxInt64)
	a.Release(&h, math.MaxInt64-1)
	a.Expire(math.MaxInt64)
	a.want(client, &Template[service, backend]{Backend: b, Created: time.Hour, Expires: math.MaxInt64}, math.MaxInt64-1)

	// A shorter one counts from the next flow on, also for taking back the room.
	a = newAffinityTest(t, 10, Persistence{Timeout: 3 * time.Hour})
	h, _ = a.put(client, nil, b, 0)
	a.Release(&h, 0)
	a.p.Timeout = time.Second
	h, _ = a.get(client, 2*time.Hour)
	a.Release(&h, 2*time.Hour)
	a.Expire(2*time.Hour + time.Second + Tick)
	a.wantStats(AffinityStats{Made: 1, Expired: 1})
}

// TestAffinityMask: who is one client.
func TestAffinityMask(t *testing.T) {
	t.Parallel()
	a := newAffinityTest(t, 100, Persistence{Timeout: time.Minute})
	a.p.Mask, _ = NewMask(24, 64)
	b4, b6 := &backend{4}, &backend{6}
	a.put("192.0.2.1", nil, b4, 0)
	a.put("2001:db8::1", nil, b6, 0)
	for client, want := range map[string]*backend{
		"192.0.2.254": b4, "::ffff:192.0.2.9": b4, "192.0.3.1": nil, "::ffff:192.0.1.255": nil, "::192.0.2.1": nil,
		"2001:db8::ffff:0:0:1": b6, "2001:db8::1%eth0": b6, "2001:db8:0:1::1": nil,
	} {
		if _, got := a.get(client, 0); got != want {
			t.Errorf("%s has %v, want %v", client, got, want)
		}
	}
	// Another mask, and another service, have templates of their own.
	a.p.Mask = Mask{}
	if _, got := a.get("192.0.2.0", 0); got != nil {
		t.Errorf("192.0.2.0/32 has the backend of 192.0.2.0/24")
	}
	var h Hold
	a.p.Mask, _ = NewMask(24, 64)
	if got := a.Get(&h, &service{}, netip.MustParseAddr("192.0.2.1"), a.p, 0); got != nil {
		t.Errorf("another service has %v", got)
	}
	// A client without an address, as of a unix socket, has no template.
	if got := a.Put(&h, &a.s, netip.Addr{}, a.p, nil, b4, 0); got != b4 || h != (Hold{}) {
		t.Errorf("without an address Put gives %v, %v", got, h)
	}
	if got := a.Get(&h, &a.s, netip.Addr{}, a.p, 0); got != nil || a.Len() != 2 {
		t.Errorf("without an address Get gives %v of %d", got, a.Len())
	}
	// Nor is there one without a backend.
	if got := a.Put(&h, &a.s, netip.MustParseAddr("10.0.0.1"), a.p, b4, nil, 0); got != nil || a.Len() != 2 {
		t.Errorf("without a backend Put gives %v of %d", got, a.Len())
	}
}

// TestAffinityPut: who comes first wins, and only who found the backend bad moves it.
func TestAffinityPut(t *testing.T) {
	t.Parallel()
	a := newAffinityTest(t, 10, Persistence{Timeout: time.Minute})
	b := []*backend{{0}, {1}, {2}, {3}}
	const client = "192.0.2.1"
	h0, _ := a.put(client, nil, b[0], 0)
	h1, got := a.put(client, nil, b[1], 0)
	if got != b[0] {
		t.Errorf("the second gets %v, want %v of the first", got, b[0])
	}
	// Both fail there. The first to say so chooses for both.
	if got := a.Put(&h0, &a.s, netip.MustParseAddr(client), a.p, b[0], b[2], 1); got != b[2] {
		t.Errorf("the one that moves gets %v, want %v", got, b[2])
	}
	if got := a.Put(&h1, &a.s, netip.MustParseAddr(client), a.p, b[0], b[3], 2); got != b[2] {
		t.Errorf("the other gets %v, want %v", got, b[2])
	}
	if got := a.Put(&h1, &a.s, netip.MustParseAddr(client), a.p, b[2], b[2], 3); got != b[2] {
		t.Errorf("moved to where it was, it gets %v, want %v", got, b[2])
	}
	a.want(client, &Template[service, backend]{Backend: b[2], Flows: 2, Expires: time.Minute + 3}, 3)
	a.wantStats(AffinityStats{Templates: 1, Made: 1, Moved: 1})
	checkAffinity(t, a.Affinity)

	// A hold of another client is exchanged.
	if got := a.Put(&h1, &a.s, netip.MustParseAddr("192.0.2.2"), a.p, nil, b[3], 4); got != b[3] {
		t.Errorf("another client gets %v, want %v", got, b[3])
	}
	a.want(client, &Template[service, backend]{Backend: b[2], Flows: 1, Expires: time.Minute + 3}, 3)
	if got := a.Get(&h1, &a.s, netip.MustParseAddr(client), a.p, 5); got != b[2] {
		t.Errorf("Get gives %v, want %v", got, b[2])
	}
	a.want("192.0.2.2", &Template[service, backend]{Backend: b[3], Created: 4, Expires: time.Minute + 4}, 5)
}

// TestAffinityDrop forgets backends and services, with flows and without.
func TestAffinityDrop(t *testing.T) {
	t.Parallel()
	const clients = 3 * dropSlots
	a := NewAffinity[service, backend](20 * clients)
	services, backends := make([]service, 2), make([]backend, 3)
	p := Persistence{Timeout: time.Hour}
	holds := make([]Hold, clients*len(services))
	fill := func() {
		for i := range holds {
			// Each backend and service has its share of what was idle and what was not.
			a.Put(&holds[i], &services[i%2], clientKey(uint64(i/2), 1).Client().Addr(), p, nil, &backends[i/2%3], 0)
			if i%5 == 0 {
				a.Release(&holds[i], 0)
			}
		}
	}
	fill()
	if got := a.Drop(&backend{}); got != 0 {
		t.Errorf("Drop of a backend without templates gives %d", got)
	}
	if got, want := a.Drop(&backends[1]), len(holds)/3; got != want || a.Len() != len(holds)-want {
		t.Errorf("Drop gives %d of %d, want %d", got, a.Len(), want)
	}
	if got := a.DropService(&service{}); got != 0 {
		t.Errorf("DropService of a service without templates gives %d", got)
	}
	if got, want := a.DropService(&services[0]), clients*2/3; got != want || a.Len() != clients*2/3 {
		t.Errorf("DropService gives %d of %d, want %d", got, a.Len(), want)
	}
	for r := range a.Rows(0) {
		if r.Backend == &backends[1] || r.Service == &services[0] {
			t.Errorf("row %+v of what was dropped", r)
		}
	}
	checkAffinity(t, a)

	// Holds of what is gone mean nothing to what has come into its place.
	stale := slices.Clone(holds)
	fill()
	flows := func() (n int) {
		for r := range a.Rows(0) {
			n += r.Flows
		}
		return n
	}
	want := flows()
	released := 0
	for i := range stale {
		if stale[i] != holds[i] {
			a.Release(&stale[i], 0)
			released++
		}
	}
	if got := flows(); got != want || released < clients/2 {
		t.Errorf("%d stale holds released: %d flows, want %d", released, got, want)
	}
	for i := range holds {
		a.Release(&holds[i], 0)
	}
	if got := flows(); got != 0 {
		t.Errorf("%d flows after all are released", got)
	}
	for i := range backends {
		a.Drop(&backends[i])
	}
	if st := a.Stats(); st.Templates != 0 || st.Made != st.Dropped {
		t.Errorf("all dropped: %+v", st)
	}
	checkAffinity(t, a)
}

// TestAffinityReleasedTwice: a copy of a hold must not be released as well.
func TestAffinityReleasedTwice(t *testing.T) {
	t.Parallel()
	a := newAffinityTest(t, 10, Persistence{Timeout: time.Minute})
	h, _ := a.put("192.0.2.1", nil, &backend{}, 0)
	copied := h
	a.Release(&h, 0)
	defer func() {
		if recover() == nil {
			t.Error("a hold was released twice, and nobody noticed")
		}
		a.get("192.0.2.1", 0) // no lock is left behind
	}()
	a.Release(&copied, 0)
}

// TestAffinitySameHash: a hash that two clients share does not make them one.
func TestAffinitySameHash(t *testing.T) {
	t.Parallel()
	a := newAffinityTest(t, 10, Persistence{Timeout: time.Minute})
	addr := func(n uint64) netip.Addr { return clientKey(n, 1).Client().Addr() }
	one, other := twins(func(n uint64) uint32 {
		_, hash := a.shard(&stickyKey[service]{&a.s, Mask{}.network(addr(n))})
		return hash
	})
	b := []*backend{{0}, {1}}
	for i, n := range []uint64{one, other} {
		if _, got := a.get(addr(n).String(), 0); got != nil {
			t.Errorf("client %d has %v", i, got)
		}
		a.put(addr(n).String(), nil, b[i], 0)
	}
	for i, n := range []uint64{one, other} {
		if _, got := a.get(addr(n).String(), 0); got != b[i] {
			t.Errorf("client %d has %v, want %v", i, got, b[i])
		}
	}
}
