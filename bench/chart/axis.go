package chart

import (
	"math"
	"strconv"
	"strings"
)

// span is the least and the greatest of some numbers.
type span struct{ min, max float64 }

func newSpan() span { return span{math.Inf(1), math.Inf(-1)} }

func (r *span) take(v float64) { r.min, r.max = min(r.min, v), max(r.max, v) }

// axis is a logarithmic axis from one tick to another.
type axis struct {
	from, to float64
	ticks    []tick
}

type tick struct {
	value float64
	major bool // has a label
}

// steps are the ticks of a decade.
var steps = [...]float64{1, 2, 5}

// newAxis returns the shortest axis that holds the span, begins and ends with a tick
// and has a decade at least, on which slopes would be exaggerated otherwise.
func newAxis(r span) axis {
	low := int(math.Floor(math.Log10(r.min))) - 1
	high := int(math.Ceil(math.Log10(r.max))) + 1
	var all []float64
	for e := low; e <= high; e++ {
		for _, s := range steps {
			all = append(all, s*power(e))
		}
	}
	first, last := 0, len(all)-1
	for all[first+1] <= r.min {
		first++
	}
	for all[last-1] >= r.max {
		last--
	}
	for last < first+len(steps) {
		last++
	}
	all = all[first : last+1]
	a := axis{from: all[0], to: all[len(all)-1]}
	few := len(all) <= 2*len(steps)+1
	for _, v := range all {
		a.ticks = append(a.ticks, tick{v, few || isPower(v)})
	}
	return a
}

// power returns 10^e, rounded once.
func power(e int) float64 {
	if e < 0 {
		return 1 / math.Pow10(-e)
	}
	return math.Pow10(e)
}

func isPower(v float64) bool { return v == power(int(math.Round(math.Log10(v)))) }

// at returns the part of the axis that lies before v: 0 at its beginning, 1 at its end.
func (a *axis) at(v float64) float64 {
	return (math.Log10(v) - math.Log10(a.from)) / (math.Log10(a.to) - math.Log10(a.from))
}

// label writes a number as on a tick: "0.05", "10,000", "1M".
func label(v float64) string {
	if v >= 1e6 {
		return strconv.FormatFloat(v/1e6, 'f', -1, 64) + "M"
	}
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if v < 1000 {
		return s
	}
	whole, rest, _ := strings.Cut(s, ".")
	at := len(whole) - 3
	return strings.TrimSuffix(whole[:at]+","+whole[at:]+"."+rest, ".")
}
