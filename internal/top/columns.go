package top

import (
	"fmt"
	"strings"
	"time"

	"usher/internal/api"
	"usher/internal/figures"
	"usher/internal/terminal"
)

// row is a line of the list: a service, a backend or a flow.
type row struct {
	key     string
	service *api.Service
	backend *api.Backend
	flow    *api.Flow
	track   *track
	at      time.Time // of the sample
}

// column is a column of a view.
type column struct {
	name  string
	width int // in cells, at least
	drop  int // on a narrow screen the column with the greatest is left out first; 0: never
	// grows has a column take the room that is left, as far as its texts are long.
	grows bool
	text  func(*row) string
	value func(*row) float64 // of a column of numbers
	// keepsEnd has a text that is too long lose its beginning: the end of an address says more.
	keepsEnd bool
	sort     string // the word by which usher sorts flows; empty: they cannot be
}

func (c *column) isNumber() bool { return c.value != nil }

// isTrend reports whether the column is a sparkline.
func (c *column) isTrend() bool { return c.text == nil && c.value == nil }

var trendColumn = column{name: "TREND", width: 5, drop: 1}

// columnsOf are the columns of each view. Together they fit into 80 cells with those that are never left out.
var columnsOf = [...][]column{
	services: {
		{name: "NAME", width: 9, grows: true, text: func(r *row) string { return r.service.Name }},
		{name: "STATUS", width: 8, text: func(r *row) string { return r.service.Status }},
		{name: "UP", width: 5, text: func(r *row) string { return fmt.Sprintf("%d/%d", r.service.BackendsUp, r.service.BackendsAll) },
			value: func(r *row) float64 { return float64(r.service.BackendsUp) }},
		{name: "SCHED", width: 5, drop: 2, text: func(r *row) string { return r.service.Scheduler }},
		count("ACTIVE", func(r *row) float64 { return float64(r.service.Active) }),
		newRate, upRate, downRate,
		count("FAILED", func(r *row) float64 { return float64(r.service.Failed) }),
		count("REFUSED", func(r *row) float64 { return refused(r.service) }),
		trendColumn,
	},
	backends: {
		{name: "ADDRESS", width: 15, grows: true, keepsEnd: true, text: func(r *row) string { return r.backend.Address }},
		{name: "STATUS", width: 7, text: func(r *row) string { return r.backend.Status }},
		{name: "SINCE", width: 6, text: func(r *row) string { return figures.Since(r.backend.Since, r.at) },
			value: func(r *row) float64 { return r.at.Sub(r.backend.Since).Seconds() }},
		{name: "WT", width: 2, text: func(r *row) string { return fmt.Sprint(r.backend.Weight) },
			value: func(r *row) float64 { return float64(r.backend.Weight) }},
		count("ACTIVE", func(r *row) float64 { return float64(r.backend.Active) }),
		newRate, upRate, downRate,
		{name: "CONN", width: 6, text: func(r *row) string { return figures.Milliseconds(r.backend.ConnectMS) },
			value: func(r *row) float64 { return r.backend.ConnectMS }},
		count("FAILED", func(r *row) float64 { return float64(r.backend.Failed) }),
		trendColumn,
		{name: "WHY", width: 16, drop: 3, grows: true, text: func(r *row) string { return r.backend.Reason }},
	},
	flows: {
		{name: "CLIENT", width: 15, grows: true, keepsEnd: true, sort: "client", text: func(r *row) string { return r.flow.Client }},
		{name: "SERVICE", width: 8, grows: true, sort: "service", text: func(r *row) string { return r.flow.Service }},
		{name: "BACKEND", width: 14, grows: true, keepsEnd: true, sort: "backend", text: func(r *row) string { return r.flow.Backend }},
		{name: "STATE", width: 11, sort: "state", text: func(r *row) string { return r.flow.State }},
		{name: "AGE", width: 6, sort: "age", text: func(r *row) string { return milliseconds(r.flow.AgeMS) },
			value: func(r *row) float64 { return float64(r.flow.AgeMS) }},
		{name: "IDLE", width: 6, sort: "idle", text: func(r *row) string { return milliseconds(r.flow.IdleMS) },
			value: func(r *row) float64 { return float64(r.flow.IdleMS) }},
		{name: "UP", width: 6, sort: "bytes-up", text: func(r *row) string { return figures.Bytes(r.flow.BytesUp) },
			value: func(r *row) float64 { return float64(r.flow.BytesUp) }},
		{name: "DOWN", width: 6, sort: "bytes-down", text: func(r *row) string { return figures.Bytes(r.flow.BytesDown) },
			value: func(r *row) float64 { return float64(r.flow.BytesDown) }},
		dropped(upRate, 4), dropped(downRate, 4),
		{name: "RTT", width: 6, drop: 5, sort: "rtt", text: func(r *row) string { return figures.Milliseconds(r.flow.RTTMS) },
			value: func(r *row) float64 { return r.flow.RTTMS }},
	},
}

// Rates of services and backends, and of flows their bytes.
var (
	newRate  = rate("NEW/S", 5, "", func(r *figures.Rates) float64 { return r.Flows })
	upRate   = rate("UP/S", 6, "B", func(r *figures.Rates) float64 { return r.Up })
	downRate = rate("DOWN/S", 6, "B", func(r *figures.Rates) float64 { return r.Down })
)

func rate(name string, width int, unit string, of func(*figures.Rates) float64) column {
	value := func(r *row) float64 {
		if r.track == nil || r.track.rates == nil {
			return 0
		}
		return of(r.track.rates)
	}
	text := func(r *row) string {
		if r.track == nil || r.track.rates == nil {
			return ""
		}
		return figures.Amount(value(r), unit)
	}
	return column{name: name, width: width, text: text, value: value}
}

// count is a column of a whole number.
func count(name string, value func(*row) float64) column {
	text := func(r *row) string {
		if n := value(r); n < 1e6 {
			return fmt.Sprintf("%.0f", n)
		}
		return figures.Amount(value(r), "")
	}
	return column{name: name, width: max(6, len(name)), text: text, value: value}
}

func dropped(c column, drop int) column {
	c.drop = drop
	return c
}

func milliseconds(n int64) string { return figures.Span(time.Duration(n) * time.Millisecond) }

// refused sums up the clients that were not let in.
func refused(s *api.Service) float64 {
	var n uint64
	for _, one := range s.Refused {
		n += one
	}
	return float64(n)
}

// cell is a row's text in a column.
func (c *column) cell(r *row, width int, look Look) string {
	if !c.isTrend() {
		text := terminal.Printable(c.text(r))
		if text == "" {
			text = "-"
		}
		if c.keepsEnd {
			text = terminal.CutStart(text, width, look.ellipsis())
		}
		return terminal.Pad(text, width, c.isNumber(), look.ellipsis())
	}
	return sparkline(r.track.flows, width, look.Unicode)
}

// fits reports whether a row has a text in one of its columns that a filter looks for, in small letters.
func (r *row) fits(columns []column, filter string) bool {
	for i := range columns {
		if c := &columns[i]; !c.isTrend() && !c.isNumber() && strings.Contains(strings.ToLower(c.text(r)), filter) {
			return true
		}
	}
	return false
}
