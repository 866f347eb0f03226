package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"usher/balancer"
)

// form is a scheduler and its flags.
type form struct {
	scheduler string
	flags     []string
	weight    int // of each backend; 0 is 1
}

// name is the form as on the command line, with its weight if that is not 1:
// "mh,ipvs", "ring @100".
func (f form) name() string {
	name := strings.Join(append([]string{f.scheduler}, f.flags...), ",")
	if f.each() != 1 {
		name += fmt.Sprintf(" @%d", f.weight)
	}
	return name
}

// each is the weight of each backend.
func (f form) each() int { return max(f.weight, 1) }

// pool returns a pool of the form with these backends.
func (f form) pool(specs []balancer.Spec) (*balancer.Pool, error) {
	p, err := balancer.NewPool(balancer.Options{
		Scheduler: f.scheduler, Flags: f.flags, Random: rand.Uint64,
	})
	if err != nil {
		return nil, fmt.Errorf("pool of %s: %w", f.name(), err)
	}
	p.Update(specs, 0)
	return p, nil
}

// specsOf returns n backends, 10.0.0.0:80 and on.
func specsOf(n, weight int) []balancer.Spec {
	specs := make([]balancer.Spec, n)
	for i := range specs {
		specs[i] = balancer.Spec{Endpoint: endpointOf(i), Weight: weight, Check: balancer.Up}
	}
	return specs
}

func endpointOf(i int) balancer.Endpoint {
	return balancer.Endpoint{Addr: netip.AddrPortFrom(ipv4(10<<24|uint32(i)), 80)}
}

func ipv4(n uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}

// destinations is how many addresses the flows of flowOf ask for.
const destinations = 1024

// flowOf returns the i-th flow: each one is of a client of its own.
func flowOf(i uint32) balancer.Flow {
	return balancer.Flow{
		Client: netip.AddrPortFrom(ipv4(172<<24|i&(1<<24-1)), 40000),
		Local:  netip.AddrPortFrom(ipv4(198<<24|18<<16|i%destinations), 80),
	}
}

// traffic is a pool with two flows a backend, of which the oldest ends whenever
// another one begins.
type traffic struct {
	acquire func(balancer.Flow) *balancer.Backend
	release func(*balancer.Backend)
	held    []*balancer.Backend
	oldest  int
	flows   uint32 // started so far
}

// heldEach is how many flows there are for each backend.
const heldEach = 2

func newTraffic(backends int, acquire func(balancer.Flow) *balancer.Backend, release func(*balancer.Backend)) (*traffic, error) {
	t := &traffic{acquire: acquire, release: release, held: make([]*balancer.Backend, heldEach*backends)}
	for i := range t.held {
		if t.held[i] = t.next(); t.held[i] == nil {
			return nil, fmt.Errorf("no backend of %d for flow %d", backends, i)
		}
	}
	return t, nil
}

// poolTraffic is what usher does: the scheduler picks.
func poolTraffic(p *balancer.Pool) (*traffic, error) {
	if p.ObservesLatency() {
		for i, b := range p.Backends() {
			p.ObserveConnect(b, time.Millisecond, 0)
			p.Observe(b, time.Duration(i%10+1)*time.Millisecond, 0)
		}
	}
	acquire := func(f balancer.Flow) *balancer.Backend {
		b, _ := p.Acquire(f, nil)
		return b
	}
	return newTraffic(len(p.Backends()), acquire, p.Release)
}

func (t *traffic) next() *balancer.Backend {
	t.flows++
	return t.acquire(flowOf(t.flows))
}

// run begins and ends n flows.
func (t *traffic) run(n int) {
	for range n {
		t.release(t.held[t.oldest])
		t.held[t.oldest] = t.next()
		if t.oldest++; t.oldest == len(t.held) {
			t.oldest = 0
		}
	}
}
