package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// page is a file of results, read back: what its head says and its tables.
type page struct {
	name   string
	facts  map[string]string // of the list below the title
	rounds string            // "5 rounds" with a hard space, of the first sentence that says it
	tables []table
}

// table is one of a page. Its first row is the head, the first cell of a row its name.
type table struct {
	section string // the nearest heading above
	rows    [][]string
}

// cell is a figure of a table, and where its range ends if the table says so. A cell with
// one figure in brackets has both ends there.
type cell struct {
	isThere         bool
	text            string // the figure as it is written
	value, from, to float64
}

var (
	headingLine = regexp.MustCompile(`^#+ (.+)$`)
	factLine    = regexp.MustCompile(`^- ([^:]+): (.+)$`)
	roundsWords = regexp.MustCompile(`\b\d+ rounds?\b`)
	figureCell  = regexp.MustCompile(`^([\d.,e+-]+)(?: [(\[]([\d.,e+-]+)(?:–([\d.,e+-]+))?[)\]])?$`)
)

func parsePage(name, text string) *page {
	p := &page{name: name, facts: make(map[string]string)}
	section, isTable := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "|") {
			isTable = false
			if m := headingLine.FindStringSubmatch(line); m != nil {
				section = m[1]
			} else if m := factLine.FindStringSubmatch(line); m != nil && len(p.tables) == 0 {
				p.facts[m[1]] = m[2]
			} else if p.rounds == "" {
				p.rounds = strings.ReplaceAll(roundsWords.FindString(line), " ", "\u00a0")
			}
			continue
		}
		if strings.Trim(line, "|-: ") == "" && isTable { // below the head, or a row of nothing
			continue
		}
		if !isTable {
			p.tables, isTable = append(p.tables, table{section: section}), true
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		t := &p.tables[len(p.tables)-1]
		t.rows = append(t.rows, cells)
	}
	return p
}

// parseCell reads a cell. None says that there is no figure.
func parseCell(text string) (cell, error) {
	if text == none || text == "" {
		return cell{}, nil
	}
	m := figureCell.FindStringSubmatch(text)
	if m == nil {
		return cell{}, fmt.Errorf("%q is not a figure", text)
	}
	c := cell{isThere: true, text: m[1]}
	var err error
	if c.value, err = parseFigure(m[1]); err != nil {
		return cell{}, err
	}
	c.from, c.to = c.value, c.value
	if m[2] != "" {
		if c.from, err = parseFigure(m[2]); err != nil {
			return cell{}, err
		}
		c.to = c.from
	}
	if m[3] != "" {
		c.to, err = parseFigure(m[3])
	}
	return c, err
}

func parseFigure(s string) (float64, error) {
	return strconv.ParseFloat(strings.ReplaceAll(s, ",", ""), 64)
}

// reader reads figures of pages. It keeps the first error, so a picture may ask for all its
// figures and let the error be looked at once.
type reader struct {
	pages map[string]*page
	err   error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// claim holds what a title says to the figures.
func (r *reader) claim(isSo bool, what string) {
	if !isSo {
		r.fail("the results no longer say that %s", what)
	}
}

// fitted gives charts the same axes, which show all of their points.
func (r *reader) fitted(charts ...*chart) {
	if r.err == nil {
		r.err = fit(charts)
	}
}

func (r *reader) page(name string) *page {
	if p := r.pages[name]; p != nil {
		return p
	}
	r.fail("there is no page %s", name)
	return new(page)
}

// table returns the n-th table of a section.
func (r *reader) table(name, section string, n int) *table {
	p := r.page(name)
	for i := range p.tables {
		if p.tables[i].section != section {
			continue
		}
		if n == 0 {
			return &p.tables[i]
		}
		n--
	}
	r.fail("%s has no such table below %q", name, section)
	return new(table)
}

// cell is the figure in a row and a column, by their names.
func (r *reader) cell(t *table, row, column string) cell {
	if len(t.rows) == 0 {
		r.fail("no table has a row %q and a column %q", row, column)
		return cell{}
	}
	x := slices.Index(t.rows[0], column)
	y := slices.IndexFunc(t.rows, func(cells []string) bool { return cells[0] == row })
	if x < 0 || y < 0 || x >= len(t.rows[y]) {
		r.fail("the table of %q has no row %q with a column %q", t.section, row, column)
		return cell{}
	}
	got, err := parseCell(t.rows[y][x])
	if err != nil {
		r.fail("the table of %q, row %q, column %q: %w", t.section, row, column, err)
	}
	return got
}

// across returns a point for each column whose head is a number, from the row of that name.
func (r *reader) across(t *table, row string) (points []point) {
	if len(t.rows) == 0 {
		return nil
	}
	for _, head := range t.rows[0] {
		if x, err := parseFigure(head); err == nil {
			points = append(points, point{x, r.cell(t, row, head).value})
		}
	}
	return points
}

// down returns a point for each row whose name is a number, with what figure takes of the
// column of that name.
func (r *reader) down(t *table, column string, figure func(cell) float64) (points []point) {
	for _, cells := range t.rows[min(1, len(t.rows)):] {
		if x, err := parseFigure(cells[0]); err == nil {
			points = append(points, point{x, figure(r.cell(t, cells[0], column))})
		}
	}
	return points
}

// has says whether the table has a row of that name.
func (t *table) has(row string) bool {
	return slices.ContainsFunc(t.rows, func(cells []string) bool { return cells[0] == row })
}

// names are those of all rows but the head.
func (t *table) names() (names []string) {
	for _, cells := range t.rows[min(1, len(t.rows)):] {
		names = append(names, cells[0])
	}
	return names
}
