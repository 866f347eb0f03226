package top

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/internal/api"
	"usher/internal/figures"
)

// view is what the screen lists.
type view int

const (
	services view = iota
	backends
	flows
)

// Look is what the terminal can show.
type Look struct{ Colour, Unicode bool }

func (l Look) ellipsis() string {
	if l.Unicode {
		return "…"
	}
	return "~"
}

// list is what the screen keeps of a view.
type list struct {
	filter     string
	sort       int // column; -1: as usher lists them
	isReversed bool
	selected   string // key of a row; empty: none yet
	index      int    // of the selected row, or where it was
	offset     int    // of the first row on the screen
	tracks     tracks
	rows       []*row // that pass the filter, in order
}

// mode is what keys are for.
type mode int

const (
	browsing mode = iota
	filtering
	confirming
	helping
)

// maxFlows is how many flows are listed at most: as many as usher sorts.
const maxFlows = 10_000

// Model is the state of the screen.
type Model struct {
	look          Look
	width, height int
	now           time.Time

	view    view
	service string // whose backends are listed
	scope   api.Flow
	// scope says which flows are listed: those of its service and its backend, as far as they are not empty.
	back     view // where Esc goes from the flows
	lists    [3]list
	mode     mode
	pending  Action // that waits for a yes
	question string // what pending does
	notice   string
	isWrong  bool // the notice is a refusal
	isPaused bool
	interval time.Duration

	sample    Sample // the last answer
	before    api.Process
	beforeAt  time.Time
	cpu       float64   // share of one CPU, from 0; -1: unknown
	total     tracks    // of all services together
	lost      string    // why usher does not answer; empty: it does
	askedAt   time.Time // of a question without an answer yet
	answered  time.Time // when the last answer came
	allFlows  bool      // all that can be listed are wanted
	hasSample bool
}

// NewModel returns the model of a screen, which begins with the services, or with the backends of one.
func NewModel(look Look, service string, interval time.Duration) *Model {
	m := &Model{look: look, width: 80, height: 24, service: service, interval: interval, cpu: -1, total: newTracks()}
	for i := range m.lists {
		m.lists[i] = list{sort: -1, tracks: newTracks()}
	}
	m.lists[flows].sort = slices.IndexFunc(columnsOf[flows], func(c column) bool { return c.sort == "bytes-down" })
	if service != "" {
		m.view = backends
	}
	return m
}

// Resize takes a new size of the screen.
func (m *Model) Resize(width, height int) { m.width, m.height = width, height }

// Tick takes the time.
func (m *Model) Tick(now time.Time) { m.now = now }

// Asked says that the question of now was asked.
func (m *Model) Asked(now time.Time) { m.askedAt = now }

func (m *Model) list() *list       { return &m.lists[m.view] }
func (m *Model) columns() []column { return columnsOf[m.view] }

// page is how many rows the screen shows.
func (m *Model) page() int { return max(1, m.height-headLines-footLines) }

// Question returns what the screen needs to know.
func (m *Model) Question() Question {
	q := Question{view: m.view}
	switch m.view {
	case backends:
		q.service = m.service
	case flows:
		query := m.flowQuery()
		l := m.list()
		c := m.columns()[l.sort]
		word := c.sort
		if l.isReversed {
			word = "-" + word
		}
		query.Set("sort", word)
		rows := (l.offset/m.page() + 2) * m.page() // one more page, to move to
		if m.allFlows {
			rows = maxFlows
		}
		query.Set("top", strconv.Itoa(min(rows, maxFlows)))
		if slices.ContainsFunc(m.places(nil), func(p place) bool { return p.sort == "rtt" }) {
			query.Set("rtt", "true")
		}
		q.flows = query.Encode()
	}
	return q
}

// flowQuery is the filter of the flows that are listed.
func (m *Model) flowQuery() url.Values {
	query := url.Values{}
	if m.scope.Service != "" {
		query.Set("service", m.scope.Service)
	}
	if m.scope.Backend != "" {
		query.Set("backend", m.scope.Backend)
	}
	if filter := strings.TrimSpace(m.lists[flows].filter); filter != "" {
		query.Set("match", filter)
	}
	return query
}

// Take takes the answer to a question.
func (m *Model) Take(s Sample) {
	m.askedAt = time.Time{}
	if refusal, ok := errors.AsType[*api.StatusError](s.Err); ok {
		m.answered, m.lost = s.At, ""
		m.refuse(refusal.Text)
		if refusal.Status == http.StatusNotFound && s.Question.view == backends && m.view == backends {
			m.show(services)
		}
		return
	}
	if s.Err != nil {
		m.lost = s.Err.Error()
		return
	}
	m.compareProcess(&s)
	m.answered, m.lost, m.hasSample = s.At, "", true
	m.sample.Process = s.Process
	if !m.isAnswer(s.Question) {
		return // of a screen before
	}
	m.sample = s
	m.measure()
	m.fill()
}

// isAnswer reports whether an answer to q is about what the screen shows now.
func (m *Model) isAnswer(q Question) bool {
	return q.view == m.view && q.service == m.Question().service
}

// compareProcess says what has become of the process since the answer before.
func (m *Model) compareProcess(s *Sample) {
	old, now := &m.before, &s.Process
	m.cpu = -1
	switch {
	case old.PID == 0:
	case now.PID != old.PID || !now.Started.Equal(old.Started):
		m.say("another usher answers now: pid %d, before pid %d", now.PID, old.PID)
		if m.mode == confirming {
			m.mode = browsing // the question was about the one before
		}
	case now.Upgrades > old.Upgrades:
		m.say("usher has been upgraded, with %d flows: version %s", now.Flows, now.Version)
	default:
		if passed := s.At.Sub(m.beforeAt).Seconds(); passed > 0 {
			m.cpu = max(0, now.UserSeconds+now.SystemSeconds-old.UserSeconds-old.SystemSeconds) / passed
		}
	}
	m.before, m.beforeAt = s.Process, s.At
}

// measure makes rates of the last answer.
func (m *Model) measure() {
	l, s := m.list(), &m.sample
	l.tracks.next()
	var sum figures.Counters
	for i := range s.Services {
		one := &s.Services[i]
		c := figures.OfService(one)
		sum.Total, sum.Up, sum.Down = sum.Total+c.Total, sum.Up+c.Up, sum.Down+c.Down
		m.lists[services].tracks.see(one.Name, c, s.At)
		if m.view != backends {
			continue
		}
		for j := range one.Backends {
			l.tracks.see(one.Backends[j].Address, figures.OfBackend(&one.Backends[j]), s.At)
		}
	}
	if m.view == services {
		m.total.see("", sum, s.At)
	}
	for i := range s.Flows {
		one := &s.Flows[i]
		l.tracks.see(one.ID, figures.Counters{Up: one.BytesUp, Down: one.BytesDown}, s.At)
	}
}

// fill makes the rows of the list of the last answer.
func (m *Model) fill() {
	l, s := m.list(), &m.sample
	l.rows = nil
	add := func(key string, r row) {
		r.key, r.track, r.at = key, l.tracks.all[key], s.At
		l.rows = append(l.rows, &r)
	}
	for i := range s.Services {
		if m.view == services {
			add(s.Services[i].Name, row{service: &s.Services[i]})
			continue
		}
		for j := range s.Services[i].Backends {
			b := &s.Services[i].Backends[j]
			add(b.Address, row{backend: b})
		}
	}
	for i := range s.Flows {
		add(s.Flows[i].ID, row{flow: &s.Flows[i]})
	}
	m.arrange()
}

// arrange filters and sorts the rows, which usher has done with flows, and finds the selected one.
func (m *Model) arrange() {
	l := m.list()
	if m.view != flows {
		if filter := strings.ToLower(l.filter); filter != "" {
			l.rows = slices.DeleteFunc(l.rows, func(r *row) bool { return !r.fits(m.columns(), filter) })
		}
		if l.sort >= 0 {
			order(l.rows, &m.columns()[l.sort], l.isReversed)
		}
		if l.selected == "" && len(l.rows) > 0 {
			l.selected = l.rows[min(l.index, len(l.rows)-1)].key
		}
	}
	if at := l.find(); at >= 0 {
		l.index = at
	}
	m.scroll()
}

// again lists anew, after a change of the filter or the order.
func (m *Model) again() {
	l := m.list()
	switch {
	case m.view == flows: // the question has changed
		l.offset, l.index, m.allFlows = 0, 0, false
	case m.isAnswer(m.sample.Question):
		m.fill()
	}
}

// find returns the index of the selected row, or -1 if it is not listed any more.
func (l *list) find() int {
	return slices.IndexFunc(l.rows, func(r *row) bool { return r.key == l.selected })
}

// current returns the selected row, or nil.
func (m *Model) current() *row {
	l := m.list()
	if at := l.find(); at >= 0 {
		return l.rows[at]
	}
	return nil
}

// scroll keeps the place of the selected row on the screen.
func (m *Model) scroll() {
	l, page := m.list(), m.page()
	l.index = max(0, min(l.index, len(l.rows)-1))
	l.offset = max(l.offset, l.index-page+1)
	l.offset = max(0, min(l.offset, l.index, len(l.rows)-1))
}

func (m *Model) say(format string, args ...any) {
	m.notice, m.isWrong = fmt.Sprintf(format, args...), false
}

func (m *Model) refuse(text string) { m.notice, m.isWrong = text, true }

// Finish takes the result of an action.
func (m *Model) Finish(r Result) {
	switch {
	case r.Err != nil:
		m.refuse(r.Err.Error())
	case r.Action.verb == kill && r.Killed == 0:
		m.say("%s: ended already", r.Action.what)
	case r.Action.verb == kill:
		m.say("%s: ended %s", r.Action.what, figures.Count(r.Killed, "flow"))
	case r.Action.verb == resume:
		m.say("%s: resumed", r.Action.what)
	default:
		m.say("%s: %s until resumed (u)", r.Action.what, r.Action.verb)
	}
}
