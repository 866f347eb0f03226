package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// spread is the middle and the ends of a few measurements.
type spread struct {
	n                int
	median, min, max float64
}

// spreadOf summarises values; none gives the zero spread.
func spreadOf(values []float64) spread {
	n := len(values)
	if n == 0 {
		return spread{}
	}
	s := slices.Sorted(slices.Values(values))
	return spread{n: n, median: (s[(n-1)/2] + s[n/2]) / 2, min: s[0], max: s[n-1]}
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

// share writes a percentage that is small, and that is no more than 0 only if
// there is nothing at all.
func share(v float64) string {
	if v > 0 && v < 1e-4 {
		return "<0.0001"
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
