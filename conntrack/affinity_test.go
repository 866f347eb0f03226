package conntrack

import (
	"math"
	"net/netip"
	"testing"
	"time"
)

// affinityTest is a table with default arguments.
type affinityTest struct {
	*testing.T
	*Affinity[service, backend]
	s service
	p AffinityConfig
}

func newAffinityTest(t *testing.T, capacity int, p AffinityConfig) *affinityTest {
	return &affinityTest{T: t, Affinity: NewAffinity[service, backend](capacity), p: p}
}

func (a *affinityTest) get(client string, at time.Duration) (h AffinityRef, b *backend) {
	b = a.Get(&h, NewAffinityClient(&a.s, netip.MustParseAddr(client), a.p), at)
	return h, b
}

func (a *affinityTest) put(client string, from, to *backend, at time.Duration) (h AffinityRef, b *backend) {
	b = a.Put(&h, NewAffinityClient(&a.s, netip.MustParseAddr(client), a.p), from, to, at)
	return h, b
}

// want checks the entry of a client, nil for none, without refreshing it.
func (a *affinityTest) want(client string, want *AffinityEntry[service, backend], at time.Duration) {
	a.Helper()
	prefix := a.p.Mask.network(netip.MustParseAddr(client)).prefix()
	var got *AffinityEntry[service, backend]
	for r := range a.Rows(at) {
		if r.Client == prefix && r.Service == &a.s {
			got = &r
		}
	}
	switch {
	case got == nil && want == nil:
	case got == nil || want == nil:
		a.Errorf("at %v: the entry of %s is %+v, want %+v", at, client, got, want)
	case got.Backend != want.Backend || got.Flows != want.Flows || got.Expires != want.Expires || got.Created != want.Created:
		a.Errorf("at %v: the entry of %s is %+v, want %+v", at, client, *got, *want)
	}
}

func (a *affinityTest) wantStats(want AffinityStats) {
	a.Helper()
	want.Capacity = a.Stats().Capacity
	if got := a.Stats(); got != want {
		a.Errorf("stats %+v, want %+v", got, want)
	}
}

// TestAffinityLife follows one entry through the rules of IPVS.
func TestAffinityLife(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Second
	a := newAffinityTest(t, 10, AffinityConfig{Timeout: timeout})
	b := &backend{1}
	const client = "192.0.2.1"
	type row = AffinityEntry[service, backend]

	if h, got := a.get(client, 0); got != nil || h != (AffinityRef{}) {
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

	// With a flow alive it is extended by a minute each time, looked at or not.
	for _, at := range []time.Duration{400, 459, 460, 1000, 1059} {
		at *= time.Second
		expires := 460 * time.Second
		for expires <= at {
			expires += affinityExtension
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
	if h, got := a.get(client, 1420*time.Second-1); got != nil || h != (AffinityRef{}) {
		t.Errorf("at the end Get gives %v, %v", got, h)
	}
	a.wantStats(AffinityStats{Created: 1, Expired: 1})
	checkAffinity(t, a.Affinity)
}

// Timeouts at the ends of the range, and one that changes.
func TestAffinityTimeouts(t *testing.T) {
	t.Parallel()
	const client = "2001:db8::1"
	b := &backend{1}
	for _, timeout := range []time.Duration{math.MinInt64, -1, 0} {
		a := newAffinityTest(t, 10, AffinityConfig{Timeout: timeout})
		h, _ := a.put(client, nil, b, time.Second)
		again, got := a.get(client, time.Second)
		if got != b {
			t.Errorf("timeout %v: with a flow alive Get gives %v", timeout, got)
		}
		a.Release(&h, 2*time.Second)
		a.Release(&again, 2*time.Second)
		a.want(client, &AffinityEntry[service, backend]{Backend: b, Created: time.Second, Expires: 61 * time.Second}, 2*time.Second)
	}

	a := newAffinityTest(t, 10, AffinityConfig{Timeout: math.MaxInt64})
	h, _ := a.put(client, nil, b, time.Hour)
	a.want(client, &AffinityEntry[service, backend]{Backend: b, Flows: 1, Created: time.Hour, Expires: math.MaxInt64}, math.MaxInt64)
	a.Release(&h, math.MaxInt64-1)
	a.Expire(math.MaxInt64)
	a.want(client, &AffinityEntry[service, backend]{Backend: b, Created: time.Hour, Expires: math.MaxInt64}, math.MaxInt64-1)

	// A shorter one counts from the next flow on, also for freeing the slot.
	a = newAffinityTest(t, 10, AffinityConfig{Timeout: 3 * time.Hour})
	h, _ = a.put(client, nil, b, 0)
	a.Release(&h, 0)
	a.p.Timeout = time.Second
	h, _ = a.get(client, 2*time.Hour)
	a.Release(&h, 2*time.Hour)
	a.Expire(2*time.Hour + time.Second + Tick)
	a.wantStats(AffinityStats{Created: 1, Expired: 1})
}

// The mask says which addresses are one client.
func TestAffinityMask(t *testing.T) {
	t.Parallel()
	a := newAffinityTest(t, 100, AffinityConfig{Timeout: time.Minute})
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
	// Another mask, and another service, have entries of their own.
	a.p.Mask = Mask{}
	if _, got := a.get("192.0.2.0", 0); got != nil {
		t.Errorf("192.0.2.0/32 has the backend of 192.0.2.0/24")
	}
	var h AffinityRef
	a.p.Mask, _ = NewMask(24, 64)
	if got := a.Get(&h, NewAffinityClient(&service{}, netip.MustParseAddr("192.0.2.1"), a.p), 0); got != nil {
		t.Errorf("another service has %v", got)
	}
	// A client without an address, as of a unix socket, has no entry.
	if got := a.Put(&h, NewAffinityClient(&a.s, netip.Addr{}, a.p), nil, b4, 0); got != b4 || h != (AffinityRef{}) {
		t.Errorf("without an address Put gives %v, %v", got, h)
	}
	if got := a.Get(&h, NewAffinityClient(&a.s, netip.Addr{}, a.p), 0); got != nil || a.Len() != 2 {
		t.Errorf("without an address Get gives %v of %d", got, a.Len())
	}
	// Nor is there one without a backend.
	if got := a.Put(&h, NewAffinityClient(&a.s, netip.MustParseAddr("10.0.0.1"), a.p), b4, nil, 0); got != nil || a.Len() != 2 {
		t.Errorf("without a backend Put gives %v of %d", got, a.Len())
	}
}

// Releasing a copy of a reference panics.
func TestAffinityReleasedTwice(t *testing.T) {
	t.Parallel()
	a := newAffinityTest(t, 10, AffinityConfig{Timeout: time.Minute})
	h, _ := a.put("192.0.2.1", nil, &backend{}, 0)
	copied := h
	a.Release(&h, 0)
	defer func() {
		if recover() == nil {
			t.Error("a reference was released twice without a panic")
		}
		a.get("192.0.2.1", 0) // no lock is left behind
	}()
	a.Release(&copied, 0)
}

// Two clients with the same hash have two entries.
func TestAffinitySameHash(t *testing.T) {
	t.Parallel()
	a := newAffinityTest(t, 10, AffinityConfig{Timeout: time.Minute})
	addr := func(n uint64) netip.Addr { return clientKey(n, 1).Client().Addr() }
	one, other := twins(func(n uint64) uint32 {
		_, hash := a.shard(&affinityKey[service]{&a.s, Mask{}.network(addr(n))})
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
