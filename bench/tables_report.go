package main

import (
	"fmt"
	"slices"
	"strings"
)

// tablesResults is what the study found.
type tablesResults struct {
	tablesConfig
	times timings // by the operation's name and the number of entries
}

// text is the page of the study.
func (r *tablesResults) text(o studyOptions) []byte {
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
	return []byte(b.String())
}

// wheres are those that are compared, in the order of the report.
var wheres = [...]string{inTable, inAffinity, inList, inLump}

func (r *tablesResults) write(b *strings.Builder, what, about string) {
	fmt.Fprintf(b, "\n## %s\n\n%s. In nanoseconds.\n\n", capital(what), capital(about))
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

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// tablesFigure shows each operation on the table, on affinity and on lists.
func tablesFigure(r *reader) figure {
	styles := [...]lineStyle{marked(0), marked(1), reference(0), reference(1)}
	f := figure{columns: 2}
	var charts []*chart
	for _, a := range abouts {
		t := r.table("tables.md", capital(a.what), 0)
		p := &chart{title: a.short, tall: 165, hasLegend: true, x: axis{name: "entries", write: counted}, y: axis{write: nanosecond}}
		for i, where := range wheres {
			if t.has(where) {
				p.lines = append(p.lines, line{where, styles[i], r.across(t, where)})
			}
		}
		charts, f.panels = append(charts, p), append(f.panels, p)
	}
	r.fitted(charts...)
	most := grouped(slices.Max(tableStudy.sizes))
	t := r.table("tables.md", capital(find), 0)
	table, list := r.cell(t, inTable, most).value, r.cell(t, inList, most).value
	r.claim(table < 2000 && list > 1000*table, "a table finds a flow among many at once, and a list does not")
	f.title = fmt.Sprintf("Finding one of %s flows takes %s; searching a list of them, %s", most, nanosecond(table), nanosecond(list))
	f.note = "Time of one operation, by the number of entries. Where the table grows, its entries no longer fit in the caches. Medians of " + r.page("tables.md").rounds + "."
	return f
}
