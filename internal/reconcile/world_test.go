package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/internal/discovery"
)

// world carries plans out without anybody who observes or logs.
type world struct {
	t       *testing.T
	service *config.Service
	pool    *balancer.Pool
	seen    observations
	state   state
	ejected map[string]bool
	own     map[string]bool // targets by their addresses
	now     time.Duration
	quiet   bool
	last    plan
}

func newWorld(t *testing.T, mapping string, options ...string) *world {
	t.Helper()
	s := parse(t, mapping, options...)
	o := s.PoolOptions(func() uint64 { return 1 })
	pool, err := balancer.NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, service: s, pool: pool, seen: newObservations(),
		ejected: make(map[string]bool), own: make(map[string]bool),
	}
	w.reconcile()
	return w
}

// input is what the next plan follows from.
func (w *world) input() input {
	backends, leftOut := resolve(w.service.Backends, w.seen.names)
	candidates, own := newCandidates(w.service, backends, func(t health.Target) error {
		if w.own[t.Address] {
			return errors.New(t.Address + " is a listener")
		}
		return nil
	})
	w.seen.expireOverrides(w.now)
	in := input{
		service: w.service, candidates: candidates, leftOut: append(leftOut, own...),
		overrides:  w.seen.overridesOf(w.service.Backends, candidates),
		unanswered: len(w.seen.names) < len(hostsOf(w.service.Backends)),
		seen:       &w.seen, ejected: make(map[*balancer.Backend]bool), now: w.now, wall: time.Unix(0, 0).Add(w.now), quiet: w.quiet,
	}
	for _, b := range w.pool.Backends() {
		if w.ejected[b.String()] {
			in.ejected[b] = true
		}
	}
	return in
}

// reconcile returns what was logged and which flows have ended, in this order.
func (w *world) reconcile() (events []string) {
	w.last = newPlan(w.input(), w.state)
	s := &Service{owner: &Reconciler{}, config: w.service, pool: w.pool, update: w.pool.Update, seen: w.seen, reports: make(map[health.Target]health.AgentReport)}
	s.carry(&w.last, w.now)
	s.follow(&w.last)
	w.state = s.state
	maps.DeleteFunc(w.ejected, func(b string, _ bool) bool {
		return !slices.ContainsFunc(w.pool.Backends(), func(x *balancer.Backend) bool { return x.String() == b })
	})
	events = words(linesOf(w.last.reasons))
	for _, t := range w.last.terminations {
		if t.backend.Status() == balancer.Up && slices.Contains(w.pool.Backends(), t.backend) {
			w.t.Errorf("flows of %s end while it is up", t.backend)
		}
		events = append(events, fmt.Sprintf("%s %s", t.backend, t.how))
	}
	return append(events, words(linesOf(w.last.outcome))...)
}

func linesOf(changes []change) (lines []line) {
	for _, c := range changes {
		lines = append(lines, c.line)
	}
	return lines
}

// words are lines as a reader sees them, without debug lines.
func words(lines []line) []string {
	var out []string
	for _, l := range lines {
		if l.message == "" || l.level == zapcore.DebugLevel {
			continue
		}
		word := l.message
		e := zapcore.NewMapObjectEncoder()
		for _, f := range l.fields {
			f.AddTo(e)
		}
		for _, name := range []string{"backend", "host", "count", "names", "addresses", "override", "weight", "for", "reason", "word", "error", "so"} {
			if v, has := e.Fields[name]; has {
				word += fmt.Sprint(" ", v)
			}
		}
		out = append(out, word)
	}
	return out
}

// do takes one observation or command in words, and returns what follows from it.
func (w *world) do(command string) string {
	w.t.Helper()
	w.observe(command)
	return strings.Join(w.reconcile(), "; ")
}

// observe takes "up B", "down B", "agent B words", "name HOST addresses", "eject B", "readmit B", "live B",
// "override B drain" or "@3", "wait 3s", and "begin".
func (w *world) observe(command string) {
	w.t.Helper()
	verb, rest, _ := strings.Cut(command, " ")
	subject, rest, _ := strings.Cut(rest, " ")
	switch verb {
	case "up":
		targetResult(0, w.target(subject), checkResult{status: balancer.Up})(&w.seen)
	case "down":
		targetResult(0, w.target(subject), checkResult{balancer.Down, errors.New("refused")})(&w.seen)
	case "agent":
		for t := range w.seen.agents {
			if t.Name == subject {
				agentReport(t, health.ParseAgentReport(rest).Merge(w.seen.agents[t]))(&w.seen)
			}
		}
	case "name":
		var records []discovery.Record
		for _, word := range strings.Fields(rest) {
			records = append(records, recordsOf(subject, netip.MustParseAddr(word))...)
		}
		nameAnswer(subject, records)(&w.seen)
	case "eject", "readmit":
		if strings.Contains(table(w.pool), subject+"@") {
			w.ejected[subject] = verb == "eject"
		}
	case "live":
		for _, b := range w.pool.Backends() {
			if b.String() == subject {
				liveBackend(b)(&w.seen)
			}
		}
	case "override":
		w.override(subject, rest)
	case "wait":
		d, err := time.ParseDuration(subject)
		if err != nil {
			w.t.Fatal(err)
		}
		w.now += d
	case "begin":
		w.quiet = false
	case "":
	default:
		w.t.Fatalf("unknown command %q", command)
	}
}

// override sets one by an address or HOST:PORT: "drain", "@3", "clear", and for how long, as in "drain 5s".
func (w *world) override(backend, words string) {
	e := balancer.Endpoint{Host: backend}
	if at, err := netip.ParseAddrPort(backend); err == nil {
		e = balancer.Endpoint{Addr: at}
	}
	word, timeout, _ := strings.Cut(words, " ")
	var o Override
	if o.Timeout, _ = time.ParseDuration(timeout); word == "clear" {
		delete(w.seen.overrides, e)
		return
	}
	if weight, is := strings.CutPrefix(word, "@"); is {
		n, _ := strconv.Atoi(weight)
		o.Weight = &n
	} else {
		admin := balancer.AdminState(slices.Index([]string{"ready", "drain", "maint"}, word))
		o.Admin = &admin
	}
	w.seen.setOverride(e, w.seen.overrides[e].with(o, w.now))
}

// target returns what is checked of a backend; of none it is one that nobody asked for.
func (w *world) target(backend string) health.Target {
	for _, r := range w.state.rows {
		if r.spec.Endpoint.String() == backend && r.check != nil {
			return *r.check
		}
	}
	return health.Target{Name: backend}
}

// table writes a pool as "endpoint@weight status" words.
func table(p *balancer.Pool) string {
	var rows []string
	for _, b := range p.Backends() {
		rows = append(rows, fmt.Sprintf("%s@%d %s", b, b.Weight(), b.Status()))
	}
	return strings.Join(rows, ", ")
}
