package top

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"usher/internal/api"
	"usher/internal/terminal"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// stage is a model, and the usher that answers it.
type stage struct {
	t        *testing.T
	m        *Model
	now      time.Time
	process  api.Process
	services []api.Service
	flows    []api.Flow
	actions  []Action
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, m: NewModel(Look{Unicode: true}, "", time.Second), now: began.Add(time.Hour)}
	s.process = api.Process{Name: "web", PID: 7, Version: "v1", Started: began, Engine: "epoll", Workers: 2, Flows: 5, MaxConns: 100}
	for i, name := range []string{"web", "db", "dns"} {
		one := api.Service{
			Name: name, Owner: "flags", Network: "tcp", Listen: []string{fmt.Sprintf("127.0.0.1:%d", 8080+i)}, Scheduler: "rr",
			Status: "up", Active: int64(i * 10), BackendsUp: 2, BackendsAll: 2,
		}
		for j := range 2 {
			one.Backends = append(one.Backends, api.Backend{Address: fmt.Sprintf("10.0.0.%d:80", 9+j), Weight: 1, Status: "up", Since: began, Active: int64(j)})
		}
		s.services = append(s.services, one)
	}
	for i := range 5 {
		s.flows = append(s.flows, api.Flow{
			ID: fmt.Sprint(i), Client: fmt.Sprintf("192.0.2.%d:4711", i), Service: "web", Backend: "10.0.0.9:80", State: "established", AgeMS: int64(i) * 1000,
		})
	}
	s.answer()
	return s
}

// answer answers the question of now, as usher does.
func (s *stage) answer() {
	q := s.m.Question()
	sample := Sample{Question: q, At: s.now, Process: s.process}
	switch q.view {
	case services:
		sample.Services = append([]api.Service(nil), s.services...)
	case backends:
		for _, one := range s.services {
			if one.Name == q.service {
				sample.Services = []api.Service{one}
			}
		}
		if sample.Services == nil {
			sample.Err = &api.StatusError{Status: http.StatusNotFound, Text: "there is no service " + q.service}
		}
	case flows:
		sample.Flows = append([]api.Flow(nil), s.flows...)
	}
	s.m.Tick(s.now)
	s.m.Take(sample)
	s.now = s.now.Add(time.Second)
}

// press presses keys, and has usher answer after each.
func (s *stage) press(keys ...terminal.Key) {
	for _, key := range keys {
		s.actions = append(s.actions, s.m.Press(key)...)
		s.answer()
	}
}

func (s *stage) typed(text string) {
	for _, r := range text {
		s.press(terminal.Key(r))
	}
}

func (s *stage) screen() string { return strings.Join(s.m.Lines(), "\n") }

func (s *stage) shows(want ...string) {
	s.t.Helper()
	for _, text := range want {
		if !strings.Contains(s.screen(), text) {
			s.t.Errorf("no %q in\n%s", text, s.screen())
		}
	}
}

func (s *stage) hides(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if strings.Contains(s.screen(), text) {
			s.t.Errorf("%q is in\n%s", text, s.screen())
		}
	}
}

// selects checks which row is selected.
func (s *stage) selects(key string) {
	s.t.Helper()
	if r := s.m.current(); r == nil || r.key != key {
		s.t.Errorf("selected is %+v, want %s, in\n%s", r, key, s.screen())
	}
}

func (s *stage) rows(want string) {
	s.t.Helper()
	var got []string
	for _, r := range s.m.list().rows {
		got = append(got, r.key)
	}
	if strings.Join(got, " ") != want {
		s.t.Errorf("rows %q, want %q", got, want)
	}
}

// TestViews: Enter, f, Tab and Esc lead from view to view, and each asks for what it shows alone.
func TestViews(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		keys     []terminal.Key
		view     view
		service  string
		contains string // the question for flows
		shows    string
	}{
		{nil, services, "", "", "Services: 3"},
		{[]terminal.Key{terminal.Down, terminal.Enter}, backends, "db", "", "Backends of db"},
		{[]terminal.Key{terminal.Enter, terminal.Esc}, services, "", "", "Services: 3"},
		{[]terminal.Key{terminal.Enter, terminal.Enter}, flows, "", "backend=10.0.0.9%3A80&service=web&sort=bytes-down&top=38", "Flows of service web at backend 10.0.0.9:80"},
		{[]terminal.Key{terminal.Enter, terminal.Enter, terminal.Esc}, backends, "web", "", "Backends of web"},
		{[]terminal.Key{'f'}, flows, "", "service=web&", "Flows of service web"},
		{[]terminal.Key{'F'}, flows, "", "sort=bytes-down&top=38", "All flows"},
		{[]terminal.Key{'F', terminal.Esc}, services, "", "", "Services: 3"},
		{[]terminal.Key{'f', 'f'}, flows, "", "sort=bytes-down&top=38", "All flows"},
		{[]terminal.Key{terminal.Tab}, backends, "web", "", "Backends of web"},
		{[]terminal.Key{terminal.Tab, terminal.Tab}, flows, "", "service=web&", "Flows of service web"},
		{[]terminal.Key{terminal.Tab, terminal.Tab, terminal.Tab}, services, "", "", "Services: 3"},
		{[]terminal.Key{terminal.BackTab, terminal.BackTab}, backends, "web", "", "Backends of web"},
		{[]terminal.Key{'F', terminal.End}, flows, "", "top=10000", "All flows"},
		{[]terminal.Key{'F', 'r', '<'}, flows, "", "sort=bytes-up&", "All flows"},
		{[]terminal.Key{'F', 'r'}, flows, "", "sort=-bytes-down&", "All flows"},
		{[]terminal.Key{'F', '/', 'a', '&'}, flows, "", "match=a%26&", `Flows with "a&"`},
		{[]terminal.Key{'?'}, services, "", "", "Keys of usher top"},
		{[]terminal.Key{'?', 'x'}, services, "", "", "Services: 3"},
	} {
		s := newStage(t)
		s.press(tt.keys...)
		q := s.m.Question()
		if q.view != tt.view || q.service != tt.service || !strings.Contains(q.flows, tt.contains) || q.flows != "" && tt.contains == "" {
			t.Errorf("%q: asks %+v", tt.keys, q)
		}
		s.shows(tt.shows)
		if len(s.actions) > 0 {
			t.Errorf("%q: does %+v", tt.keys, s.actions)
		}
	}
}

// TestOrderAndFilter: what is selected stays selected when rows move or are left out.
func TestOrderAndFilter(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.rows("web db dns")
	s.press(terminal.Down)
	s.selects("db")
	s.press('>') // by name
	s.rows("db dns web")
	s.press('r')
	s.rows("web dns db")
	s.selects("db")
	s.press('>', '>', '>', '>') // by active
	s.rows("dns db web")
	s.selects("db")
	s.services[0].Active = 99
	s.answer()
	s.rows("web dns db")
	s.selects("db")
	s.press('<', '<', '<', '<', '<')
	s.rows("web db dns")
	s.press('/')
	s.typed("8D") // of no row
	s.rows("")
	s.press(terminal.Backspace, terminal.Backspace)
	s.typed("D")
	s.rows("db dns")
	s.shows("/D_", `with "D": 2`)
	s.press(terminal.Enter)
	s.rows("db dns")
	s.selects("db")
	s.press(terminal.Esc)
	s.rows("web db dns")
	s.press(terminal.Enter, '>')
	s.rows("10.0.0.9:80 10.0.0.10:80")
}

// TestActions: keys change what is selected, and ask before they end more than one flow.
func TestActions(t *testing.T) {
	t.Parallel()
	const down, enter = terminal.Down, terminal.Enter
	for _, tt := range []struct {
		keys  []terminal.Key
		want  string // verb, service, backend, query of each action
		shows string
	}{
		{keys: []terminal.Key{'d'}, shows: "choose a backend first"},
		{keys: []terminal.Key{enter, 'd'}, want: "drain web 10.0.0.9:80 "},
		{keys: []terminal.Key{enter, down, 'm'}, want: "maint web 10.0.0.10:80 "},
		{keys: []terminal.Key{down, enter, 'u'}, want: "resume db 10.0.0.9:80 "},
		{keys: []terminal.Key{'k'}, shows: "service web has no flows"},
		{keys: []terminal.Key{down, 'k'}, shows: "end all flows of service db, 10 now?  y/n"},
		{keys: []terminal.Key{down, 'k', 'n'}, shows: "nothing was ended"},
		{keys: []terminal.Key{down, 'k', 'y'}, want: "kill   service=db"},
		{keys: []terminal.Key{down, enter, down, 'k', 'y'}, want: "kill   backend=10.0.0.10%3A80&service=db"},
		{keys: []terminal.Key{'F', 'k'}, shows: "choose a row first"},
		{keys: []terminal.Key{'F', down, down, 'k'}, want: "kill   id=1&match=192.0.2.1%3A4711"},
		{keys: []terminal.Key{'F', 'K'}, shows: "end all flows, 5 now?  y/n"},
		{keys: []terminal.Key{'F', 'K', 'y'}, want: "kill   all=true"},
		{keys: []terminal.Key{'f', '/', 'x', enter, 'K', 'y'}, want: "kill   match=x&service=web"},
		{keys: []terminal.Key{'q'}, want: "quit   "},
		{keys: []terminal.Key{'/', 'q', terminal.CtrlC}, want: "quit   "},
	} {
		s := newStage(t)
		s.press(tt.keys...)
		var got []string
		for _, a := range s.actions {
			got = append(got, fmt.Sprintf("%s %s %s %s", a.verb, a.service, a.backend, a.query.Encode()))
		}
		if strings.Join(got, ";") != tt.want {
			t.Errorf("%q: does %q, want %q", tt.keys, got, tt.want)
		}
		s.shows(tt.shows)
	}
}

// TestFlowThatEnds: a flow that has ended leaves no other one selected in its place.
func TestFlowThatEnds(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.press('F', terminal.Down, terminal.Down)
	s.selects("1")
	s.flows = append(s.flows[:1], s.flows[2:]...)
	s.answer()
	s.press('k')
	s.shows("choose a row first")
	s.press(terminal.Down)
	s.selects("2")
	if len(s.actions) > 0 {
		t.Errorf("does %+v", s.actions)
	}
}

// TestQuestionStays: what usher says meanwhile does not hide what a yes does; a yes is for the usher that was shown.
func TestQuestionStays(t *testing.T) {
	t.Parallel()
	const question = "end all flows of service db, 10 now?  y/n"
	s := newStage(t)
	s.press(terminal.Down, 'k')
	s.m.Finish(Result{Action: Action{verb: drain, what: "backend x"}})
	s.shows(question)
	s.m.Finish(Result{Action: Action{verb: maint}, Err: errors.New("no such thing")})
	s.process.Upgrades++
	s.answer()
	s.shows(question)
	s.process.PID++
	s.answer()
	s.hides(question)
	s.shows("another usher answers now")
	if s.press('y'); len(s.actions) > 0 {
		t.Errorf("does %+v", s.actions)
	}
}

// TestServiceThatGoes: backends of a service that has gone are not taken for those of the next one.
func TestServiceThatGoes(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.press(terminal.Enter)
	s.rows("10.0.0.9:80 10.0.0.10:80")
	s.services = s.services[1:]
	s.answer()
	s.shows("there is no service web")
	for _, key := range []terminal.Key{terminal.Down, terminal.Enter, '>', 'd'} { // before usher answers
		s.actions = append(s.actions, s.m.Press(key)...)
		s.hides("10.0.0.9")
	}
	if len(s.actions) > 0 {
		t.Errorf("does %+v", s.actions)
	}
	s.answer()
	s.shows("Services: 2")
}

// TestWhatUsherSays: refusals, silence, an upgrade and another process are said, and the list stays.
func TestWhatUsherSays(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.m.Finish(Result{Action: Action{verb: drain, what: "backend x"}})
	s.shows("backend x: drain until resumed (u)")
	s.m.Finish(Result{Action: Action{verb: kill, what: "all flows"}, Killed: 3})
	s.shows("all flows: ended 3 flows")
	s.m.Finish(Result{Action: Action{verb: maint}, Err: errors.New("no\nsuch \x1b[31mthing")})
	s.shows(`no\nsuch \x1b[31mthing`)

	s.m.Take(Sample{Question: s.m.Question(), At: s.now, Err: errors.New("ask usher at /s: connection refused")})
	s.m.Tick(s.now.Add(11 * time.Second))
	s.shows("usher web has not answered for 12.0s, asking again: ask usher at /s: connection", "dns")
	s.process.Upgrades, s.process.Version = 1, "v2"
	s.answer()
	s.shows("usher has been upgraded, with 5 flows: version v2", "usher web v2")
	s.process.PID, s.process.Started = 8, began.Add(time.Minute)
	s.answer()
	s.shows("another usher answers now: pid 8, before pid 7")

	s.m.Asked(s.now)
	s.m.Tick(s.now.Add(time.Minute))
	s.shows("usher web has not answered for 1m")
	s.press('p')
	s.shows("PAUSED")
	s.press('p', '+', '+', '-')
	s.shows("every 2s")

	s.press(terminal.Enter)
	s.services = s.services[1:]
	s.answer()
	s.shows("there is no service web")
	s.answer()
	s.shows("Services: 2")
}

// TestRates: rates and their line come from the counters of two answers; counters that fall give none.
func TestRates(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, more := range []uint64{10, 40, 0, 80} {
		s.services[0].Total += more
		s.services[0].BytesUp += more * 1000
		s.answer()
	}
	s.shows("new 80/s  up 80.0kB/s  down 0B/s", "▂▅▁█")
	s.hides("NaN")
	s.services[0].Total = 1
	s.answer()
	s.shows("▂▅▁█▁")
}

// TestHelpFits: all keys have their whole line where the screen is smallest.
func TestHelpFits(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.m.Resize(80, 24)
	s.press('?')
	s.shows("fg comes back")
	s.hides("…")
}

// TestScreens: every size shows what it can, and no line is longer than the screen.
func TestScreens(t *testing.T) {
	t.Parallel()
	for i := range 1000 {
		for _, keys := range [][]terminal.Key{nil, {terminal.Enter}, {'F'}, {'?'}, {'/', 'x'}} {
			if i%7 > 0 && i != 80 {
				continue
			}
			s := newStage(t)
			width, height := i, 24
			if i > 300 {
				width, height = 80, i-300
			}
			s.m.Resize(width, height)
			s.services[0].Backends[0].Reason = "connect: connection refused"
			s.press(keys...)
			lines := s.m.Lines()
			if len(lines) > height {
				t.Fatalf("%dx%d: %d lines", width, height, len(lines))
			}
			for _, line := range lines {
				for _, style := range []string{terminal.Bold, terminal.Reverse, terminal.Normal} {
					line = strings.ReplaceAll(line, style, "")
				}
				if strings.Contains(line, "\x1b") || terminal.Width(line) > width {
					t.Fatalf("%dx%d: %q has %d cells", width, height, line, terminal.Width(line))
				}
			}
		}
	}
	s := newStage(t)
	for i, want := range [...]string{
		services: "NAME      STATUS      UP SCHED ACTIVE NEW/S   UP/S DOWN/S FAILED REFUSED TREND",
		backends: "ADDRESS         STATUS   SINCE WT ACTIVE NEW/S   UP/S DOWN/S   CONN FAILED TREND",
		flows:    "CLIENT          SERVICE  BACKEND        STATE          AGE   IDLE     UP   DOWN▼",
	} {
		s.m.show(view(i))
		s.shows(want)
	}
	s.m.look.Unicode = false
	s.press('r')
	s.shows("DOWN^")
}

// TestManyRows: a thousand backends scroll, and the selected one stays in sight.
func TestManyRows(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for i := range 1000 {
		s.services[0].Backends = append(s.services[0].Backends, api.Backend{Address: fmt.Sprintf("10.1.%d.%d:80", i/250, i%250), Status: "up"})
	}
	s.press(terminal.Enter, terminal.End)
	s.selects("10.1.3.249:80")
	s.shows("10.1.3.249:80", "10.1.3.231:80")
	s.hides("10.1.3.230:80")
	s.press(terminal.PageUp)
	s.selects("10.1.3.230:80")
	s.press(terminal.Home, terminal.PageDown, terminal.Down)
	s.shows("10.1.0.18:80")
	s.m.Resize(80, 10)
	s.answer()
	s.shows(s.m.current().key)
}

func BenchmarkThousandBackends(b *testing.B) {
	s := &stage{m: NewModel(Look{Unicode: true}, "web", time.Second), now: began}
	one := api.Service{Name: "web", Status: "up"}
	for i := range 1000 {
		one.Backends = append(one.Backends, api.Backend{Address: fmt.Sprintf("10.1.%d.%d:80", i/250, i%250), Status: "up"})
	}
	s.services = []api.Service{one}
	s.m.Press('>')
	b.ReportAllocs()
	for b.Loop() {
		s.answer()
		s.m.Lines()
	}
}
