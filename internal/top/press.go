package top

import (
	"fmt"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"

	"usher/internal/api"
	"usher/internal/terminal"
)

// intervals are those that + and - choose from.
var intervals = [...]time.Duration{
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// maxFilter is the longest filter, in bytes.
const maxFilter = 100

// Press takes a key, and returns what is to be done.
func (m *Model) Press(key terminal.Key) []Action {
	if key == terminal.CtrlC {
		return []Action{{verb: quit}}
	}
	m.notice = ""
	switch m.mode {
	case helping:
		m.mode = browsing
	case filtering:
		m.pressInFilter(key)
	case confirming:
		m.mode = browsing
		if key == 'y' || key == 'Y' {
			return []Action{m.pending}
		}
		m.say("nothing was ended")
	default:
		return m.pressInList(key)
	}
	return nil
}

// pressInFilter edits the filter, which holds as it is typed.
func (m *Model) pressInFilter(key terminal.Key) {
	l := m.list()
	before := l.filter
	switch key {
	case terminal.Enter:
		m.mode = browsing
	case terminal.Esc:
		l.filter, m.mode = "", browsing
	case terminal.Backspace:
		_, n := utf8.DecodeLastRuneInString(l.filter)
		l.filter = l.filter[:len(l.filter)-n]
	case terminal.CtrlU:
		l.filter = ""
	default:
		if key >= ' ' && key <= utf8.MaxRune && len(l.filter) < maxFilter {
			l.filter += string(rune(key))
		}
	}
	if l.filter != before {
		m.again()
	}
}

func (m *Model) pressInList(key terminal.Key) []Action {
	if m.move(key) {
		return nil
	}
	switch key {
	case 'q':
		return []Action{{verb: quit}}
	case '?', 'h':
		m.mode = helping
	case '/':
		m.mode = filtering
	case '<', '>', 'r':
		m.changeOrder(key)
	case 'p':
		m.isPaused = !m.isPaused
	case '+', '=', '-':
		m.changeInterval(key != '-')
	case terminal.Enter, terminal.Right:
		m.open()
	case terminal.Esc, terminal.Left, terminal.Backspace:
		m.leave()
	case terminal.Tab, terminal.BackTab:
		m.turn(key == terminal.Tab)
	case 'f':
		m.showFlows(false)
	case 'F':
		m.showFlows(true)
	case 'd':
		return m.override(drain)
	case 'm':
		return m.override(maint)
	case 'u':
		return m.override(resume)
	case 'k':
		return m.killSelected()
	case 'K':
		m.killListed()
	}
	return nil
}

// move moves the selection, and reports whether the key does.
func (m *Model) move(key terminal.Key) bool {
	l := m.list()
	to := l.index
	switch isNone := l.find() < 0; key {
	case terminal.Up:
		to--
	case terminal.Down:
		if !isNone {
			to++
		}
	case terminal.PageUp:
		to -= m.page()
	case terminal.PageDown:
		to += m.page()
	case terminal.Home:
		to = 0
	case terminal.End:
		to = len(l.rows) - 1
		m.allFlows = m.view == flows
	default:
		return false
	}
	if len(l.rows) > 0 {
		l.index = max(0, min(to, len(l.rows)-1))
		l.selected = l.rows[l.index].key
		m.scroll()
	}
	return true
}

// changeOrder chooses the column to sort by, or turns the order round. The one in front of the first is usher's own order.
func (m *Model) changeOrder(key terminal.Key) {
	l, columns := m.list(), m.columns()
	canSort := func(i int) bool {
		if m.view == flows {
			return i >= 0 && columns[i].sort != ""
		}
		return i < 0 || !columns[i].isTrend()
	}
	step := map[terminal.Key]int{'<': -1, '>': 1}[key]
	for at := l.sort + step; step != 0 && at >= -1 && at < len(columns); at += step {
		if canSort(at) {
			l.sort, l.isReversed = at, false
			break
		}
	}
	if key == 'r' && l.sort >= 0 {
		l.isReversed = !l.isReversed
	}
	m.again()
}

func (m *Model) changeInterval(isLonger bool) {
	at, isOne := slices.BinarySearch(intervals[:], m.interval)
	switch {
	case !isLonger:
		at--
	case isOne:
		at++
	}
	m.interval = intervals[max(0, min(at, len(intervals)-1))]
}

// show changes the view.
func (m *Model) show(v view) {
	m.view, m.allFlows = v, false
	m.list().rows = nil // until usher has answered
}

// open opens what is selected: the backends of a service, the flows of a backend.
func (m *Model) open() {
	r := m.current()
	switch {
	case r == nil:
	case m.view == services:
		m.showBackends(r.key)
	case m.view == backends:
		m.showFlowsOf(api.Flow{Service: m.service, Backend: r.key})
	}
}

func (m *Model) showBackends(service string) {
	if service != m.service {
		l := &m.lists[backends]
		*l = list{sort: l.sort, isReversed: l.isReversed, tracks: newTracks()}
		m.service = service
	}
	m.show(backends)
}

func (m *Model) showFlowsOf(scope api.Flow) {
	l := &m.lists[flows]
	if m.view != flows {
		m.back = m.view
	}
	if m.scope != scope {
		*l = list{sort: l.sort, isReversed: l.isReversed, tracks: newTracks()}
		m.scope = scope
	}
	m.show(flows)
}

// showFlows shows the flows of the selected service, of the service whose backends are listed, or all.
func (m *Model) showFlows(all bool) {
	var scope api.Flow
	switch r := m.current(); {
	case all || m.view == flows:
	case m.view == backends:
		scope.Service = m.service
	case r != nil:
		scope.Service = r.key
	}
	m.showFlowsOf(scope)
}

// leave takes the filter back, or goes to the view before.
func (m *Model) leave() {
	switch l := m.list(); {
	case l.filter != "":
		l.filter = ""
		m.again()
	case m.view == backends:
		m.lists[services].selected = m.service
		m.show(services)
	case m.view == flows:
		m.show(m.back)
	}
}

// turn goes from view to view: services, backends of the selected one, its flows.
func (m *Model) turn(forward bool) {
	r := m.current()
	switch {
	case m.view == services && forward, m.view == flows && !forward:
		service := m.service
		if m.view == services && r != nil {
			service = r.key
		}
		if m.view == flows && m.scope.Service != "" {
			service = m.scope.Service
		}
		if service != "" {
			m.showBackends(service)
			return
		}
		m.show(services)
	case m.view == backends && forward, m.view == services:
		m.showFlows(false)
	default:
		m.show(services)
	}
}

// override drains a backend, takes it out of service, or takes that back.
func (m *Model) override(verb string) []Action {
	r := m.current()
	switch {
	case m.view != backends:
		m.refuse("choose a backend first: Enter on a service shows its backends")
	case r == nil:
		m.refuse("choose a backend first, with the arrow keys")
	default:
		return []Action{{verb: verb, service: m.service, backend: r.key, what: "backend " + r.key}}
	}
	return nil
}

// killSelected ends the selected flow, or those of the selected service or backend. It asks before it ends more than one.
func (m *Model) killSelected() []Action {
	r := m.current()
	if r == nil {
		m.refuse("choose a row first, with the arrow keys")
		return nil
	}
	a, active := Action{verb: kill, query: url.Values{}}, int64(1)
	switch m.view {
	case flows:
		a.query.Set("id", r.key)
		// After a restart or an upgrade another flow may have the id.
		a.query.Set("match", r.flow.Client)
		a.what = "flow of " + r.flow.Client
		return []Action{a}
	case services:
		a.query.Set("service", r.key)
		a.what, active = "service "+r.key, r.service.Active
	case backends:
		a.query.Set("service", m.service)
		a.query.Set("backend", r.key)
		a.what, active = "backend "+r.key, r.backend.Active
	}
	if active == 0 {
		m.say("%s has no flows", a.what)
		return nil
	}
	m.confirm(a, fmt.Sprintf("end all flows of %s, %d now?", a.what, active))
	return nil
}

// killListed ends all flows that the filter lets through, after a yes.
func (m *Model) killListed() {
	if m.view != flows {
		m.refuse("K ends the flows that are listed: f lists them")
		return
	}
	n := len(m.list().rows)
	if n == 0 {
		m.say("no flow is listed")
		return
	}
	a := Action{verb: kill, query: m.flowQuery(), what: m.scopeText()}
	if len(a.query) == 0 {
		a.query.Set("all", "true")
	}
	least := ""
	if n >= m.page() {
		least = "at least "
	}
	m.confirm(a, fmt.Sprintf("end %s, %s%d now?", a.what, least, n))
}

// confirm asks before an action.
func (m *Model) confirm(a Action, question string) {
	m.pending, m.mode, m.question = a, confirming, question+"  y/n"
}
