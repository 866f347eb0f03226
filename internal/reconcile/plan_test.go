package reconcile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/balancer"
)

// step is something that happens, and what is logged and ends for it.
type step struct{ do, want string }

// TestPlan follows stories: each change is logged once, its reason first, then flows end for it, then it is said whether
// the service has a backend.
func TestPlan(t *testing.T) {
	t.Parallel()
	const (
		a, b    = "10.0.0.1:1", "10.0.0.2:1"
		two     = "8080=" + a + "," + b
		isDown  = "backend down " + a + " refused"
		bDown   = "backend down " + b + " refused"
		allOpen = "all backends of service 8080 are down clients are sent to them anyway, as --fail open says"
		again   = "service 8080 has a backend again"
	)
	for _, tt := range []struct {
		name, mapping, options string
		steps                  []step
	}{
		{"checks", two, "", []step{
			{"up " + a, ""}, {"up " + a, ""}, {"down " + b, bDown}, {"down " + b, ""}, {"down " + a, isDown + "; " + allOpen},
			{"up " + b, "backend up " + b + "; " + again}, {"down " + b, bDown + "; " + allOpen}, {"up " + a, "backend up " + a + "; " + again},
			{"up " + b, "backend up " + b}, {"down gone", ""},
		}},
		{"agents", two, "agent=9100 health=off", []step{
			{"agent " + a + " up ready 70%", ""}, {"agent " + a + " drain", "agent: drain, no new clients " + a}, {"agent " + a + " drain", ""},
			{"agent " + a + " maint 10%", "agent: maintenance " + a},
			{"agent " + b + " drain", "agent: drain, no new clients " + b + "; no backend of service 8080 is in service clients are refused"},
			{"agent " + b + " ready", "agent: ready " + b + "; " + again},
			{"agent " + b + " down#disk full", "agent: down " + b + " disk full; " + allOpen},
			{"agent " + b + " up", "agent: no longer down " + b + "; " + again},
			{"agent " + b + " sideways", "agent said an unknown word " + b + " sideways"}, {"agent " + b + " sideways or so", ""},
		}},
		{"a name that may still bring a backend", "8080=a.test:1,b.test:1,127.0.0.1:1@0", "", []step{
			{"name a.test", ""}, {"name b.test 10.0.0.1", ""}, {"down " + a, isDown + "; " + allOpen},
			{"name b.test", "all backends of service 8080 are down none has an address, clients are refused"},
			{"name a.test 10.0.0.2", ""}, {"up " + b, again}, {"up 127.0.0.1:1", ""}, {"down " + b, bDown + "; " + allOpen},
		}},
		{"a start", "8080=a.test:1,b.test:1", "quiet", []step{
			{"name a.test 0.0.0.0", ""}, {"name b.test 10.0.0.1", ""}, {"down " + a, ""}, {"", ""},
			{"begin", "backend left out a.test:1 resolves to 0.0.0.0, which cannot be connected to; " + isDown + "; " + allOpen}, {"", ""},
		}},
		{"left out", "8080=x.test:1", "health=off", []step{
			{"name x.test 0.0.0.0 ::", "backend left out x.test:1 resolves to 0.0.0.0, which cannot be connected to; " +
				"backend left out x.test:1 resolves to ::, which cannot be connected to; " +
				"all backends of service 8080 are down none has an address, clients are refused"},
			{"name x.test 10.0.0.1 0.0.0.0", again}, {"name x.test 10.0.0.1", ""},
			{"name x.test 10.0.0.1 ::", "backend left out x.test:1 resolves to ::, which cannot be connected to"},
		}},
		{"outliers", two, "eject=3 health=off", []step{
			{"eject " + a, "backend ejected: flow after flow failed there " + a}, {"", ""}, {"readmit " + a, "backend readmitted " + a}, {"", ""},
		}},
		{"refusals", "udp:8080=" + a + "," + b, "health=off", []step{
			{"eject " + a, "backend refuses datagrams, which go to others " + a}, {"readmit " + a, ""}, {"eject " + a, ""},
			{"wait 1s", ""}, {"readmit " + a, ""}, {"live " + a, "backend answers again " + a}, {"live " + a, ""},
			{"eject " + a, ""}, {"readmit " + a, ""}, {"live " + a, ""}, {"wait 9s", ""},
			{"eject " + a, "backend refuses datagrams, which go to others " + a},
		}},
		{"overrides", two, "health=off agent=9100 on-drain=reset,5s", []step{
			{"override " + a + " drain", "override: drain, no new clients " + a}, {"wait 5s", a + " reset"},
			{"override " + a + " maint", "override: maintenance " + a}, {"agent " + a + " ready", ""},
			{"override " + b + " maint", "override: maintenance " + b + "; no backend of service 8080 is in service clients are refused"},
			{"override " + b + " ready", "override taken back " + b + " maint; " + again}, {"wait 5s", ""},
			{"override " + a + " @0", "override: weight " + a + " 0"},
			{"override " + b + " @0", "override: weight " + b + " 0; all backends of service 8080 have weight 0 clients are refused"},
			{"override " + b + " clear", "override taken back " + b + " weight=0; " + again},
			{"override " + a + " clear", "override taken back " + a + " maint; override taken back " + a + " weight=0"},
		}},
		{"overrides that end", two, "health=off", []step{
			{"override " + a + " drain 5s", "override: drain, no new clients " + a + " 5s"},
			{"override " + a + " @9 3s", "override: weight " + a + " 9 3s"}, {"wait 2s", ""},
			{"wait 1s", "override ended " + a + " weight=9"}, {"wait 1s", ""},
			{"override " + a + " drain 1m", "override: drain, no new clients " + a + " 1m"},
			{"wait 59s", ""}, {"wait 1s", "override ended " + a + " drain"}, {"wait 1h", ""},
		}},
		{"overrides of a name", "8080=x.test:1," + b, "health=off", []step{
			{"override x.test:1 drain 10s", "override: drain, no new clients x.test:1 10s"},
			{"name x.test 10.0.0.1", "override: drain, no new clients " + a + " 10s"},
			{"override " + a + " @3", "override: weight " + a + " 3"},
			{"name x.test 10.0.0.3", "override: drain, no new clients 10.0.0.3:1 10s"},
			{"name x.test 10.0.0.1", "override: drain, no new clients " + a + " 10s; override: weight " + a + " 3"},
			{"override " + a + " ready", ""}, {"wait 10s", "override ended " + a + " drain"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			options, quiet := strings.CutSuffix(tt.options, "quiet")
			w := newWorld(t, tt.mapping, strings.Fields(options)...)
			if quiet {
				w.quiet, w.state = true, state{}
			}
			for _, s := range tt.steps {
				if got := w.do(s.do); got != s.want {
					t.Errorf("%s: got\n%s\nwant\n%s", s.do, got, s.want)
				}
			}
		})
	}
}

// TestPlanTerminations: which flows end, and when.
func TestPlanTerminations(t *testing.T) {
	t.Parallel()
	const a = "10.0.0.1:1"
	for _, tt := range []struct {
		options string
		steps   string // commands, each after a second
		want    string
	}{
		{"on-down=reset", "down", "reset at 1s"},
		{"on-down=keep", "down;gone", ""},
		{"on-down=fin,5s", "down", "fin at 6s"},
		{"on-down=fin,5s", "down;;;;up", ""},
		{"on-down=fin,5s", "down;;;down", "fin at 6s"},
		{"on-down=fin,5s", "down;;;up;down", "fin at 10s"},
		{"on-down=reset,60s on-remove=fin,1s", "down;gone", "fin at 3s"},
		{"on-down=reset,10s on-remove=fin,60s", "down;gone", "fin at 1m2s"},
		{"on-down=reset,10s on-remove=keep", "down;gone", "reset at 11s"},
		{"on-down=reset,10s on-remove=keep", "down;gone;back", "reset at 11s"},
		{"on-remove=reset,10s", "gone;back", "reset at 11s"},
		{"on-remove=reset", "gone", "reset at 1s"},
		{"on-down=reset,10s on-drain=fin,1s", "down;drain;;up", "fin at 3s"},
		{"on-down=reset,10s on-drain=fin,5s", "down;drain;;ready", "reset at 11s"},
		{"on-drain=fin,1h", "drain;maint;ready", ""},
		{"on-down=reset,10s", "sick;down;up", "reset at 11s"},
		{"on-drain=fin", "drain;maint;drain;ready;drain", "fin at 1s, fin at 5s"},
	} {
		w := newWorld(t, "8080=x.test:1,10.0.0.9:1", append(strings.Fields(tt.options), "agent=9100")...)
		w.do("name x.test 10.0.0.1")
		var got []string
		run := func(command string) {
			t.Helper()
			w.do(command)
			for _, end := range w.last.terminations {
				if end.backend.String() != a {
					continue
				}
				got = append(got, fmt.Sprint(end.how, " at ", w.now))
			}
		}
		for _, command := range strings.Split(tt.steps, ";") {
			w.now += time.Second
			run(map[string]string{
				"": "", "down": "down " + a, "up": "up " + a, "gone": "name x.test 10.0.0.7", "back": "name x.test 10.0.0.1",
				"drain": "agent " + a + " drain", "maint": "agent " + a + " maint", "ready": "agent " + a + " ready",
				"sick": "agent " + a + " down", "well": "agent " + a + " up",
			}[command])
		}
		for w.last.next > 0 {
			if w.last.next <= w.now {
				t.Fatalf("%+v: at %v due at %v", tt, w.now, w.last.next)
			}
			w.now = w.last.next
			run("")
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
		if len(w.state.removed) > 0 {
			t.Errorf("%+v: %d removed backends are held", tt, len(w.state.removed))
		}
	}
}

// TestPlanSpecs: what a backend is after each word of a check, an agent or an operator.
func TestPlanSpecs(t *testing.T) {
	t.Parallel()
	const a = "10.0.0.1:1"
	w := newWorld(t, "8080=10.0.0.1:1@3,10.0.0.2:1", "agent=9100")
	w.service.Backends[0].Limits = balancer.Limits{Max: 50, Upper: 40, Lower: 20}
	for _, s := range []step{
		{"", "@3 unknown 50 40 20"},
		{"agent " + a + " 50%", "@3*50 unknown 50 40 20"},
		{"up " + a, "@3*50 up 50 40 20"},
		{"agent " + a + " drain 100%", "@3*100 drain 50 40 20"},
		{"agent " + a + " maxconn:30", "@3*100 drain 30 30 20"},
		{"down " + a, "@3*100 drain 30 30 20"},
		{"agent " + a + " ready", "@3*100 down 30 30 20"},
		{"agent " + a + " up", "@3*100 down 30 30 20"}, // the check still fails
		{"agent " + a + " down", "@3*100 down 30 30 20"},
		{"up " + a, "@3*100 down 30 30 20"}, // the agent still says so
		{"agent " + a + " maint", "@3*100 maint 30 30 20"},
		{"agent " + a + " up ready 1%", "@3*1 up 30 30 20"},
		{"agent " + a + " 0%", "@0 up 30 30 20"},
		{"agent " + a + " 200% maxconn:10", "@3*200 up 10 10 10"},
		{"override " + a + " @7", "@7 up 10 10 10"},
		{"override " + a + " drain", "@7 drain 10 10 10"},
		{"agent " + a + " maint", "@7 maint 10 10 10"},
		{"agent " + a + " ready maxconn:0", "@7 drain 0 40 20"},
		{"override " + a + " ready", "@7 up 0 40 20"},
		{"agent 10.0.0.9:1 down", "@7 up 0 40 20"}, // nobody's
		{"agent 10.0.0.2:1 down", "@7 up 0 40 20"}, // somebody else's
		{"eject " + a, "@7 down 0 40 20"},
	} {
		w.do(s.do)
		spec := w.last.rows[0].spec
		got := fmt.Sprintf("@%d*%d %s %d %d %d", spec.Weight, spec.Share, spec.Status(), spec.Limits.Max, spec.Limits.Upper, spec.Limits.Lower)
		if got = strings.Replace(got, "*0", "", 1); got != s.want {
			t.Errorf("%s: got %s, want %s", s.do, got, s.want)
		}
	}
}

// TestPlanForgets: a backend that comes back is not what it was, and neither is one whose agent is another one.
func TestPlanForgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "8080=db.test:1", "agent=9100")
	w.do("name db.test 10.0.0.1")
	w.do("down 10.0.0.1:1")
	w.do("agent 10.0.0.1:1 maint 50%")
	w.do("name db.test 10.0.0.2")
	w.do("agent 10.0.0.1:1 drain") // asked before
	w.do("down 10.0.0.1:1")
	w.do("name db.test 10.0.0.1")
	if got := table(w.pool); got != "10.0.0.1:1@1 unknown" {
		t.Errorf("come back: %s", got)
	}
	if n := len(w.seen.agents) + len(w.seen.checks) + len(w.state.rows); n != 3 {
		t.Errorf("%d things are held of one backend", n)
	}
	// Of two words for one backend the first says all.
	for _, tt := range []struct{ first, second, want string }{
		{"10.0.0.1:80", "db.test:80,check=81", "10.0.0.1:80"},
		{"db.test:80,check=81", "10.0.0.1:80", "10.0.0.1:81"},
		{"db.test:80,check=81", "10.0.0.1:80,check=10.0.0.9:82", "10.0.0.1:81"},
	} {
		first, second := parse(t, "8080="+tt.first), parse(t, "8080="+tt.second)
		w := newWorld(t, "8080=10.0.0.1:80")
		w.service.Backends = append(first.Backends, second.Backends...)
		w.do("name db.test 10.0.0.1")
		if got := w.target("10.0.0.1:80"); got.Address != tt.want || len(w.last.rows) != 1 {
			t.Errorf("%s and %s: checked at %v, want %s", tt.first, tt.second, got, tt.want)
		}
	}
}

// TestPlanTargets: where backends are checked and their agents asked.
func TestPlanTargets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mapping, options string
		do               []string
		checks, agents   string
	}{
		{"8000-8009=10.0.0.1:5000-5009,[fd00::1],unix:///run/x.sock,agent=[::1]:6,db.test:1", "agent=9100", nil,
			"10.0.0.1:5000-5009 tcp 10.0.0.1:5000, [fd00::1] tcp [fd00::1]:8000, unix:///run/x.sock unix /run/x.sock",
			"10.0.0.1:9100, [::1]:6, [fd00::1]:9100"},
		{"8000=db.test:80,10.0.0.2:80", "agent=9100", []string{"name db.test fd00::1"},
			"10.0.0.2:80 tcp 10.0.0.2:80, [fd00::1]:80 tcp [fd00::1]:80", "10.0.0.2:9100, [fd00::1]:9100"},
		{"udp:5353=10.0.0.1:53,[fd00::1]", "health=tcp", nil, "10.0.0.1:53 tcp 10.0.0.1:53, [fd00::1] tcp [fd00::1]:5353", ""},
		{"udp:5353=10.0.0.1:53,[fd00::1]", "health=udp", nil, "10.0.0.1:53 udp 10.0.0.1:53, [fd00::1] udp [fd00::1]:5353", ""},
		{"udp:5353=10.0.0.1:53,[fd00::1]", "health=dns:a.com", nil, "10.0.0.1:53 udp 10.0.0.1:53, [fd00::1] udp [fd00::1]:5353", ""},
		// Nobody sends datagrams to name servers far away by default, unless one has refused a flow: then it is known that
		// silence is a good answer.
		{"udp:5353=10.0.0.1:53,10.0.0.2:53,127.0.0.1:5300", "", nil, "127.0.0.1:5300 udp 127.0.0.1:5300", ""},
		{"udp:5353=10.0.0.1:53,10.0.0.2:53,127.0.0.1:5300", "", []string{"eject 10.0.0.2:53", "readmit 10.0.0.2:53"},
			"10.0.0.2:53 udp 10.0.0.2:53, 127.0.0.1:5300 udp 127.0.0.1:5300", ""},
		{"8000=10.0.0.1:1", "health=off", nil, "", ""},
	} {
		w := newWorld(t, tt.mapping, strings.Fields(tt.options)...)
		for _, command := range tt.do {
			w.do(command)
		}
		var checks, agents []string
		for _, r := range w.last.rows {
			if r.check != nil {
				checks = append(checks, r.check.Name+" "+r.check.Network+" "+r.check.Address)
			}
			if r.agent != nil {
				agents = append(agents, r.agent.Address)
			}
		}
		slices.Sort(checks)
		slices.Sort(agents)
		if got := strings.Join(checks, ", "); got != tt.checks {
			t.Errorf("%s %s: checks\n%s\nwant\n%s", tt.mapping, tt.options, got, tt.checks)
		}
		if got := strings.Join(agents, ", "); got != tt.agents {
			t.Errorf("%s %s: agents %s, want %s", tt.mapping, tt.options, got, tt.agents)
		}
		for _, b := range w.pool.Backends() {
			if w.service.Health.Kind == "auto" && !strings.HasPrefix(b.String(), "127.") && b.Status() != balancer.Up {
				t.Errorf("%s: %s without a check is %s", tt.mapping, b, b.Status())
			}
		}
	}
	w := newWorld(t, "8000=10.0.0.1:80,10.0.0.2:80", "agent=9100")
	w.own["10.0.0.1:80"], w.own["10.0.0.2:9100"] = true, true
	want := "backend is not checked 10.0.0.1:80 is a listener; agent is not asked 10.0.0.2:9100 is a listener"
	if got := w.do(""); got != want || table(w.pool) != "10.0.0.1:80@1 up, 10.0.0.2:80@1 unknown" {
		t.Errorf("got %s; %s", got, table(w.pool))
	}
}

// TestPlanProperty: whatever happens in whatever order, the same end makes the same pool; a plan that is carried out leaves
// nothing to do; and up and down are logged by turns.
func TestPlanProperty(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		options := []string{"agent=9100", "on-down=reset,3s", "on-drain=fin,5s", "on-remove=reset,2s", "eject=3"}
		one, other := newWorld(t, "8080=a.test:1,b.test:1,10.0.0.9:1", options...), newWorld(t, "8080=a.test:1,b.test:1,10.0.0.9:1", options...)
		isDown := make(map[string]bool)
		follow := func(events []string) {
			for _, e := range events {
				if b, is := strings.CutPrefix(e, "backend down "); is {
					b, _, _ = strings.Cut(b, " ")
					if isDown[b] {
						t.Errorf("%s is down twice", b)
					}
					isDown[b] = true
				}
				if b, is := strings.CutPrefix(e, "backend up "); is {
					if !isDown[b] {
						t.Errorf("%s is up without having been down", b)
					}
					delete(isDown, b)
				}
			}
		}
		for range 60 {
			one.observe(randomObservation(rnd))
			one.now += time.Duration(rnd.IntN(2)) * time.Second
			follow(one.reconcile())
			for b := range isDown { // what is gone is forgotten
				if one.target(b).Address == "" {
					delete(isDown, b)
				}
			}
			if again := one.reconcile(); len(again) > 0 || one.last.next > 0 && one.last.next <= one.now {
				t.Fatalf("a plan that was carried out leaves %q, next at %v of %v", again, one.last.next, one.now)
			}
		}
		// The other one learns in another order what holds in the end: first the names, then the rest of it.
		other.now, other.seen.overrides, other.ejected = one.now, maps.Clone(one.seen.overrides), one.ejected
		for host, records := range one.seen.names {
			nameAnswer(host, records)(&other.seen)
		}
		other.reconcile()
		for _, order := range rnd.Perm(2) {
			if order == 0 {
				maps.Copy(other.seen.checks, one.seen.checks)
			} else {
				maps.Copy(other.seen.agents, one.seen.agents)
			}
			other.reconcile()
		}
		if a, b := fmt.Sprint(specsOf(one)), fmt.Sprint(specsOf(other)); a != b {
			t.Fatalf("one order makes\n%s\nanother one\n%s", a, b)
		}
		if one.state.availability != other.state.availability {
			up := func(s balancer.Spec) bool { return s.Status() == balancer.Unknown && s.Weight > 0 }
			if !slices.ContainsFunc(specsOf(one), up) { // what is not known keeps what was said before
				t.Fatalf("one order says %d, another one %d of\n%v", one.state.availability, other.state.availability, specsOf(one))
			}
		}
	}
}

func specsOf(w *world) (specs []balancer.Spec) {
	for _, r := range w.state.rows {
		specs = append(specs, r.spec)
	}
	return specs
}

func randomObservation(rnd *rand.Rand) string {
	backend := fmt.Sprintf("10.0.0.%d:1", []int{1, 2, 3, 9}[rnd.IntN(4)])
	switch rnd.IntN(8) {
	case 0, 1:
		return "up " + backend
	case 2, 3:
		return "down " + backend
	case 4:
		return "agent " + backend + " " + []string{"drain", "maint", "ready", "up", "down", "0%", "10%", "maxconn:3"}[rnd.IntN(8)]
	case 5:
		return []string{"eject ", "readmit "}[rnd.IntN(2)] + backend
	case 6:
		return "override " + backend + " " + []string{"drain", "ready", "@2", "maint"}[rnd.IntN(4)]
	}
	addresses := []string{"", " 10.0.0.1", " 10.0.0.2", " 10.0.0.1 10.0.0.3", " 0.0.0.0"}
	return []string{"name a.test", "name b.test"}[rnd.IntN(2)] + addresses[rnd.IntN(len(addresses))]
}
