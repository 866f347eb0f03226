package main

import (
	"testing"
	"time"

	"usher/balancer"
)

// TestTraffic: each way of choosing keeps two flows a backend, and the scans spread
// them evenly.
func TestTraffic(t *testing.T) {
	t.Parallel()
	const backends = 7
	for name, newTraffic := range map[string]func(*balancer.Pool) (*traffic, error){
		"pool": poolTraffic, "scan": scanTraffic, "packed": packedTraffic,
	} {
		p, err := form{scheduler: "lc"}.pool(specsOf(backends, 1))
		if err != nil {
			t.Fatal(err)
		}
		traffic, err := newTraffic(p)
		if err != nil {
			t.Fatal(err)
		}
		traffic.run(1000)
		held := make(map[*balancer.Backend]int)
		for _, b := range traffic.held {
			held[b]++
		}
		for _, b := range p.Backends() {
			if held[b] != heldEach || name != "packed" && b.Active() != heldEach {
				t.Errorf("%s: %v has %d flows, the pool says %d; want %d", name, b, held[b], b.Active(), heldEach)
			}
		}
	}
}

func TestTrafficWithoutRoom(t *testing.T) {
	t.Parallel()
	p, err := form{scheduler: "ovf"}.pool(specsOf(3, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := poolTraffic(p); err == nil {
		t.Error("more flows than there is room for, and no error")
	}
	if _, err := (form{scheduler: "none"}).pool(nil); err == nil {
		t.Error("a pool of a scheduler that there is not")
	}
}

func TestFormName(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]form{
		"mh":        {scheduler: "mh", weight: 1},
		"mh,ipvs":   {scheduler: "mh", flags: []string{balancer.IPVS}},
		"ring @100": {scheduler: "ring", weight: 100},
	} {
		if got := f.name(); got != want {
			t.Errorf("%+v: %q, want %q", f, got, want)
		}
	}
}

func TestWeightToggle(t *testing.T) {
	t.Parallel()
	specs := specsOf(3, 5)
	p, err := form{scheduler: "mh"}.pool(specs)
	if err != nil {
		t.Fatal(err)
	}
	toggle := weightToggle(p, specs)
	for _, want := range []int{10, 5, 10} {
		toggle()
		if got := p.Backends()[1].Weight(); got != want {
			t.Errorf("weight %d, want %d", got, want)
		}
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	s := stall{slow: []time.Duration{time.Millisecond, 3 * time.Millisecond, 2 * time.Millisecond}}
	for d, want := range map[time.Duration]int{slowFrom: 3, 2 * time.Millisecond: 2, time.Second: 0} {
		if got := s.longerThan(d); got != want {
			t.Errorf("%d choices of %v or longer, want %d", got, d, want)
		}
	}
	stalls, err := measureStalls(t.Context(), 3, studyOptions{rounds: 1, slot: 10 * time.Microsecond}, writerFunc(func() {}))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(stallForms) * int(meanwhiles); len(stalls) != want {
		t.Fatalf("%d rows, want %d", len(stalls), want)
	}
	for _, s := range stalls {
		if s.choices.TotalCount() == 0 || (len(s.updates) > 0) != (s.beside != nothing) {
			t.Errorf("%s, %s: %d choices, %d changes", s.form, s.beside, s.choices.TotalCount(), len(s.updates))
		}
	}
}
