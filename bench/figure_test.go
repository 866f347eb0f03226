package main

import (
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/plot/vg"
)

// TestTicks: an axis has a tick at each power of ten, or at every other one where they are many.
func TestTicks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to float64
		write    func(float64) string
		labels   string
	}{
		{1, 10_000, counted, "1 10 100 1k 10k"},
		{20, 8e7, counted, "100 10k 1M"},
		{0.005, 200, percents, "0.01 % 0.1 % 1 % 10 % 100 %"},
		{13, 2.5e7, nanosecond, "100 ns 10 µs 1 ms"},
		{0.001, 80, millisecond, "1 µs 10 µs 100 µs 1 ms 10 ms"},
		{0.5, 900, timesAsMuch, "1× 10× 100×"},
	} {
		a := axis{write: tt.write, from: tt.from, to: tt.to}
		var labels []string
		for _, v := range a.ticks() {
			labels = append(labels, strings.ReplaceAll(tt.write(v), "\u00a0", " "))
		}
		if got := strings.Join(labels, " "); got != tt.labels {
			t.Errorf("%v to %v: %q, want %q", tt.from, tt.to, got, tt.labels)
		}
	}
	for v, want := range map[float64]string{999.9: "1\u00a0µs", 461: "461\u00a0ns", 2086077: "2.09\u00a0ms", 5e12: "5,000\u00a0s"} {
		if got := nanosecond(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

// TestGaps: a point that is not above zero divides a line.
func TestGaps(t *testing.T) {
	t.Parallel()
	svg := func(points ...point) string {
		p := &chart{tall: 100, x: axis{write: counted}, y: axis{write: counted}, lines: []line{{"l", reference(0), points}}}
		if err := fit([]*chart{p}); err != nil {
			t.Fatal(err)
		}
		b, err := (&figure{title: "t", panels: []panel{p}}).draw()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	whole := svg(point{1, 1}, point{2, 2}, point{3, 3}, point{4, 4})
	parts := svg(point{1, 1}, point{2, 2}, point{2.5, 0}, point{3, 3}, point{4, 4})
	dashed := func(s string) int { return strings.Count(s, "stroke-dasharray:7") }
	if dashed(whole) != 1 || dashed(parts) != 2 {
		t.Errorf("%d and %d pieces, want 1 and 2", dashed(whole), dashed(parts))
	}
	if err := fit([]*chart{{lines: []line{{points: []point{{0, 1}}}}}}); err == nil {
		t.Error("a chart without a point, and no error")
	}
}

// TestSpaced: names move apart evenly, and those with room stay.
func TestSpaced(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ wanted, want []vg.Length }{
		{nil, []vg.Length{}},
		{[]vg.Length{0, 10, 25}, []vg.Length{0, 10, 25}},
		{[]vg.Length{10, 10}, []vg.Length{5, 15}},
		{[]vg.Length{10, 12, 40}, []vg.Length{6, 16, 40}},
		{[]vg.Length{10, 12, 22}, []vg.Length{14.0 + 2.0/3 - 10, 14.0 + 2.0/3, 14.0 + 2.0/3 + 10}},
	} {
		got := spaced(tt.wanted, 10)
		if !slices.EqualFunc(got, tt.want, func(a, b vg.Length) bool { return max(a-b, b-a) < 1e-9 }) {
			t.Errorf("%v: %v, want %v", tt.wanted, got, tt.want)
		}
	}
}

// TestWrap: a text is broken into lines of about the same width, never inside a hard space.
func TestWrap(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                "",
		"one line":                        "one line",
		"aaaa aaaa aaaa aaaa aaaa b":      "aaaa aaaa aaaa|aaaa aaaa b",
		"aaaa aaaa aaaa 99\u00a0%":        "aaaa aaaa|aaaa 99\u00a0%",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	} {
		style := plainText(ink)
		if got := strings.Join(wrap(style, text, style.Width("aaaa aaaa aaaa 9")), "|"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
