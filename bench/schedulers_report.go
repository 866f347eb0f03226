package main

import (
	"fmt"
	"strings"
	"time"

	"gonum.org/v1/plot/plotter"
)

// files are the results of the study: the text and two drawings.
func (r *schedulersResults) files(o studyOptions) ([]result, error) {
	var b strings.Builder
	writeStudyHead(&b, "Cost of a choice and of a table", o)
	fmt.Fprintf(&b, "\nMedian of %s, each of which measures all subjects once, for about %s, in another order. "+
		"A ratio is taken within each round. Absolute times mean little: they are those of this machine at that time. "+
		"Compare figures along a row, and rows with each other.\n", count(o.rounds, "round"), o.slot)
	r.writeChoices(&b)
	r.writeBuilds(&b)
	r.writeStalls(&b, o)

	cost, err := drawn("scheduler-cost.svg", r.costFigure())
	if err != nil {
		return nil, err
	}
	build, err := drawn("table-build.svg", r.buildFigure())
	if err != nil {
		return nil, err
	}
	return []result{{"schedulers.md", []byte(b.String())}, cost, build}, nil
}

// rows are the names of the subjects, the scans last.
func (r *schedulersResults) rows() []string {
	var names []string
	for _, a := range r.schedulers {
		names = append(names, a.Name)
	}
	return append(names, scanName, packedName)
}

func (r *schedulersResults) writeChoices(b *strings.Builder) {
	fmt.Fprintf(b, "\n## Time of a choice\n\n"+
		"One flow ends and another one begins: a release, and an acquire that picks and reserves in one step. "+
		"Each backend has %d flows on average, weights are %d to %d, each flow is of a new client, and asks for one of %s destinations. "+
		"A row grows with the schedulers' own steps, and with memory: of more backends fewer are in the nearest cache.\n\n"+
		"%s is least connections by looking at all backends in turn, and %s the same with nothing but their counts, side by side in memory. "+
		"Unlike the schedulers, neither keeps concurrent choices from taking the same backend.\n\n"+
		"![time of a choice](scheduler-cost.svg)\n",
		heldEach, heldEach+1, heldEach+3, grouped(destinations), scanName, packedName)

	last := r.sizes[len(r.sizes)-1]
	growth := fmt.Sprintf("%s / %s", grouped(last), grouped(r.baseSize))
	fmt.Fprintf(b, "\n### In relation to %s among %s\n\n", base, grouped(r.baseSize))
	rows := [][]string{sizesHead("backends", r.sizes, growth)}
	for _, name := range r.rows() {
		row := []string{name}
		for _, n := range r.sizes {
			row = append(row, spreadOf(r.choices.over(name, n, base, r.baseSize)).middle())
		}
		rows = append(rows, append(row, spreadOf(r.choices.over(name, last, name, r.baseSize)).String()))
	}
	writeTable(b, 1, rows)

	fmt.Fprintf(b, "\n### In nanoseconds\n\n")
	rows = [][]string{sizesHead("backends", r.sizes)}
	for _, name := range r.rows() {
		row := []string{name}
		for _, n := range r.sizes {
			row = append(row, spreadOf(r.choices.of(name, n)).middle())
		}
		rows = append(rows, row)
	}
	writeTable(b, 1, rows)
}

func (r *schedulersResults) writeBuilds(b *strings.Builder) {
	fmt.Fprintf(b, "\n## Time of a change of weight\n\n"+
		"Milliseconds from the call that changes the weight of one backend until choices follow it: median (min–max). "+
		"The whole table is built anew. %s has no table: its row is the pool's own part of all of them. "+
		"@100 is with weights of 100 instead of 1. The drawing has a line at %.0f ms, the limit of mh for %s backends.\n\n"+
		"![time of a change of weight](table-build.svg)\n\n", noTable, r.tableLimit, grouped(r.limitedSize))
	rows := [][]string{sizesHead("backends", r.tableSizes)}
	for _, f := range r.tableForms {
		row := []string{f.name()}
		for _, n := range r.tableSizes {
			row = append(row, spreadOf(milliseconds(r.builds.of(f.name(), n))).format(fine))
		}
		rows = append(rows, row)
	}
	writeTable(b, 1, rows)

	fmt.Fprintf(b, "\n## Memory of a table\n\nKiB on the heap beyond a pool of %s with the same backends.\n\n", noTable)
	rows = [][]string{sizesHead("backends", r.tableSizes)}
	for _, f := range r.tableForms {
		if f.scheduler == noTable {
			continue
		}
		row := []string{f.name()}
		for _, n := range r.tableSizes {
			row = append(row, number(r.bytes[timingKey{f.name(), n}]/1024))
		}
		rows = append(rows, row)
	}
	writeTable(b, 1, rows)
}

func milliseconds(ns []float64) []float64 {
	ms := make([]float64, len(ns))
	for i, v := range ns {
		ms[i] = v / 1e6
	}
	return ms
}

func (r *schedulersResults) writeStalls(b *strings.Builder, o studyOptions) {
	fmt.Fprintf(b, "\n## Choices while weights change\n\n"+
		"One goroutine chooses among %s backends and releases at once, and times each choice, two reads of the clock included. "+
		"Another one changes a weight without a pause, for %s in each of %s. "+
		"Where the weights are those of another pool, it takes as much of the processor, of the caches and of the garbage collector, "+
		"but no choice can wait for it: the machine causes what is longer there than with no change.\n\n"+
		"If choices waited for a table, each change would delay one of them for about its own time. "+
		"The last column counts the choices that took half as long as a change of this pool, or longer: "+
		"about as many as changes if choices waited for them.\n\n",
		grouped(r.stallAmong), stallSlots*o.slot, count(o.rounds, "round"))
	rows := [][]string{{
		"scheduler", "meanwhile", "choices", "p50 ns", "p99 ns", "p99.9 µs", "p99.99 µs", "longest µs",
		"changes", "ms each", "choices of half a change",
	}}
	for i := range r.stalls {
		s := &r.stalls[i]
		half := max(time.Duration(spreadOf(r.changesHere(s.form)).median/2), slowFrom)
		each := none
		if len(s.updates) > 0 {
			each = spreadOf(milliseconds(nanoseconds(s.updates))).middle()
		}
		quantile := func(q, unit float64) string { return number(float64(s.choices.ValueAtQuantile(q)) / unit) }
		rows = append(rows, []string{
			s.form, s.beside.String(), grouped(int(s.choices.TotalCount())),
			quantile(50, 1), quantile(99, 1), quantile(99.9, 1e3), quantile(99.99, 1e3), number(float64(s.choices.Max()) / 1e3),
			grouped(len(s.updates)), each,
			grouped(s.longerThan(half)),
		})
	}
	writeTable(b, 2, rows)
}

// changesHere is how long the changes of a pool took, in nanoseconds, while choices
// were timed on it.
func (r *schedulersResults) changesHere(form string) []float64 {
	for i := range r.stalls {
		if s := &r.stalls[i]; s.form == form && s.beside == here {
			return nanoseconds(s.updates)
		}
	}
	return nil
}

func nanoseconds(list []time.Duration) []float64 {
	ns := make([]float64, len(list))
	for i, d := range list {
		ns[i] = float64(d)
	}
	return ns
}

func (r *schedulersResults) costFigure() figure {
	costOf := func(name string, isReference bool) line {
		l := line{name: name, isReference: isReference}
		for _, n := range r.sizes {
			l.points = append(l.points, plotter.XY{X: float64(n), Y: spreadOf(r.choices.over(name, n, base, r.baseSize)).median})
		}
		return l
	}
	f := figure{
		x:       "backends",
		y:       fmt.Sprintf("time, %s among %s is 1", base, grouped(r.baseSize)),
		columns: 2,
	}
	for _, family := range families {
		p := panel{title: family.title}
		for _, a := range r.schedulers {
			if family.has(a) {
				p.lines = append(p.lines, costOf(a.Name, false))
			}
		}
		p.lines = append(p.lines, costOf(scanName, true), costOf(packedName, true))
		f.panels = append(f.panels, p)
	}
	return f
}

func (r *schedulersResults) buildFigure() figure {
	p := panel{title: "from the call until choices follow it"}
	for _, f := range r.tableForms {
		l := line{name: f.name()}
		for _, n := range r.tableSizes {
			l.points = append(l.points, plotter.XY{X: float64(n), Y: spreadOf(r.builds.of(f.name(), n)).median / 1e6})
		}
		p.lines = append(p.lines, l)
	}
	least, most := float64(r.tableSizes[0]), float64(r.tableSizes[len(r.tableSizes)-1])
	p.lines = append(p.lines, line{
		name: fmt.Sprintf("%.0f ms", r.tableLimit), isReference: true,
		points: plotter.XYs{{X: least, Y: r.tableLimit}, {X: most, Y: r.tableLimit}},
	})
	return figure{x: "backends", y: "milliseconds", panels: []panel{p}}
}
