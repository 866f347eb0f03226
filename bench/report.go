package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"usher/bench/load"
)

// setup is how and where the results were made.
type setup struct {
	machine  string
	kernel   string
	compiler string // Go's version
	date     string
	proxies  []string // one line each: name and version
	skipped  []string // one line each: name and why
	notes    []string // one line each: other facts for the reader
	files    uint64   // limit of descriptors
	user     string   // that the proxies ran as
	command  string
	rounds   int
	duration time.Duration
}

// writeReport writes everything as Markdown.
func writeReport(w io.Writer, s setup, r *results) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# usher beside its peers\n\n")
	fmt.Fprintf(&b, "- command: `%s`\n", s.command)
	fmt.Fprintf(&b, "- machine: %s\n- kernel: %s\n- Go: %s\n- date: %s\n", s.machine, s.kernel, s.compiler, s.date)
	for _, line := range s.proxies {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, line := range s.skipped {
		fmt.Fprintf(&b, "- skipped: %s\n", line)
	}
	for _, line := range s.notes {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "- proxies run as %s, limit of descriptors %d\n", s.user, s.files)
	fmt.Fprintf(&b, "\nThe proxy has one CPU, clients and backends share another. "+
		"Median (min–max) of %s of %s, proxies interleaved. "+
		"A ratio is taken within each round.\n", count(s.rounds, "round"), s.duration)

	if idle, all := r.unsaturated(); idle > 0 {
		fmt.Fprintf(&b, "\nIn %d of %d runs neither the proxy nor the load used its whole CPU (%d %%): "+
			"the machine had other work to do.\n", idle, all, saturated)
	}

	writeSummary(&b, r)
	for i := range r.workloads {
		writeWorkload(&b, r, &r.workloads[i])
	}
	if len(r.failures) > 0 {
		fmt.Fprintf(&b, "\n## Runs that failed\n\n")
		for _, f := range r.failures {
			fmt.Fprintf(&b, "- %s\n", f)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeSummary writes the cost of a unit of work for each proxy. For proxies that are
// not peers it adds the comparison.
func writeSummary(b *strings.Builder, r *results) {
	head := []string{"work", "unit"}
	head = append(head, r.proxies...)
	own := slices.DeleteFunc(slices.Clone(r.proxies), func(p string) bool { return slices.Contains(peers, p) })
	for _, p := range own {
		head = append(head, p+" / best peer", "p")
	}
	rows := [][]string{head}
	for _, w := range r.workloads {
		row := []string{w.name, w.cost}
		for _, p := range r.proxies {
			row = append(row, spreadOf(r.values(w.name, p, costOf)).middle())
		}
		for _, p := range own {
			own := r.values(w.name, p, costOf)
			row = append(row, spreadOf(r.ratios(w.name, p)).String(), significance(own, r.bestPeer(w.name)))
		}
		rows = append(rows, row)
	}
	fmt.Fprintf(b, "\n## Cost of a unit of work\n\nCPU time (user and kernel), or memory of its own. "+
		"p is how likely chance alone makes the costs differ as much from those of the peer with the lowest median "+
		"(Mann-Whitney); below 0.05 the difference is real. It needs four rounds.\n\n")
	writeTable(b, 2, rows)
}

func writeWorkload(b *strings.Builder, r *results, w *workload) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n", w.name, strings.ToUpper(w.about[:1])+w.about[1:])
	if w.isMemory() {
		rows := [][]string{{"proxy", w.cost}}
		for _, p := range r.proxies {
			rows = append(rows, []string{p, spreadOf(r.values(w.name, p, costOf)).String()})
		}
		writeTable(b, 1, rows)
		return
	}
	udp := w.network() == "udp"
	failed := "errors"
	if udp {
		failed = "lost %"
		fmt.Fprintf(b, "A request without a reply is lost; it is sent again after %s.\n\n", load.Patience)
	}
	rows := [][]string{{"proxy", w.rate, "p50 µs", "p99 µs", "CPU " + w.cost, "user", "sys", "proxy busy %", "load busy %", failed}}
	for _, p := range r.proxies {
		all := func(figure func(measurement) float64) spread { return spreadOf(r.values(w.name, p, figure)) }
		p50, p99 := none, none
		if !w.load.Kind.IsBulk() {
			p50 = all(func(m measurement) float64 { return m.p50 }).middle()
			p99 = all(func(m measurement) float64 { return m.p99 }).middle()
		}
		failed := fmt.Sprint(r.errors(w.name, p))
		if udp {
			failed = all(func(m measurement) float64 { return m.lost }).format(share)
		}
		rows = append(rows, []string{
			p,
			all(func(m measurement) float64 { return m.rate }).String(),
			p50, p99,
			all(costOf).String(),
			all(func(m measurement) float64 { return m.user }).middle(),
			all(func(m measurement) float64 { return m.sys }).middle(),
			all(func(m measurement) float64 { return m.proxyBusy }).middle(),
			all(func(m measurement) float64 { return m.loadBusy }).middle(),
			failed,
		})
	}
	writeTable(b, 1, rows)
}

func costOf(m measurement) float64 { return m.cost }

// writeTable writes rows as a Markdown table that is also readable as plain text. The
// first row is the head. The first text columns are left-aligned, the others
// right-aligned.
func writeTable(b *strings.Builder, text int, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell), 3)
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i < text {
				cell += pad
			} else {
				cell = pad + cell
			}
			fmt.Fprintf(b, "| %s ", cell)
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i := range row {
			if i < text {
				fmt.Fprintf(b, "|%s", strings.Repeat("-", width[i]+2))
			} else {
				fmt.Fprintf(b, "|%s:", strings.Repeat("-", width[i]+1))
			}
		}
		b.WriteString("|\n")
	}
}

// count writes "1 round" or "5 rounds".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
