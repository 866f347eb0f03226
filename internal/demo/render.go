package demo

import (
	"cmp"
	"fmt"
	"strings"

	"usher/internal/api"
	"usher/internal/terminal"
)

// Frame is what the view shows.
type Frame struct {
	Rows    []Row
	Load    LoadCounts
	Kept    KeptCounts
	Process api.Process
}

// Row is one backend in the view.
type Row struct {
	Name, Address string
	Status        string  // "up", "down", …
	Active        int64   // flows now
	Rate          float64 // new flows a second
	Total         uint64  // flows since the start
}

// Look is how a frame is drawn.
type Look struct {
	HasColour bool
	IsUTF8    bool
	Keys      string // what they do; empty: there are none
}

const (
	// barWidth is the longest bar, in cells. A cell is one active flow, or more if a
	// backend has more than fit.
	barWidth = 24
	// narrow is the width in cells below which rows have no more than ports as addresses.
	narrow = 72
)

// render draws a frame for a screen of some width: a line for each backend in aligned
// columns, and below them how the clients fare.
func (l *Look) render(f *Frame, width int) []string {
	rows := make([][]string, len(f.Rows))
	var widths [6]int
	for i, r := range f.Rows {
		address := r.Address
		if width < narrow {
			address = address[strings.LastIndexByte(address, ':')+1:]
		}
		rows[i] = []string{
			r.Name, address, r.Status, fmt.Sprintf("%d active", r.Active), fmt.Sprintf("%.0f/s", r.Rate),
			fmt.Sprintf("%d total", r.Total),
		}
		for j, text := range rows[i] {
			widths[j] = max(widths[j], len(text))
		}
	}
	room := width - 1
	for _, w := range widths {
		room -= w + 2
	}
	lines := make([]string, 0, len(rows)+4)
	for i, row := range rows {
		line := ""
		for j, text := range row {
			cell := fmt.Sprintf("%*s", widths[j], text)
			if j < 3 { // words stand on the left, numbers on the right
				cell = fmt.Sprintf("%-*s", widths[j], text)
			}
			if j == 2 {
				cell = l.paint(cell, colourOf(text))
			}
			line += "  " + cell
		}
		lines = append(lines, line+l.bar(f.Rows[i], mostActive(f.Rows), min(barWidth, room-2)))
	}
	return append(lines, l.renderClients(f)...)
}

// renderClients draws what stands below the backends.
func (l *Look) renderClients(f *Frame) []string {
	colour := terminal.Green
	if f.failed() > 0 {
		colour = terminal.Red
	}
	counts := strings.Replace(f.count(), fmt.Sprintf("failed clients: %d", f.failed()), l.paint(fmt.Sprintf("failed clients: %d", f.failed()), colour), 1)
	lines := []string{"  " + counts, "  " + f.keeps()}
	if p := f.Process; p.PID != 0 {
		lines = append(lines, fmt.Sprintf("  usher %s, pid %d, engine %s, upgrades: %d", p.Version, p.PID, p.Engine, p.Upgrades))
	}
	if l.Keys != "" {
		lines = append(lines, "  "+l.Keys)
	}
	return lines
}

// bar draws the active flows of a row, where a whole bar of some cells is most of them.
func (l *Look) bar(r Row, most int64, cells int) string {
	if r.Active <= 0 || cells <= 0 {
		return ""
	}
	block := "#"
	if l.IsUTF8 {
		block = "█"
	}
	most = max(most, int64(cells))
	// Rounded up, so that a single flow has a cell.
	return "  " + l.paint(strings.Repeat(block, int((r.Active*int64(cells)+most-1)/most)), colourOf(r.Status))
}

func mostActive(rows []Row) int64 {
	most := int64(0)
	for _, r := range rows {
		most = max(most, r.Active)
	}
	return most
}

func (l *Look) paint(text, colour string) string {
	if !l.HasColour {
		return text
	}
	return colour + text + terminal.Normal
}

func colourOf(status string) string {
	switch status {
	case "up":
		return terminal.Green
	case "down":
		return terminal.Red
	}
	return terminal.Yellow
}

// summarize formats a frame for logs and pipes.
func summarize(f *Frame) []string {
	parts := make([]string, len(f.Rows))
	for i, r := range f.Rows {
		parts[i] = fmt.Sprintf("%s %s, %d active, %d total", r.Name, cmp.Or(r.Status, "unknown"), r.Active, r.Total)
	}
	return []string{strings.Join(parts, "; "), f.count() + "; " + f.keeps()}
}
