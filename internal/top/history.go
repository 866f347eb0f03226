package top

import (
	"strings"
	"time"

	"usher/internal/figures"
)

// maxHistory is how many rates of a row are kept, one a sample: as many as the widest line of them has cells.
const maxHistory = 60

// track is what earlier samples say of a row.
type track struct {
	counters figures.Counters
	at       time.Time
	rates    *figures.Rates // nil: one sample is too few
	flows    []float64      // rates of new flows, the last one at the end
	round    int            // in which it was last seen
}

// tracks are those of the rows of a view, by key.
type tracks struct {
	all   map[string]*track
	round int
}

// see adds the counters of a row.
func (t *tracks) see(key string, c figures.Counters, at time.Time) *track {
	one := t.all[key]
	if one == nil {
		one = &track{counters: c, at: at, round: t.round}
		t.all[key] = one
		return one
	}
	one.rates = c.Since(one.counters, at.Sub(one.at))
	one.counters, one.at, one.round = c, at, t.round
	rate := 0.0
	if one.rates != nil {
		rate = one.rates.Flows
	}
	if len(one.flows) == maxHistory {
		one.flows = append(one.flows[:0], one.flows[1:]...)
	}
	one.flows = append(one.flows, rate)
	return one
}

// next begins a round, and forgets the rows that the last one has not seen.
func (t *tracks) next() {
	for key, one := range t.all {
		if one.round != t.round {
			delete(t.all, key)
		}
	}
	t.round++
}

func newTracks() tracks { return tracks{all: make(map[string]*track)} }

// Heights of a sparkline. The first one is zero alone.
var (
	unicodeHeights = []rune("▁▂▃▄▅▆▇█")
	asciiHeights   = []rune("_.-:=+*#")
)

// sparkline draws the last rates, one a cell; the greatest of them has the full height, but at least one a second.
func sparkline(rates []float64, cells int, unicode bool) string {
	heights := asciiHeights
	if unicode {
		heights = unicodeHeights
	}
	if len(rates) > cells {
		rates = rates[len(rates)-cells:]
	}
	most := 1.0
	for _, r := range rates {
		most = max(most, r)
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", cells-len(rates)))
	for _, r := range rates {
		height := 0
		if r > 0 {
			height = max(1, int(r/most*float64(len(heights)-1)+0.5))
		}
		b.WriteRune(heights[height])
	}
	return b.String()
}
