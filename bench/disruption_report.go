package main

import (
	"fmt"
	"strings"

	"gonum.org/v1/plot/plotter"
)

// files are the results of the study: the text and two drawings.
func (r *disruptionResults) files(o studyOptions) ([]result, error) {
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

	moves, err := drawn("disruption.svg", r.movesFigure())
	if err != nil {
		return nil, err
	}
	spread, err := drawn("spread.svg", r.evennessFigure())
	if err != nil {
		return nil, err
	}
	return []result{{"disruption.md", []byte(b.String())}, moves, spread}, nil
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

func (r *disruptionResults) writeMoves(b *strings.Builder, c change) {
	fmt.Fprintf(b, "\n## Clients that move when %s\n\n", c)
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
	fmt.Fprintf(b, "\n## Spread of the clients\n\n"+
		"Standard deviation of the clients of a backend, in percent of the mean. "+
		"Random has clients that draw their backends at random: the part of chance in all columns.\n\n"+
		"![spread of the clients](spread.svg)\n\n")
	r.bySize(b, r.forms, []string{"random"},
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

func (r *disruptionResults) lines(cell func(timingKey) float64) []line {
	var lines []line
	for _, f := range r.forms {
		l := line{name: f.name()}
		for _, n := range r.sizes {
			l.points = append(l.points, plotter.XY{X: float64(n), Y: cell(timingKey{f.name(), n})})
		}
		lines = append(lines, l)
	}
	return lines
}

func (r *disruptionResults) reference(name string, cell func(n int) float64) line {
	l := line{name: name, isReference: true}
	for _, n := range r.sizes {
		l.points = append(l.points, plotter.XY{X: float64(n), Y: cell(n)})
	}
	return l
}

func (r *disruptionResults) movesFigure() figure {
	f := figure{x: "backends before", y: "percent of all clients", columns: 2}
	for c := range changes {
		lines := r.lines(func(key timingKey) float64 { return 100 * r.moves[c][key].moved })
		f.panels = append(f.panels, panel{
			title: "when " + c.String(),
			lines: append(lines, r.reference("least", func(n int) float64 {
				if c == leaves && n == 1 {
					return 0
				}
				return 100 * c.least(n)
			})),
		})
	}
	return f
}

func (r *disruptionResults) evennessFigure() figure {
	lines := r.lines(func(key timingKey) float64 { return 100 * r.evenness[key].deviation })
	lines = append(lines, r.reference("random", func(n int) float64 { return 100 * drawnDeviation(n, r.spreaders) }))
	return figure{
		x: "backends", y: "percent of the mean",
		panels: []panel{{title: "standard deviation of a backend's clients", lines: lines}},
	}
}
