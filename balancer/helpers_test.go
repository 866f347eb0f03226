package balancer

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
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

func newPool(tb testing.TB, scheduler string, s []Spec) *Pool {
	tb.Helper()
	p, err := NewPool(Options{Scheduler: scheduler, Initial: Up, Random: rand.Uint64})
	if err != nil {
		tb.Fatal(err)
	}
	p.Update(s)
	return p
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

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests, to replay one that failed; 0: a new one")

// newRand is seeded afresh for each run, and prints the seed when the test fails.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
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
