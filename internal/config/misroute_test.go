package config

import (
	"slices"
	"testing"
)

// Without the services that lead where they must not, a plan is right.
func TestMisroutes(t *testing.T) {
	t.Parallel()
	picky := serving(t, "picky", "18090", "9001")
	if err := picky.Set("accept-proxy", "127.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	if err := picky.Set("accept-proxy-only", "true"); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		services []*Service
		stays    string // a service that may not be left out
		want     []int
	}{
		"none": {services: []*Service{serving(t, "a", "18080", "18081"), serving(t, "b", "18081", "9001")}},
		"self": {services: []*Service{serving(t, "a", "18080", "18080"), serving(t, "b", "18081", "18080")}, want: []int{0}},
		"two":  {services: []*Service{serving(t, "a", "18080", "18081"), serving(t, "b", "18081", "18080", "9001")}, want: []int{1}},
		"the one that is new": {
			services: []*Service{serving(t, "a", "18080", "18081"), serving(t, "b", "18081", "18080")}, stays: "b", want: []int{0},
		},
		"two loops of one": {services: []*Service{
			serving(t, "a", "18080", "18081", "18082"), serving(t, "b", "18081", "18080"), serving(t, "c", "18082", "18080"),
		}, want: []int{1, 2}},
		"behind a way": {services: []*Service{
			serving(t, "a", "18080", "18081"), serving(t, "b", "18081", "18082"), serving(t, "c", "18082", "18081", "18083"),
			serving(t, "d", "18083", "18083"),
		}, want: []int{2, 3}},
		"a header is wanted": {services: []*Service{picky, serving(t, "a", "18080", "18090"), serving(t, "b", "18081", "9001")}, want: []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []int
			var rest []*Service
			all := Misroutes(tt.services, nil, func(i int) bool { return tt.services[i].Name != tt.stays })
			for _, m := range all {
				got = append(got, m.Service)
			}
			for i, s := range tt.services {
				if !slices.Contains(got, i) {
					rest = append(rest, s)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("left out %v, want %v", all, tt.want)
			}
			if err := NewChecker(nil).Check(rest); err != nil {
				t.Error(err)
			}
		})
	}
}
