package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"golang.org/x/perf/benchmath"
)

// spread is the middle and the ends of a few measurements.
type spread struct {
	n                int
	median, min, max float64
}

// spreadOf summarises values; none gives the zero spread.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	s := sampleOf(values)
	median := benchmath.AssumeNothing.Summary(s, confidence).Center
	return spread{n: len(values), median: median, min: s.Values[0], max: s.Values[len(values)-1]}
}

// confidence is that of intervals.
const confidence = 0.95

// interval is the median, and in brackets where the true one is with that confidence, if
// there are enough values to tell.
func interval(values []float64) string {
	if len(values) == 0 {
		return none
	}
	s := benchmath.AssumeNothing.Summary(sampleOf(values), confidence)
	if math.IsInf(s.Lo, 0) || math.IsInf(s.Hi, 0) {
		return number(s.Center)
	}
	return fmt.Sprintf("%s [%s–%s]", number(s.Center), number(s.Lo), number(s.Hi))
}

// ratios divides measurements by those of the same rounds.
func ratios(values, than []float64) []float64 {
	r := make([]float64, min(len(values), len(than)))
	for i := range r {
		r[i] = values[i] / than[i]
	}
	return r
}

func sampleOf(values []float64) *benchmath.Sample {
	return benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds) // which sorts them
}

// significance is the p-value of the Mann-Whitney U test: how likely chance alone would make
// two samples differ as much. "–" stands for samples too small to tell.
func significance(a, b []float64) string {
	if len(a) == 0 || len(b) == 0 {
		return none
	}
	c := benchmath.AssumeNothing.Compare(sampleOf(a), sampleOf(b))
	if len(c.Warnings) > 0 {
		return none
	}
	return fmt.Sprintf("%.3f", c.P)
}

// middle is the median alone, e.g. "87.3", or "–".
func (s spread) middle() string {
	if s.n == 0 {
		return none
	}
	return number(s.median)
}

// String gives the middle and, of several measurements, the ends:
// "87.3 (85.0–91.2)".
func (s spread) String() string { return s.format(number) }

// format is String with figures that write writes.
func (s spread) format(write func(float64) string) string {
	switch s.n {
	case 0:
		return none
	case 1:
		return write(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", write(s.median), write(s.min), write(s.max))
}

// none stands for a figure that there is not.
const none = "–"

// number writes v with three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// share formats a small percentage. Only an exact zero is written as 0.
func share(v float64) string {
	if v > 0 && v < 1e-4 {
		return "<0.0001"
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
