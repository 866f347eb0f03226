package main

import (
	"fmt"
	"slices"
	"strings"
)

// haproxies are the settings of HAProxy that are measured. The picture shows the better one.
var haproxies = [...]string{"haproxy", "haproxy-splice"}

// costsFigure shows what four units of work cost usher, HAProxy and nginx. Of the two
// directions of bulk it takes the one in which usher gains less.
func costsFigure(r *reader) figure {
	tcp, udp := r.page("tcp.md"), r.page("udp.md")
	f := figure{note: fmt.Sprintf("Smaller is better. CPU time, kernel included. Bars are medians of %s (%s of UDP); whiskers reach from the least to the most. HAProxy %s, nginx %s.",
		tcp.rounds, udp.rounds, release(tcp.facts["haproxy"]), release(tcp.facts["nginx"]))}
	for _, p := range []struct{ page, workload, column, unit, title string }{
		{"tcp.md", "crr", "CPU µs/conn", " µs", "CPU for a connection: open, 64 B there and back, close"},
		{"tcp.md", "bulk-down", "CPU ms/Gbit", " ms", "CPU for a Gbit from backend to client"},
		{"udp.md", "udp-128", "CPU µs/trip", " µs", "CPU for a datagram of 128 B and its reply"},
		{"tcp.md", "idle", "KiB/conn", " KiB", "Memory for an idle connection"},
	} {
		t := r.table(p.page, p.workload, 0)
		usher := bar{name: "usher", isMain: true, cell: r.cell(t, "usher", p.column)}
		haproxy := bar{name: "HAProxy", without: "(no UDP)"}
		for _, setting := range haproxies {
			if !t.has(setting) {
				continue
			}
			if got := r.cell(t, setting, p.column); !haproxy.isThere || got.value < haproxy.value {
				haproxy.cell = got
			}
		}
		rows := []bar{usher, haproxy, {name: "nginx", cell: r.cell(t, "nginx", p.column)}}
		f.panels = append(f.panels, &bars{title: p.title, unit: p.unit, rows: rows})
		if p.workload == "crr" {
			ratio := r.cell(r.table("tcp.md", "Cost of a unit of work", 0), "crr", "usher / best peer")
			f.title = fmt.Sprintf("A connection costs usher %s HAProxy or nginx; bytes, datagrams and idle connections cost it far less", comparedCPU(ratio))
			continue
		}
		isLess := !slices.ContainsFunc(rows[1:], func(peer bar) bool { return peer.isThere && usher.value > 0.7*peer.value })
		r.claim(isLess, "usher does "+p.workload+" for far less than any peer")
	}
	return f
}

// comparedCPU is what a ratio and its range say. Where they include 1, there is no difference.
func comparedCPU(ratio cell) string {
	switch {
	case ratio.to < 1:
		return "less CPU than"
	case ratio.from > 1:
		return "more CPU than"
	}
	return "as much CPU as"
}

// release is the first three numbers of a package's version.
func release(version string) string {
	end := strings.IndexFunc(version, func(c rune) bool { return c != '.' && (c < '0' || c > '9') })
	if end < 0 {
		return version
	}
	return version[:end]
}
