package top

import (
	"cmp"
	"slices"
	"strings"

	"usher/internal/terminal"
)

// place is a column on the screen.
type place struct {
	*column
	index int // among all columns of the view
	cells int
}

// maxTrend is how wide a sparkline becomes at most.
const maxTrend = 30

// layout chooses the columns that fit into a width, and how wide each one is. Rows are those on the screen.
func layout(columns []column, rows []*row, width int) []place {
	var places []place
	total := -1
	for i := range columns {
		places = append(places, place{&columns[i], i, columns[i].width})
		total += columns[i].width + 1
	}
	for total > width {
		last := slices.MaxFunc(places, func(a, b place) int { return cmp.Compare(a.drop, b.drop) })
		if last.drop == 0 {
			return places // what is too long is cut
		}
		places = slices.DeleteFunc(places, func(p place) bool { return p.index == last.index })
		total -= last.width + 1
	}
	left := width - total
	for i := range places {
		p := &places[i]
		if !p.grows {
			continue
		}
		wish := p.width
		for j := range rows {
			wish = max(wish, terminal.Width(terminal.Printable(p.text(rows[j]))))
		}
		more := min(left, wish-p.width)
		p.cells += more
		left -= more
	}
	for i := range places {
		if p := &places[i]; p.isTrend() {
			p.cells += min(left, maxTrend-p.width)
		}
	}
	return places
}

// layoutWithout is layout without one of the columns.
func layoutWithout(columns []column, name string, rows []*row, width int) []place {
	places := layout(columns, rows, width+1+columnNamed(columns, name).width)
	return slices.DeleteFunc(places, func(p place) bool { return p.name == name })
}

func columnNamed(columns []column, name string) *column {
	return &columns[slices.IndexFunc(columns, func(c column) bool { return c.name == name })]
}

// order sorts rows by a column. Numbers come in descending order, unless they are reversed; texts the other way round.
func order(rows []*row, c *column, isReversed bool) {
	slices.SortStableFunc(rows, func(a, b *row) int {
		var n int
		if c.isNumber() {
			n = cmp.Compare(c.value(b), c.value(a))
		} else {
			n = compareNaturally(c.text(a), c.text(b))
		}
		if isReversed {
			n = -n
		}
		return n
	})
}

// compareNaturally compares texts, and the numbers in them by their values: 10.0.0.9 comes before 10.0.0.10.
func compareNaturally(a, b string) int {
	for a != "" && b != "" {
		x, y := numberAt(a), numberAt(b)
		if x == 0 || y == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		m, n := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
		if c := cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n)); c != 0 {
			return c
		}
		a, b = a[x:], b[y:]
	}
	return cmp.Compare(len(a), len(b))
}

// numberAt is how many digits a text begins with.
func numberAt(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
