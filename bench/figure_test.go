package main

import (
	"strings"
	"testing"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
)

// TestAxis: an axis begins and ends with a decade that has a label.
func TestAxis(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		least, most, from, to float64
		labels                string
	}{
		{1, 10_000, 1, 10_000, "1 10 100 1,000 10,000"},
		{20, 80_000, 10, 100_000, "10 100 1,000 10,000 100,000"},
		{10, 10, 10, 100, "10 100"},
		{0.0012, 0.9, 0.001, 1, "0.001 0.01 0.1 1"},
	} {
		a := newAxis()
		a.include(tt.most)
		a.include(tt.least)
		p := plot.New()
		a.setOn(&p.X, "x")
		var labels []string
		for _, tick := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
			if tick.Label != "" {
				labels = append(labels, tick.Label)
			}
		}
		if got := strings.Join(labels, " "); p.X.Min != tt.from || p.X.Max != tt.to || got != tt.labels {
			t.Errorf("%v to %v: from %v to %v, %q", tt.least, tt.most, p.X.Min, p.X.Max, got)
		}
	}
}

// TestGaps: a point that is not above zero divides a line.
func TestGaps(t *testing.T) {
	t.Parallel()
	svg := func(points plotter.XYs) string {
		f := figure{panels: []panel{{lines: []line{{isReference: true, points: points}}}}}
		b, err := f.draw()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	whole := svg(plotter.XYs{{X: 1, Y: 1}, {X: 2, Y: 2}, {X: 3, Y: 3}, {X: 4, Y: 4}})
	parts := svg(plotter.XYs{{X: 1, Y: 1}, {X: 2, Y: 2}, {X: 2.5, Y: 0}, {X: 3, Y: 3}, {X: 4, Y: 4}})
	dashed := func(s string) int { return strings.Count(s, "stroke-dasharray:6") }
	if dashed(parts) != dashed(whole)+1 {
		t.Errorf("%d pieces and the legend's, want one more than %d", dashed(parts), dashed(whole))
	}
	f := figure{panels: []panel{{lines: []line{{points: plotter.XYs{{X: 0, Y: 1}}}}}}}
	if _, err := f.draw(); err == nil {
		t.Error("a figure without a point, and no error")
	}
}
