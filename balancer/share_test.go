package balancer

import (
	"fmt"
	"testing"
	"time"
)

// TestShareActs shows the part of new flows that each scheduler that weighs gives to a
// backend of which a tenth counts: one of eleven, though weights are as small as can be.
func TestShareActs(t *testing.T) {
	t.Parallel()
	for _, a := range Algorithms() {
		if !a.Weighs {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			t.Parallel()
			rnd := newRand(t)
			p, err := NewPool(Options{Scheduler: a.Name, Initial: Up, Random: rnd.Uint64})
			if err != nil {
				t.Fatal(err)
			}
			all := specs(2)
			all[1].Share = 10
			p.Update(all)
			const flows = 2200
			for i := range flows {
				f := client(i)
				f.Local = client(i + flows).Client
				acquire(p, f, nil) // held: load counts for some
			}
			b := p.Backends()[1]
			if got, want := int(b.Total()), flows/11; got < want/2 || got > want*2 {
				t.Errorf("got %d of %d flows, want about %d", got, flows, want)
			}
			if b.Weight() != 1 {
				t.Errorf("its weight is %d, that of its spec is 1", b.Weight())
			}
			releaseAll(p)
		})
	}
}

// TestShareCounts: what members weigh, by weight@share of each backend.
func TestShareCounts(t *testing.T) {
	t.Parallel()
	type spec struct{ weight, share int }
	for _, tt := range []struct {
		scheduler string
		flags     []string
		specs     []spec
		want      string
	}{
		{"wrr", nil, []spec{{1, 0}, {3, 100}}, "[1 3]"},
		{"wrr", nil, []spec{{1, 0}, {3, 50}}, "[100 150]"},
		{"wrr", nil, []spec{{2, 50}, {3, 50}}, "[2 3]"}, // half of all is all
		{"wrr", nil, []spec{{2, 50}}, "[2]"},
		{"wrr", nil, []spec{{2, 50}, {0, 70}}, "[2]"},
		{"wrr", nil, []spec{{1, 1}, {1, -5}, {1, 100}}, "[1 1 100]"},
		{"wrr", nil, []spec{{1, 1000}, {1, 5000}, {1, 100}}, "[1000 1000 100]"},
		{"wrr", nil, []spec{{maxWeight, 1000}, {1, 100}}, fmt.Sprintf("[%d 100]", int64(topWeight))},
		{"fo", nil, []spec{{1, 50}, {3, 50}, {100, 7}}, "[1 2 7]"},
		{"ovf", nil, []spec{{10, 150}, {maxWeight, 1000}}, fmt.Sprintf("[15 %d]", maxWeight)},
		{"wrr", []string{IPVS}, []spec{{1, 50}, {10, 1}, {0, 50}}, "[1 1]"},
	} {
		p, err := NewPool(Options{Scheduler: tt.scheduler, Flags: tt.flags, Initial: Up})
		if err != nil {
			t.Fatal(err)
		}
		all := specs(len(tt.specs))
		for i, s := range tt.specs {
			all[i].Weight, all[i].Share = s.weight, s.share
		}
		p.Update(all)
		var got []int
		for _, m := range p.members {
			got = append(got, m.weight)
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%s%v of %v: %v, want %s", tt.scheduler, tt.flags, tt.specs, got, tt.want)
		}
	}
}

// TestShareInSlowStart: both take their part.
func TestShareInSlowStart(t *testing.T) {
	t.Parallel()
	p, err := NewPool(Options{Scheduler: "wrr", SlowStart: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	all := specs(2)
	all[0].Share = 50
	p.Update(all)
	for _, b := range p.Backends() {
		p.SetStatus(b, Up)
	}
	p.Advance(0)
	if got := fmt.Sprint(p.members[0].weight, p.members[1].weight); got != "2 5" {
		t.Errorf("in the first step %s, want 2 5", got)
	}
	p.Advance(time.Minute)
	if got := fmt.Sprint(p.members[0].weight, p.members[1].weight); got != "50 100" {
		t.Errorf("afterwards %s, want 50 100", got)
	}
}
