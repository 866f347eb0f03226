package main

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/balancer"
)

// TestDisruptPinned pins how many of 10,000 clients move, and how many move
// needlessly. Only the tables decide that, and they are a contract between instances.
func TestDisruptPinned(t *testing.T) {
	t.Parallel()
	got := make(map[string]string)
	const clients = 10_000
	list := clientsOf(clients)
	for _, f := range disruptionStudy.forms {
		for c := range changes {
			m, err := disrupt(f, 10, c, 1, list)
			if err != nil {
				t.Fatal(err)
			}
			got[f.name()+": "+c.String()] = fmt.Sprintf("%.0f (%.0f)", m.moved*clients, m.needless*clients)
		}
	}
	want := map[string]string{
		"mh: one backend leaves":        "1028 (16)",
		"mh: one backend joins":         "958 (25)",
		"mh: one weight doubles":        "889 (14)",
		"ring: one backend leaves":      "878 (0)",
		"ring: one backend joins":       "931 (0)",
		"ring: one weight doubles":      "954 (0)",
		"ring @100: one backend leaves": "1035 (0)",
		"ring @100: one backend joins":  "929 (0)",
		"ring @100: one weight doubles": "812 (0)",
		"hrw: one backend leaves":       "987 (0)",
		"hrw: one backend joins":        "885 (0)",
		"hrw: one weight doubles":       "814 (0)",
		"mh,ipvs: one backend leaves":   "1195 (119)",
		"mh,ipvs: one backend joins":    "1036 (113)",
		"mh,ipvs: one weight doubles":   "918 (70)",
		"sh,ipvs: one backend leaves":   "8951 (7993)",
		"sh,ipvs: one backend joins":    "9269 (8258)",
		"sh,ipvs: one weight doubles":   "8845 (6473)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("moves (-want +got):\n%s", diff)
	}
}

// TestNoNeedlessMoves: by ring and rendezvous hash, clients move only from or to the
// backend that changes.
func TestNoNeedlessMoves(t *testing.T) {
	t.Parallel()
	clients := clientsOf(5000)
	for _, scheduler := range []string{"ring", "hrw"} {
		for _, n := range []int{1, 2, 40} {
			for c := range changes {
				m, err := disrupt(form{scheduler: scheduler}, n, c, 2, clients)
				if err != nil {
					t.Fatal(err)
				}
				if m.needless != 0 {
					t.Errorf("%s, %d backends, %s: %v of the clients move without need", scheduler, n, c, m.needless)
				}
			}
		}
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	weights := func(specs []balancer.Spec) string {
		s := ""
		for _, spec := range specs {
			s += fmt.Sprintf("%v@%d ", spec.Endpoint.Addr.Addr(), spec.Weight)
		}
		return s
	}
	before := specsOf(3, 5)
	for c, want := range map[change]struct {
		specs   string
		changed int
	}{
		leaves:  {"10.0.0.0@5 10.0.0.2@5 ", 1},
		joins:   {"10.0.0.0@5 10.0.0.1@5 10.0.0.2@5 10.0.0.3@5 ", 3},
		doubles: {"10.0.0.0@5 10.0.0.1@10 10.0.0.2@5 ", 1},
	} {
		specs, changed := c.apply(before, 1)
		if got := weights(specs); got != want.specs || changed != want.changed {
			t.Errorf("%s: %s, at %d; want %s, at %d", c, got, changed, want.specs, want.changed)
		}
	}
	if got := weights(before); got != "10.0.0.0@5 10.0.0.1@5 10.0.0.2@5 " {
		t.Errorf("the backends before are %s now", got)
	}
	// Of 4 equal backends, the leaver had a quarter, and a fifth one gets a fifth. One
	// with 2 of 5 parts had a quarter.
	for c, want := range map[change]float64{leaves: 0.25, joins: 0.2, doubles: 0.15} {
		if got := c.least(4); math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: least %v, want %v", c, got, want)
		}
	}
}

func TestMoves(t *testing.T) {
	t.Parallel()
	moved, needless := moves([]int32{0, 1, 2, 1, refused}, []int32{0, 2, 0, 3, 0}, 1)
	if moved != 4 || needless != 2 {
		t.Errorf("%d moved, %d without need; want 4, 2", moved, needless)
	}
}

func TestEvenness(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		loads []int
		want  evenness
	}{
		{[]int{7}, evenness{1, 0, 0}},
		{[]int{5, 5, 5}, evenness{1, 0, 0}},
		{[]int{2, 4, 4, 4, 5, 5, 7, 9}, evenness{1.8, 0.4, 0}},
		{[]int{0, 10}, evenness{2, 1, 1}},
	} {
		if got := evennessOf(tt.loads); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.loads, got, tt.want)
		}
	}
}

// TestDrawnDeviation compares the formula with actual draws.
func TestDrawnDeviation(t *testing.T) {
	t.Parallel()
	const n, clients = 100, 100_000
	loads := make([]int, n)
	for _, c := range clientsOf(clients) {
		loads[c%n]++
	}
	if got, want := evennessOf(loads).deviation, drawnDeviation(n, clients); math.Abs(got/want-1) > 0.25 {
		t.Errorf("random draws deviate by %v, want about %v", got, want)
	}
}
