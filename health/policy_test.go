package health_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"usher/health"
)

func middle() float64 { return 0.5 }

func seconds(n ...float64) []time.Duration {
	ds := make([]time.Duration, len(n))
	for i, s := range n {
		ds[i] = time.Duration(s * float64(time.Second))
	}
	return ds
}

// With randomness 0.5 the second check comes after half an interval, all others after a
// whole one, which depends on the state of the target.
func TestPolicyIntervals(t *testing.T) {
	t.Parallel()
	three := health.Policy{Interval: 10 * time.Second, DownInterval: 4 * time.Second, ChangeInterval: time.Second}
	one := health.Policy{Interval: 10 * time.Second}
	for _, tt := range []struct {
		name, script string
		policy       health.Policy
		want         []time.Duration
	}{
		{"falls and rises", "++---++", three, seconds(0, 5, 15, 16, 17, 21, 22, 32)},
		{"a bad one in between", "++-+", three, seconds(0, 5, 15, 16, 26)},
		{"down from the start", "-+-++", three, seconds(0, 2, 3, 7, 8, 18)},
		{"inconclusive, unknown", "??+", three, seconds(0, 5, 15, 25)},
		{"inconclusive, changing", "+-?--", three, seconds(0, 5, 6, 7, 8, 12)},
		{"inconclusive, down", "-?-", three, seconds(0, 2, 6, 10)},
		{"all the same", "++---++", one, seconds(0, 5, 15, 25, 35, 45)},
		{"down is the same", "-++", health.Policy{Interval: 10 * time.Second, ChangeInterval: time.Second}, seconds(0, 5, 6, 16)},
		{"change is the same", "+---", health.Policy{Interval: 10 * time.Second, DownInterval: time.Second}, seconds(0, 5, 15, 25, 26)},
		{"all by default", "+---", health.Policy{}, seconds(0, 1, 3, 5, 7)},
		{"interval by default", "+---", health.Policy{DownInterval: time.Second}, seconds(0, 1, 3, 5, 6)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				checker := &fake{answer: script(tt.script)}
				m := health.NewMonitorWithRandom(checker, tt.policy, func(health.Target, bool, error) {}, middle)
				defer m.Close()
				start := time.Now()
				m.Set(named("a"))
				time.Sleep(tt.want[len(tt.want)-1])
				synctest.Wait()
				var got []time.Duration
				for _, at := range checker.startsOf(named("a")[0]) {
					got = append(got, at.Sub(start))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("checks after %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// A Set that keeps a target neither ends its run of failures nor adds a check.
func TestMonitorSetKeepsARun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reports := log{t: t}
		checker := &fake{answer: script("+---")}
		m := health.NewMonitorWithRandom(checker, health.Policy{Interval: 10 * time.Second}, reports.report, middle)
		defer m.Close()
		for i := range 24 {
			m.Set(append(named("a"), numbered(i)...))
			time.Sleep(time.Second)
		}
		reports.expectOf("a", "a up")
		time.Sleep(2 * time.Second)
		reports.expectOf("a", "a up", "a down: sick")
		if n := len(checker.startsOf(named("a")[0])); n != 4 {
			t.Errorf("%d checks, want 4", n)
		}
	})
}

// expectOf is expect for the reports of one target.
func (l *log) expectOf(name string, want ...string) {
	l.t.Helper()
	var got []string
	for _, word := range l.words() {
		if len(word) > len(name) && word[:len(name)+1] == name+" " {
			got = append(got, word)
		}
	}
	if !slices.Equal(got, want) {
		l.t.Errorf("reports %q, want %q", got, want)
	}
}

// Monitors that share slots are bounded together; none starves.
func TestMonitorsShareSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slots := health.NewSlots(10)
		checker := &fake{cost: 100 * time.Millisecond}
		var monitors []*health.Monitor
		for i := range 5 {
			m := health.NewMonitor(checker, health.Policy{Interval: time.Second, Slots: slots}, func(health.Target, bool, error) {})
			defer m.Close()
			monitors = append(monitors, m)
			var targets []health.Target
			for j := range 40 {
				targets = append(targets, health.Target{Name: fmt.Sprint(i, "/", j)})
			}
			m.Set(targets)
		}
		time.Sleep(time.Minute)
		if _, most := checker.load(); most != 10 {
			t.Errorf("at most %d checks in flight, want exactly 10 under this load", most)
		}
		// 10 slots, 0.1 s a check: 6,000 in a minute, 30 for each of 200 targets.
		for i := range 5 {
			n := 0
			for j := range 40 {
				n += len(checker.startsOf(health.Target{Name: fmt.Sprint(i, "/", j)}))
			}
			if n < 40*20 {
				t.Errorf("the targets of monitor %d were checked %d times, want about 1200", i, n)
			}
		}
		// A monitor that is closed releases its slots.
		monitors[0].Close()
		monitors[1].Close()
		before := checker.reset()
		time.Sleep(time.Second)
		if _, most := checker.load(); most != 10 {
			t.Errorf("at most %d checks in flight, %d before, want exactly 10", most, before)
		}
	})
}
