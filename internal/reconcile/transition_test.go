package reconcile

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
)

// reader takes transitions.
type reader struct {
	mu  sync.Mutex
	all []string
}

func (r *reader) take(transitions []Transition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range transitions {
		r.all = append(r.all, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s>%s %s", t.Kind, t.Backend, t.From, t.To, t.Reason)), " "))
	}
}

// read returns what has come since the last call.
func (r *reader) read() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return strings.Join(all, ", ")
}

// transitions are those of a plan in words.
func transitions(p *plan) string {
	var words []string
	for _, c := range append(p.reasons, p.outcome...) {
		if t := c.Transition; t.Kind != "" {
			words = append(words, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s>%s %s", t.Kind, t.Backend, t.From, t.To, t.Reason)), " "))
		}
	}
	return strings.Join(words, "; ")
}

// TestTransitions: each change is reported once, with what the backend was and is, and why.
func TestTransitions(t *testing.T) {
	t.Parallel()
	const a, b = "10.0.0.1:1", "10.0.0.2:1"
	for _, tt := range []struct {
		mapping, options string
		steps            []step
	}{
		{"8080=" + a + "," + b, "agent=9100 eject=3", []step{
			{"up " + a, "status " + a + " unknown>up"},
			{"down " + b, "status " + b + " unknown>down refused; status up>degraded"},
			{"agent " + a + " down#oom", "status " + a + " up>down agent: down, oom; status degraded>down"},
			{"agent " + a + " up drain", "status " + a + " down>drain agent: drain"},
			{"up " + b, "status " + b + " down>up; status down>up"},
			{"override " + a + " maint", "override " + a + " >maint; status " + a + " drain>maint override: maint"},
			{"agent " + a + " ready", ""},
			{"override " + a + " ready", "override " + a + " maint>; status " + a + " maint>up"},
			{"override " + a + " @5 3s", "override " + a + " >weight=5; weight " + a + " 1>5"},
			{"wait 3s", "override " + a + " weight=5> its time is over; weight " + a + " 5>1"},
			{"eject " + a, "ejected " + a + " > ejected: 3 failures in a row; status " + a + " up>down ejected: 3 failures in a row; status up>degraded"},
			{"readmit " + a, "readmitted " + a + " >; status " + a + " down>up; status degraded>up"},
			{"", ""},
		}},
		{"8080=x.test:1," + b, "health=off", []step{
			{"name x.test", "status up>degraded"},
			{"name x.test 10.0.0.1 10.0.0.3", "added " + a + " >up not checked; added 10.0.0.3:1 >up not checked; removed x.test:1 down>; status degraded>up"},
			{"name x.test 10.0.0.1", "removed 10.0.0.3:1 up>"},
		}},
		{"8080=" + a + "," + b, "quiet", []step{
			{"", ""}, {"down " + a, ""}, {"up " + b, ""}, {"override " + b + " drain", ""},
			{"begin", "status " + a + " unknown>down refused; override " + b + " >drain; status " + b + " unknown>drain override: drain; status up>down"},
			{"", ""},
		}},
		{"udp:8080=" + a + "," + b, "health=off", []step{
			{"eject " + a, "status " + a + " up>down ejected: refuses datagrams; status up>degraded"},
			{"readmit " + a, "status " + a + " down>up not checked; status degraded>up"},
		}},
	} {
		options, quiet := strings.CutSuffix(tt.options, "quiet")
		w := newWorld(t, tt.mapping, strings.Fields(options)...)
		if quiet {
			w.quiet, w.state = true, state{}
		}
		for _, s := range tt.steps {
			w.do(s.do)
			if got := transitions(&w.last); got != s.want && !w.quiet {
				t.Errorf("%s %s: %s: got\n%s\nwant\n%s", tt.mapping, tt.options, s.do, got, s.want)
			}
		}
	}
}

// TestSince: a status has the time of its last change, whatever else changes.
func TestSince(t *testing.T) {
	t.Parallel()
	const a = "10.0.0.1:1"
	w := newWorld(t, "8080="+a+",10.0.0.2:1", "agent=9100")
	for _, s := range []struct {
		do   string
		want time.Duration
		why  string
	}{
		{"agent " + a + " 50%", 0, "not checked yet"}, {"up " + a, 2, ""}, {"agent " + a + " maxconn:5", 2, ""},
		{"down " + a, 4, "refused"}, {"agent " + a + " down", 4, "agent: down"}, {"eject " + a, 4, "ejected: 0 failures in a row"},
		{"override " + a + " drain", 7, "override: drain"}, {"agent " + a + " maint", 8, "agent: maint"}, {"up " + a, 8, "agent: maint"},
	} {
		w.now += time.Second
		w.do(s.do)
		if r := w.state.rows[0]; !r.since.Equal(time.Unix(0, 0).Add(s.want*time.Second)) || r.why != s.why {
			t.Errorf("%s: since %v, %q; want %v, %q", s.do, r.since, r.why, s.want*time.Second, s.why)
		}
	}
}

// TestFirstChangeAfterBegin: what there was before is not news, though no plan was made at Begin.
func TestFirstChangeAfterBegin(t *testing.T) {
	t.Parallel()
	var reported reader
	r := played(Options{Log: zap.NewNop(), Checks: 1, OnTransition: reported.take})
	defer r.Close()
	r.names.watcher.Close()
	first, second := newService(t, r, parse(t, "8000=10.0.0.1:1", "health=off")), newService(t, r, parse(t, "8001=10.0.0.1:1", "health=off"))
	r.Set(t.Context(), new(cutter), desired(first, second))
	r.WaitFirst(t.Context())
	r.Begin(t.Context())
	drain := balancer.Drain
	if err := first.SetOverride(t.Context(), "10.0.0.1:1", Override{Admin: &drain}); err != nil {
		t.Fatal(err)
	}
	if got, want := reported.read(), "override 10.0.0.1:1 >drain, status 10.0.0.1:1 up>drain override: drain, status up>down"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	d := desired(first, second)
	d[1].Config = parse(t, "8001=10.0.0.1:1,10.0.0.2:1", "health=off")
	r.Set(t.Context(), new(cutter), d)
	r.flush(t.Context())
	if got, want := reported.read(), "added 10.0.0.2:1 >up not checked"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
