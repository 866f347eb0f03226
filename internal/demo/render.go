package demo

import (
	"fmt"
	"strings"
)

// Row is what the view shows of one backend.
type Row struct {
	Name, Address string
	Status        string // "up", "down", …
	Active        int64  // flows now
	Total         uint64 // flows since the start
}

// barWidth is the longest bar, in cells. One cell is one active flow, until
// a backend has more of them than that.
const barWidth = 24

// Select Graphic Rendition (ECMA-48, 8.3.117).
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	normal = "\x1b[m"
)

// render draws a line for each row, in aligned columns, with colours or
// without.
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
			paint = func(s string) string { return toneOf(r.Status) + s + normal }
		}
		line := fmt.Sprintf("  %-*s  %-*s  %s  %*d active  %*d total",
			name, r.Name, address, r.Address, paint(fmt.Sprintf("%-*s", status, r.Status)),
			active, r.Active, total, r.Total)
		if r.Active > 0 {
			// Rounded up: any flow at all has a cell.
			line += "  " + paint(strings.Repeat("█", int((r.Active*barWidth+scale-1)/scale)))
		}
		lines = append(lines, line)
	}
	return lines
}

func toneOf(status string) string {
	switch status {
	case "up":
		return green
	case "down":
		return red
	}
	return yellow
}

// summarize says the same on one line, for logs and pipes.
func summarize(rows []Row) string {
	parts := make([]string, len(rows))
	for i, r := range rows {
		parts[i] = fmt.Sprintf("%s %s, %d active, %d total", r.Name, r.Status, r.Active, r.Total)
	}
	return strings.Join(parts, "; ")
}
