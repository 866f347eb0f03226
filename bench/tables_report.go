package main

import (
	"fmt"
	"strings"

	"gonum.org/v1/plot/plotter"
)

// tablesResults is what the study found.
type tablesResults struct {
	tablesConfig
	times timings // by the operation's name and the number of entries
}

// files are the results of the study: the text and a drawing.
func (r *tablesResults) files(o studyOptions) ([]result, error) {
	var b strings.Builder
	writeStudyHead(&b, "The connection table beside a list", o)
	fmt.Fprintf(&b, "\nMedian of %s, each of which measures all subjects once, for about %s, in another order. "+
		"A ratio is taken within each round. Absolute times mean little: they are this machine's, at that time. "+
		"Compare figures along a row, and rows with each other.\n\n"+
		"- table: conntrack's, which finds flows by their keys\n"+
		"- affinity: conntrack's templates, which remember the backend of a client; each step takes a lock\n"+
		"- list: flows one after the other, searched from the front, their keys side by side in memory\n\n"+
		"Clients come in an order unrelated to that of the entries. "+
		"A hash table takes as many steps among few entries as among many; what grows is the time of a step, "+
		"once the entries do not fit in the caches. "+
		"A list of more than %s is not searched in order to be changed: it takes too long.\n\n"+
		"![time of an operation](tables.svg)\n", count(o.rounds, "round"), o.slot, grouped(r.bearable))
	for _, a := range abouts {
		r.write(&b, a.what, a.about)
	}
	fmt.Fprintf(&b, "\n## Memory\n\nBytes of an entry on a 64-bit system, as conntrack states and its tests check.\n\n")
	writeTable(&b, 1, [][]string{
		{"entry of", "bytes"},
		{inTable, fmt.Sprint(tableEntryBytes)},
		{inAffinity, fmt.Sprint(affinityEntryBytes)},
	})
	drawing, err := drawn("tables.svg", r.figure())
	if err != nil {
		return nil, err
	}
	return []result{{"tables.md", []byte(b.String())}, drawing}, nil
}

// wheres are those that are compared, in the order of the report.
var wheres = [...]string{inTable, inAffinity, inList, inLump}

func (r *tablesResults) write(b *strings.Builder, what, about string) {
	fmt.Fprintf(b, "\n## %s\n\n%s. In nanoseconds.\n\n", strings.ToUpper(what[:1])+what[1:], strings.ToUpper(about[:1])+about[1:])
	least, most := r.sizes[0], r.sizes[len(r.sizes)-1]
	rows := [][]string{sizesHead("entries", r.sizes, fmt.Sprintf("%s / %s", grouped(most), grouped(least)))}
	for _, where := range wheres {
		name := operation(what, where)
		if len(r.times.of(name, least)) == 0 {
			continue
		}
		row := []string{where}
		for _, n := range r.sizes {
			row = append(row, spreadOf(r.times.of(name, n)).middle())
		}
		rows = append(rows, append(row, spreadOf(r.times.over(name, most, name, least)).String()))
	}
	row := []string{inList + " / " + inTable}
	for _, n := range r.sizes {
		row = append(row, spreadOf(r.listOver(what, n)).middle())
	}
	writeTable(b, 1, append(rows, append(row, "")))
}

// listOver returns how many times as long the list takes as the table.
func (r *tablesResults) listOver(what string, n int) []float64 {
	return r.times.over(operation(what, inList), n, operation(what, inTable), n)
}

func (r *tablesResults) figure() figure {
	f := figure{x: "entries", y: "nanoseconds", columns: 2}
	for _, a := range abouts {
		p := panel{title: a.what}
		for _, where := range wheres {
			l := line{name: where, isReference: where == inList || where == inLump}
			name := operation(a.what, where)
			for _, n := range r.sizes {
				// A row without times has a point at 0, which is left out.
				l.points = append(l.points, plotter.XY{X: float64(n), Y: spreadOf(r.times.of(name, n)).median})
			}
			if len(r.times.of(name, r.sizes[0])) > 0 {
				p.lines = append(p.lines, l)
			}
		}
		f.panels = append(f.panels, p)
	}
	return f
}
