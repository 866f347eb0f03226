package top

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"usher/internal/figures"
	"usher/internal/terminal"
)

// Lines above and below the list.
const (
	headLines = 3 // the process, the view, the names of the columns
	footLines = 2 // the selected row, the keys
)

// lateAfter is how long an answer may take until the screen says so.
const lateAfter = 3 * time.Second

// Lines returns the screen.
func (m *Model) Lines() []string {
	if m.mode == helping {
		return m.helpLines()
	}
	l := m.list()
	shown := l.rows[min(l.offset, len(l.rows)):]
	shown = shown[:min(len(shown), m.page())]
	places := m.places(shown)
	lines := []string{m.processLine(), m.viewLine(), m.headingLine(places)}
	selected := m.current()
	for _, r := range shown {
		lines = append(lines, m.rowLine(r, places, r == selected))
	}
	for len(lines) < m.height-footLines {
		lines = append(lines, "")
	}
	lines = append(lines, m.detailLine(selected), m.lastLine())
	return lines[:min(len(lines), max(m.height, 0))]
}

// places are the columns on the screen, for the rows that it shows.
func (m *Model) places(shown []*row) []place {
	columns := m.columns()
	if m.view == flows && m.scope.Service != "" {
		return layoutWithout(columns, "SERVICE", shown, m.width)
	}
	return layout(columns, shown, m.width)
}

// line cuts a text to the screen, and puts a style around it.
func (m *Model) line(style, text string) string {
	text = terminal.Cut(terminal.Printable(text), m.width, m.look.ellipsis())
	if style == "" {
		return text
	}
	return style + text + terminal.Normal
}

func (m *Model) colour(c string) string {
	if !m.look.Colour {
		return ""
	}
	return c
}

// processLine says what runs, or that it does not answer.
func (m *Model) processLine() string {
	p := &m.sample.Process
	late := time.Duration(0)
	if !m.askedAt.IsZero() {
		late = m.now.Sub(m.askedAt)
	}
	switch {
	case m.lost != "" || late > lateAfter:
		text := "usher does not answer"
		if !m.answered.IsZero() {
			text = fmt.Sprintf("usher %s has not answered for %s", p.Name, figures.Span(m.now.Sub(m.answered).Truncate(time.Second)))
		}
		text += ", asking again"
		if m.lost != "" {
			text += ": " + m.lost
		}
		return m.line(m.colour(terminal.Red)+terminal.Bold, text)
	case !m.hasSample:
		return m.line(terminal.Bold, "usher: asking")
	}
	words := []string{
		fmt.Sprintf("usher %s %s", p.Name, p.Version),
		"up " + figures.Span(m.sample.At.Sub(p.Started)),
		p.Engine + ", " + figures.Count(p.Workers, "worker"),
		fmt.Sprintf("flows %d/%d", p.Flows, p.MaxConns),
	}
	if m.cpu >= 0 {
		words = append(words, fmt.Sprintf("cpu %.0f%%", m.cpu*100))
	}
	if m.isPaused {
		words = append(words, "PAUSED")
	} else {
		words = append(words, "every "+m.interval.String())
	}
	return m.line(terminal.Bold, strings.Join(words, "  "))
}

// viewLine says what is listed, and its sum.
func (m *Model) viewLine() string {
	var words []string
	switch m.view {
	case services:
		words = append(words, fmt.Sprintf("Services: %d", len(m.sample.Services)))
		if t := m.total.all[""]; t != nil && m.isAnswer(m.sample.Question) {
			words = append(words, rateWords(t)...)
			if n := min(len(t.flows), 20); n > 0 {
				words = append(words, sparkline(t.flows, n, m.look.Unicode))
			}
		}
	case backends:
		words = append(words, "Backends of "+m.service)
		if s := m.sample.Services; m.isAnswer(m.sample.Question) && len(s) > 0 {
			words = append(words, fmt.Sprintf("%s %d/%d", s[0].Status, s[0].BackendsUp, s[0].BackendsAll),
				fmt.Sprintf("active %d", s[0].Active))
			words = append(words, rateWords(m.lists[services].tracks.all[m.service])...)
			words = append(words, s[0].Scheduler, strings.Join(s[0].Listen, ","))
		}
	default:
		text := m.scopeText()
		words = append(words, strings.ToUpper(text[:1])+text[1:])
	}
	if f := m.list().filter; f != "" && m.view != flows {
		words = append(words, fmt.Sprintf("with %q: %d", f, len(m.list().rows)))
	}
	return m.line("", strings.Join(words, "  "))
}

func rateWords(t *track) []string {
	if t == nil || t.rates == nil {
		return nil
	}
	return []string{
		"new " + figures.Amount(t.rates.Flows, "/s"), "up " + figures.Amount(t.rates.Up, "B/s"), "down " + figures.Amount(t.rates.Down, "B/s"),
	}
}

// scopeText says which flows are listed.
func (m *Model) scopeText() string {
	text := "flows"
	switch s := m.scope; {
	case s.Backend != "":
		text = fmt.Sprintf("flows of service %s at backend %s", s.Service, s.Backend)
	case s.Service != "":
		text = "flows of service " + s.Service
	case m.lists[flows].filter == "":
		text = "all flows"
	}
	if f := m.lists[flows].filter; f != "" {
		text += fmt.Sprintf(" with %q", f)
	}
	return text
}

// headingLine has the names of the columns, and an arrow behind the one that rows are sorted by.
func (m *Model) headingLine(places []place) string {
	var b strings.Builder
	l := m.list()
	for _, p := range places {
		b.WriteString(terminal.Pad(p.name, p.cells, p.isNumber(), ""))
		mark := " "
		if p.index == l.sort {
			isDown := p.isNumber() != l.isReversed
			switch {
			case m.look.Unicode && isDown:
				mark = "▼"
			case m.look.Unicode:
				mark = "▲"
			case isDown:
				mark = "v"
			default:
				mark = "^"
			}
		}
		b.WriteString(mark)
	}
	return m.line(terminal.Bold, strings.TrimRight(b.String(), " "))
}

func (m *Model) rowLine(r *row, places []place, isSelected bool) string {
	cells := make([]string, len(places))
	for i, p := range places {
		cells[i] = p.cell(r, p.cells, m.look)
	}
	if isSelected {
		return m.line(terminal.Reverse, terminal.Pad(strings.Join(cells, " "), m.width, false, ""))
	}
	text := terminal.Cut(strings.Join(cells, " "), m.width, m.look.ellipsis())
	for i, p := range places {
		if p.name == "STATUS" {
			if style := m.colour(statusColour(p.text(r))); style != "" {
				before := strings.Join(cells[:i], " ") + " "
				if rest, isWhole := strings.CutPrefix(text, before+cells[i]); isWhole {
					return before + style + cells[i] + terminal.Normal + rest
				}
			}
		}
	}
	return text
}

func statusColour(status string) string {
	switch status {
	case "up":
		return terminal.Green
	case "down":
		return terminal.Red
	case "unknown":
		return ""
	}
	return terminal.Yellow
}

// detailLine says of the selected row what has no column, or not enough room in it.
func (m *Model) detailLine(r *row) string {
	if r == nil {
		return ""
	}
	var words []string
	switch {
	case r.service != nil:
		s := r.service
		words = append(words, s.Name, strings.Join(s.Listen, ","), s.Network, "owner "+s.Owner, fmt.Sprintf("total %d", s.Total))
		if s.Queued > 0 {
			words = append(words, fmt.Sprintf("queued %d", s.Queued))
		}
		for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
			words = append(words, fmt.Sprintf("%s %d", reason, s.Refused[reason]))
		}
	case r.backend != nil:
		b := r.backend
		state := b.Status
		if since := figures.Since(b.Since, r.at); since != "" {
			state += " for " + since
		}
		if b.Reason != "" && !strings.HasPrefix(b.Reason, "override: ") { // "by hand" says that one
			state += ": " + b.Reason
		}
		words = append(words, b.Address, state)
		if b.Override != "" {
			words = append(words, "by hand: "+b.Override)
		}
		if b.Backup {
			words = append(words, "backup")
		}
	default:
		f := r.flow
		words = append(words, f.Client, "to "+f.Destination, "at "+f.Backend, f.Network, f.State, fmt.Sprintf("tries %d", f.Tries))
	}
	return m.line(m.colour(terminal.Cyan), strings.Join(words, "  "))
}

// lastLine is a question, a notice, or the keys.
func (m *Model) lastLine() string {
	switch {
	case m.mode == filtering:
		return m.line(terminal.Bold, "/"+m.list().filter+"_   Enter keeps the filter, Esc ends it")
	case m.mode == confirming: // a notice must not hide what y does
		return m.line(m.colour(terminal.Yellow)+terminal.Bold, m.question)
	case m.notice != "" && m.isWrong:
		return m.line(m.colour(terminal.Yellow)+terminal.Bold, m.notice)
	case m.notice != "":
		return m.line(terminal.Bold, m.notice)
	}
	return m.line(m.colour(terminal.Dim), [...]string{
		services: "Enter backends  f flows  k kill  / filter  < > r sort  p pause  ? help  q quit",
		backends: "Esc back  f flows  d drain  m maint  u resume  k kill  / filter  ? help  q quit",
		flows:    "Esc back  k kill  K kill all  / filter  < > r sort  p pause  ? help  q quit",
	}[m.view])
}

func (m *Model) helpLines() []string {
	lines := []string{m.line(terminal.Bold, "Keys of usher top"), ""}
	for line := range strings.Lines(helpText) {
		lines = append(lines, m.line("", strings.TrimRight(line, "\n")))
	}
	return lines[:min(len(lines), max(m.height, 0))]
}

const helpText = `  up, down, PgUp, PgDn, Home, End    choose a row
  Enter                              its backends; of a backend its flows
  Esc                                back; with a filter, ends the filter
  Tab                                services, backends, flows in turn
  f                                  flows of the service; F all flows

  /                                  filter: rows with this text, as you type
  < >                                sort by the column before, after
  r                                  sort the other way round

  d                                  drain the backend: no new clients
  m                                  maint: no new flows at all
  u                                  resume: take back what was set by hand
  k                                  end the flow; or, after a question, all
                                     flows of the service or backend
  K                                  end all flows that the filter lets through

  p                                  pause    + -  ask less, more often
  q, Ctrl-C                          quit
  Ctrl-Z                             to the shell; fg comes back
`
