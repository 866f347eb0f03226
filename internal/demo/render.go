package demo

import (
	"fmt"
	"strings"
)

// Row is one backend in the view.
type Row struct {
	Name, Address string
	Status        string // "up", "down", …
	Active        int64  // flows now
	Total         uint64 // flows since the start
}

// barWidth is the longest bar, in cells. A cell is one active flow, or more if a backend
// has more than fit.
const barWidth = 24

// Select Graphic Rendition (ECMA-48, 8.3.117).
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	normal = "\x1b[m"
)

// render draws a line for each row in aligned columns.
func render(rows []Row, colour bool) []string {
	var name, address, status, active, total int
	scale := int64(barWidth)
	for _, r := range rows {
		name = max(name, len(r.Name))
		address = max(address, len(r.Address))
		status = max(status, len(r.Status))
		active = max(active, len(fmt.Sprint(r.Active)))
		total = max(total, len(fmt.Sprint(r.Total)))
		scale = max(scale, r.Active)
	}
	lines := make([]string, 0, len(rows))
	for _, r := range rows {
		paint := func(s string) string { return s }
		if colour {
			paint = func(s string) string { return colourOf(r.Status) + s + normal }
		}
		line := fmt.Sprintf("  %-*s  %-*s  %s  %*d active  %*d total",
			name, r.Name, address, r.Address, paint(fmt.Sprintf("%-*s", status, r.Status)),
			active, r.Active, total, r.Total)
		if r.Active > 0 {
			// Rounded up, so that a single flow has a cell.
			line += "  " + paint(strings.Repeat("█", int((r.Active*barWidth+scale-1)/scale)))
		}
		lines = append(lines, line)
	}
	return lines
}

func colourOf(status string) string {
	switch status {
	case "up":
		return green
	case "down":
		return red
	}
	return yellow
}

// summarize formats the rows on one line, for logs and pipes.
func summarize(rows []Row) string {
	parts := make([]string, len(rows))
	for i, r := range rows {
		parts[i] = fmt.Sprintf("%s %s, %d active, %d total", r.Name, r.Status, r.Active, r.Total)
	}
	return strings.Join(parts, "; ")
}
