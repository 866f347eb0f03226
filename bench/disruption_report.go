package main

import (
	"fmt"
	"slices"
	"strings"
)

// text is the page of the study.
func (r *disruptionResults) text(o studyOptions) []byte {
	var b strings.Builder
	writeStudyHead(&b, "Clients that move when backends change", o)
	fmt.Fprintf(&b, "\nShares of clients are counted, not measured: they are the same on every machine. "+
		"Clients are %s addresses drawn from all of IPv4, %s for the spread, always the same ones; each is hashed by its address. "+
		"All backends have weight 1, with @100 weight 100, which gives a ring more points. "+
		"With ipvs the hash is the kernel's own, in a table of its size: 4,093 slots of mh, 256 of sh, filled in the order of the list.\n",
		grouped(r.movers), grouped(r.spreaders))
	for c := range changes {
		r.writeMoves(&b, c)
	}
	r.writeEvenness(&b)
	r.writeTables(&b, o)
	return []byte(b.String())
}

// bySize writes a table with a row for each number of backends and a column for each
// form. Columns of before precede those.
func (r *disruptionResults) bySize(b *strings.Builder, forms []form, head []string, row func(n int) []string, cell func(timingKey) string) {
	head = append([]string{"backends"}, head...)
	for _, f := range forms {
		head = append(head, f.name())
	}
	rows := [][]string{head}
	for _, n := range r.sizes {
		cells := append([]string{grouped(n)}, row(n)...)
		for _, f := range forms {
			cells = append(cells, cell(timingKey{f.name(), n}))
		}
		rows = append(rows, cells)
	}
	writeTable(b, 0, rows)
}

func nothingMore(int) []string { return nil }

// heading is that of the table of the change.
func (c change) heading() string { return "Clients that move when " + c.String() }

// spreadHeading is that of the tables of how even the load is.
const spreadHeading = "Spread of the clients"

func (r *disruptionResults) writeMoves(b *strings.Builder, c change) {
	fmt.Fprintf(b, "\n## %s\n\n", c.heading())
	if c == 0 {
		fmt.Fprintf(b, "Percent of all clients, and in parentheses percent of all that move needlessly: "+
			"from one backend to another, neither of which is the one that changes. "+
			"The least is what must move for the load to follow the weights. "+
			"Mean over %d backends at most that change, one at a time. The only backend has no others to move to.\n\n"+
			"![clients that move](disruption.svg)\n\n", r.trials)
	}
	r.bySize(b, r.forms, []string{"least"},
		func(n int) []string {
			if c == leaves && n == 1 {
				return []string{none}
			}
			return []string{percent(c.least(n))}
		},
		func(key timingKey) string {
			m := r.moves[c][key]
			if m.trials == 0 {
				return none
			}
			return fmt.Sprintf("%s (%s)", percent(m.moved), percent(m.needless))
		})
}

// percent formats a share. Only an exact zero is written as 0.
func percent(part float64) string { return share(100 * part) }

func (r *disruptionResults) writeEvenness(b *strings.Builder) {
	fmt.Fprintf(b, "\n## "+spreadHeading+"\n\n"+
		"Standard deviation of the clients of a backend, in percent of the mean. "+
		"Random has clients that draw their backends at random: the part of chance in all columns.\n\n"+
		"![spread of the clients](spread.svg)\n\n")
	r.bySize(b, r.forms, []string{random},
		func(n int) []string { return []string{number(100 * drawnDeviation(n, r.spreaders))} },
		func(key timingKey) string { return number(100 * r.evenness[key].deviation) })

	fmt.Fprintf(b, "\nClients of the backend that has the most, over the mean; in brackets, the number of backends without clients, if any.\n\n")
	r.bySize(b, r.forms, nil, nothingMore, func(key timingKey) string {
		e := r.evenness[key]
		if e.without > 0 {
			return fmt.Sprintf("%s [%s]", number(e.most), grouped(e.without))
		}
		return number(e.most)
	})
}

func (r *disruptionResults) writeTables(b *strings.Builder, o studyOptions) {
	fmt.Fprintf(b, "\n## Time of a change of weight\n\n"+
		"Milliseconds from the call that changes the weight of one backend until choices follow it; the table is built anew. "+
		"Median of %s. %s has no table: its column is the pool's own part of all of them. "+
		"Times are those of this machine at that time.\n\n", count(o.rounds, "round"), noTable)
	r.bySize(b, r.tableForms, nil, nothingMore, func(key timingKey) string {
		return fine(spreadOf(milliseconds(r.builds[key])).median)
	})

	fmt.Fprintf(b, "\n## Memory of a table\n\nKiB on the heap beyond a pool of %s with the same backends.\n\n", noTable)
	var tables []form
	for _, f := range r.tableForms {
		if f.scheduler != noTable {
			tables = append(tables, f)
		}
	}
	r.bySize(b, tables, nil, nothingMore, func(key timingKey) string { return number(r.bytes[key] / 1024) })
}

// random is the column of clients that draw their backends.
const random = "random"

// movesFigure shows which part of the clients move needlessly. A hash that moves none has no
// line: the note names it.
func movesFigure(r *reader) figure {
	needless := func(c cell) float64 { return c.from }
	var charts []*chart
	most, noneMove := make(map[string]cell), []string(nil)
	for c := range changes {
		t := r.table("disruption.md", c.heading(), 0)
		p := &chart{title: c.String(), tall: 190, hasLegend: true,
			x: axis{name: "backends", write: counted}, y: axis{write: percents}}
		for _, f := range disruptionStudy.forms {
			for _, n := range disruptionStudy.sizes {
				if cell := r.cell(t, grouped(n), f.name()); cell.isThere && cell.from >= most[f.name()].from {
					most[f.name()] = cell
				}
			}
			p.lines = append(p.lines, line{f.name(), lineStyle{}, r.down(t, f.name(), needless)})
		}
		charts = append(charts, p)
	}
	for _, f := range disruptionStudy.forms {
		if most[f.name()].from == 0 {
			noneMove = append(noneMove, f.scheduler)
		}
	}
	noneMove = slices.Compact(noneMove)
	f := figure{columns: 3}
	for _, p := range charts {
		p.lines = slices.DeleteFunc(p.lines, func(l line) bool { return most[l.name].from == 0 })
		for i := range p.lines {
			p.lines[i].style = marked(i)
		}
		f.panels = append(f.panels, p)
	}
	r.fitted(charts...)
	r.claim(most["mh"].from < 1 && len(noneMove) > 0 && most["sh,ipvs"].from > 90, "mh moves less than one client in a hundred needlessly")
	f.title = fmt.Sprintf("When backends change, at most %s of the clients move needlessly with mh (Maglev), none with %s; with the kernel's sh, up to %s",
		percents(most["mh"].from), strings.Join(noneMove, " or "), percents(most["sh,ipvs"].from))
	f.note = "Clients that change from one backend to another though neither changed, in percent of all. With ipvs: the hash of the kernel, in a table of its size."
	return f
}

// evennessFigure shows how far the load of a backend is from the mean.
func evennessFigure(r *reader) figure {
	const fewest = 10
	t := r.table("disruption.md", spreadHeading, 0)
	deviation := func(column string) []point {
		all := r.down(t, column, func(c cell) float64 { return c.value })
		return slices.DeleteFunc(all, func(at point) bool { return at.x < fewest })
	}
	p := &chart{title: "Standard deviation, in percent of the mean", tall: 270,
		x: axis{name: "backends", write: counted}, y: axis{write: percents}}
	p.lines = append(p.lines, line{random, underlay(), deviation(random)})
	for i, f := range disruptionStudy.forms {
		p.lines = append(p.lines, line{f.name(), marked(i), deviation(f.name())})
	}
	r.fitted(p)
	most := slices.Max(disruptionStudy.sizes)
	at := func(column string) float64 { return r.cell(t, grouped(most), column).value }
	r.claim(at("mh") < 1.1*at(random) && at("ring") > 2*at("mh") && at("hrw") > 2*at("mh"), "mh spreads clients as evenly as chance does")
	return figure{
		title: fmt.Sprintf("Over %s backends, mh spreads clients as evenly as chance: ±%s, chance ±%s, ring ±%s, hrw ±%s",
			grouped(most), percents(at("mh")), percents(at(random)), percents(at("ring")), percents(at("hrw"))),
		note:   "How far the clients of a backend are from the mean. @100: with weights of 100. With ipvs: the hash of the kernel, in a table of its size.",
		panels: []panel{p},
	}
}
