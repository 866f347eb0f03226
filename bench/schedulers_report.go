package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// changeOfWeight heads the table of how long a table takes to be built.
const changeOfWeight = "Time of a change of weight"

// text is the page of the study.
func (r *schedulersResults) text(o studyOptions) []byte {
	var b strings.Builder
	writeStudyHead(&b, "Cost of a choice and of a table", o)
	fmt.Fprintf(&b, "\nMedian of %s, each of which measures all subjects once, for about %s, in another order. "+
		"A ratio is taken within each round. Absolute times mean little: they are those of this machine at that time. "+
		"Compare figures along a row, and rows with each other.\n", count(o.rounds, "round"), o.slot)
	r.writeChoices(&b)
	r.writeBuilds(&b)
	r.writeStalls(&b, o)
	return []byte(b.String())
}

// rows are the names of the subjects, the scans last.
func (r *schedulersResults) rows() []string {
	var names []string
	for _, a := range r.schedulers {
		names = append(names, a.Name)
	}
	return append(names, scanName, packedName)
}

// relation heads the table of choices in which the base among that many backends is 1.
func relation(among int) string {
	return fmt.Sprintf("In relation to %s among %s", base, grouped(among))
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
	fmt.Fprintf(b, "\n### %s\n\n", relation(r.baseSize))
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
	fmt.Fprintf(b, "\n## "+changeOfWeight+"\n\n"+
		"Milliseconds from the call that changes the weight of one backend until choices follow it: median (min–max). "+
		"The whole table is built anew. %s has no table: its row is the pool's own part of all of them. "+
		"@100 is with weights of 100 instead of 1.\n\n"+
		"![time of a change of weight](table-build.svg)\n\n", noTable)
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

// choicesFigure shows how a choice takes longer among more backends: the range of all
// schedulers, a few of them, and the search through a list.
func choicesFigure(r *reader) figure {
	small, large := grouped(schedulerStudy.baseSize), grouped(slices.Max(schedulerStudy.sizes))
	t := r.table("schedulers.md", relation(schedulerStudy.baseSize), 0)
	isScan := func(name string) bool { return name == scanName || name == packedName }
	schedulers := slices.DeleteFunc(t.names(), isScan)
	cost := func(name string) float64 { return r.cell(t, name, large).value }
	slices.SortStableFunc(schedulers, func(a, b string) int { return cmp.Compare(cost(a), cost(b)) })
	if len(schedulers) == 0 {
		r.fail("no schedulers")
		return figure{}
	}
	cheapest, dearest := schedulers[0], schedulers[len(schedulers)-1]
	p := &chart{title: fmt.Sprintf("Time of a choice; %s among %s backends is 1×", base, small), tall: 250,
		x: axis{name: "backends", write: counted}, y: axis{write: timesAsMuch}}
	p.lines = []line{
		{"a look at all", reference(0), r.across(t, scanName)}, {"packed", reference(1), r.across(t, packedName)},
		{dearest + ", the slowest", marked(1), r.across(t, dearest)}, {"lc", marked(2), r.across(t, "lc")},
		{"mh", marked(3), r.across(t, "mh")}, {cheapest + ", the fastest", marked(0), r.across(t, cheapest)},
	}
	for _, name := range schedulers {
		for i, at := range r.across(t, name) {
			if i == len(p.band) {
				p.band = append(p.band, bandPoint{at.x, at.y, at.y})
			}
			b := &p.band[i]
			b.from, b.to = min(b.from, at.y), max(b.to, at.y)
		}
	}
	growth, scans := 0.0, r.cell(t, packedName, large+" / "+small).value
	for _, name := range schedulers {
		growth = max(growth, r.cell(t, name, large+" / "+small).value)
	}
	r.claim(growth < 5 && scans > 100, "a choice hardly grows with the backends, and a scan does")
	r.fitted(p)
	return figure{
		title:  fmt.Sprintf("A choice among %s backends takes at most %s times as long as among %s; a look at every backend takes %s times or more", large, significant(growth), small, significant(scans)),
		note:   fmt.Sprintf("Shaded: all %d schedulers. Dashed: least connections by a look at every backend; packed: at their counts alone, side by side in memory. Medians of %s.", len(schedulers), r.page("schedulers.md").rounds),
		panels: []panel{p},
	}
}

// buildsFigure shows how long the table of a pool takes to follow a change.
func buildsFigure(r *reader) figure {
	const among = 1000
	t := r.table("schedulers.md", changeOfWeight, 0)
	p := &chart{title: "From the call until choices follow it", tall: 250,
		x: axis{name: "backends", write: counted}, y: axis{write: millisecond}}
	var slowest form
	for i, f := range tableForms {
		l := line{f.name(), reference(0), r.across(t, f.name())}
		if f.name() == noTable {
			l.name += ", no table"
		} else {
			l.style = marked(i - 1)
		}
		p.lines = append(p.lines, l)
		if slowest.scheduler == "" || r.cell(t, f.name(), grouped(among)).value > r.cell(t, slowest.name(), grouped(among)).value {
			slowest = f
		}
	}
	mh, most := r.cell(t, "mh", grouped(among)).value, r.cell(t, slowest.name(), grouped(among)).value
	r.claim(mh < 20 && most < 100, "a change of weight takes effect in milliseconds")
	r.fitted(p)
	return figure{
		title:  fmt.Sprintf("With %s backends, choices follow a change of weight after %s (mh), after %s at most (%s)", grouped(among), millisecond(mh), millisecond(most), slowest.name()),
		note:   "The whole table is built anew. @100: with weights of 100, not 1. Medians of " + r.page("schedulers.md").rounds + ".",
		panels: []panel{p},
	}
}
