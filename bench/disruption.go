package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"

	"usher/balancer"
)

// disruptionConfig says how large the study is.
type disruptionConfig struct {
	forms      []form
	sizes      []int
	movers     int // clients compared before and after a change
	spreaders  int // clients whose spread over the backends is measured
	trials     int // backends that leave or change, one at a time
	tableForms []form
}

// disruptionStudy compares the consistent hashes with the hashes of IPVS.
var disruptionStudy = disruptionConfig{
	forms: []form{
		{scheduler: "mh"},
		{scheduler: "ring"},
		{scheduler: "ring", weight: 100},
		{scheduler: "hrw"},
		{scheduler: "mh", flags: []string{balancer.IPVS}},
		{scheduler: "sh", flags: []string{balancer.IPVS}},
	},
	sizes:      []int{1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000},
	movers:     1 << 17,
	spreaders:  1 << 20,
	trials:     8,
	tableForms: tableForms,
}

// move is the effect on the clients of a change of one backend.
type move struct {
	moved    float64 // share of all clients that changed their backend
	needless float64 // share of all clients that moved between two unchanged backends
	trials   int     // number of means; 0: the change is impossible
}

// change is what happens to one backend.
type change uint8

const (
	leaves change = iota
	joins
	doubles // its weight
	changes
)

func (c change) String() string {
	switch c {
	case leaves:
		return "one backend leaves"
	case joins:
		return "one backend joins"
	}
	return "one weight doubles"
}

// least is the share of all clients that must move when n equal backends change. Loads
// then follow the weights.
func (c change) least(n int) float64 {
	before, after := 1/float64(n), 2/float64(n+1)
	switch c {
	case leaves:
		return before
	case joins:
		return 1 / float64(n+1)
	}
	return after - before
}

// apply returns the specs after a change of the backend at index at. It also returns
// the index of the backend that changed.
func (c change) apply(specs []balancer.Spec, at int) (after []balancer.Spec, changed int) {
	switch c {
	case leaves:
		for i, s := range specs {
			if i != at {
				after = append(after, s)
			}
		}
		return after, at
	case joins:
		n := len(specs)
		return append(append(after, specs...), balancer.Spec{Endpoint: endpointOf(n), Weight: specs[0].Weight, Check: balancer.Up}), n
	}
	after = append(after, specs...)
	after[at].Weight *= 2
	return after, at
}

// evenness is how the clients spread over the backends.
type evenness struct {
	most      float64 // clients of the backend with the most, over the mean
	deviation float64 // standard deviation of the clients of a backend, over the mean
	without   int     // backends that have no client
}

// clientsOf returns n addresses, the same ones each time: draws from all of IPv4.
func clientsOf(n int) []uint32 {
	random := rand.New(rand.NewPCG(2016, 3))
	clients := make([]uint32, n)
	for i := range clients {
		clients[i] = random.Uint32()
	}
	return clients
}

// refused stands in place of the backend of a refused client.
const refused = -1

// assign writes to where the backend of each client. It is an index in the first list
// of the pool, since a pool numbers backends from then on.
func assign(p *balancer.Pool, clients []uint32, to []int32) {
	for i, c := range clients {
		b, _ := p.Acquire(balancer.Flow{Client: netip.AddrPortFrom(ipv4(c), 40000)}, nil)
		if b == nil {
			to[i] = refused
			continue
		}
		p.Release(b)
		to[i] = int32(b.ID()) - 1
	}
}

// disrupt counts the clients that move when one of n backends changes. It repeats that
// for as many backends as trials, each time with a new pool.
func disrupt(f form, n int, c change, trials int, clients []uint32) (move, error) {
	if c == leaves && n == 1 {
		return move{}, nil // no backend is left
	}
	m := move{trials: min(trials, n)}
	if c == joins {
		m.trials = 1 // the only choice
	}
	specs := specsOf(n, f.each())
	before, after := make([]int32, len(clients)), make([]int32, len(clients))
	for trial := range m.trials {
		p, err := f.pool(specs)
		if err != nil {
			return move{}, err
		}
		if trial == 0 {
			assign(p, clients, before)
		}
		changedSpecs, changed := c.apply(specs, trial*n/m.trials)
		p.Update(changedSpecs, 0)
		assign(p, clients, after)
		moved, needless := moves(before, after, int32(changed))
		m.moved += float64(moved)
		m.needless += float64(needless)
	}
	all := float64(m.trials * len(clients))
	m.moved /= all
	m.needless /= all
	return m, nil
}

// moves counts the clients whose backend a change replaced. needless are those that
// neither left the changed backend nor came to it.
func moves(before, after []int32, changed int32) (moved, needless int) {
	for i := range before {
		if before[i] == after[i] {
			continue
		}
		moved++
		if before[i] != changed && after[i] != changed {
			needless++
		}
	}
	return moved, needless
}

// spreadClients measures how the clients spread over n backends.
func spreadClients(f form, n int, clients []uint32) (evenness, error) {
	p, err := f.pool(specsOf(n, f.each()))
	if err != nil {
		return evenness{}, err
	}
	to := make([]int32, len(clients))
	assign(p, clients, to)
	loads := make([]int, n)
	for _, backend := range to {
		if backend == refused {
			return evenness{}, errors.New("a client has no backend")
		}
		loads[backend]++
	}
	return evennessOf(loads), nil
}

func evennessOf(loads []int) evenness {
	sum, most, without := 0, 0, 0
	for _, l := range loads {
		sum += l
		most = max(most, l)
		if l == 0 {
			without++
		}
	}
	mean := float64(sum) / float64(len(loads))
	squares := 0.0
	for _, l := range loads {
		squares += (float64(l) - mean) * (float64(l) - mean)
	}
	return evenness{float64(most) / mean, math.Sqrt(squares/float64(len(loads))) / mean, without}
}

// drawnDeviation is the deviation if each of the clients drew its backend at random. A
// hash of few clients over many backends reaches no less.
func drawnDeviation(n, clients int) float64 { return math.Sqrt(float64(n-1) / float64(clients)) }

// disruptionResults are the results of the study.
type disruptionResults struct {
	disruptionConfig
	moves    [changes]map[timingKey]move // by the form's name
	evenness map[timingKey]evenness
	builds   timings // of a change of a weight
	bytes    map[timingKey]float64
}

func runDisruption(ctx context.Context, c disruptionConfig, o studyOptions, progress io.Writer) ([]byte, error) {
	r := disruptionResults{disruptionConfig: c, evenness: make(map[timingKey]evenness), bytes: make(map[timingKey]float64)}
	var subjects []subject
	for _, f := range c.tableForms { // first, while the heap is empty otherwise
		for _, n := range c.sizes {
			bytes, err := tableBytes(f, n)
			if err != nil {
				return nil, err
			}
			r.bytes[timingKey{f.name(), n}] = bytes
		}
	}
	for _, f := range c.tableForms {
		for _, n := range c.sizes {
			s, err := buildSubject(f, n)
			if err != nil {
				return nil, err
			}
			subjects = append(subjects, s)
		}
	}
	var err error
	if r.builds, err = newStopwatch(o).measure(ctx, subjects, progress); err != nil {
		return nil, err
	}
	if err := r.count(ctx, progress); err != nil {
		return nil, err
	}
	return r.text(o), nil
}

// count fills in the results that need no clock.
func (r *disruptionResults) count(ctx context.Context, progress io.Writer) error {
	for c := range r.moves {
		r.moves[c] = make(map[timingKey]move)
	}
	movers, spreaders := clientsOf(r.movers), clientsOf(r.spreaders)
	for _, f := range r.forms {
		for _, n := range r.sizes {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			key := timingKey{f.name(), n}
			for c := range changes {
				m, err := disrupt(f, n, c, r.trials, movers)
				if err != nil {
					return err
				}
				r.moves[c][key] = m
			}
			e, err := spreadClients(f, n, spreaders)
			if err != nil {
				return fmt.Errorf("clients over %s by %s: %w", count(n, "backend"), f.name(), err)
			}
			r.evenness[key] = e
		}
		fmt.Fprintf(progress, "%s: clients counted\n", f.name())
	}
	return nil
}
