package app

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/balancer"
	"usher/internal/config"
	"usher/proxy"
)

// Plans and how they meet: what was cut, and when.
func TestCuts(t *testing.T) {
	t.Parallel()
	const s = time.Second
	type step struct {
		at    time.Duration
		do    string // a cause, - and a cause that has gone, or close
		how   string
		after time.Duration
	}
	for _, tt := range []struct {
		steps []step
		want  string
	}{
		{[]step{{0, "down", "reset", 0}}, "reset at 0s"},
		{[]step{{0, "down", "keep", 0}, {s, "removed", "keep", 0}}, ""},
		{[]step{{0, "down", "fin", 5 * s}}, "fin at 5s"},
		{[]step{{0, "down", "fin", 5 * s}, {4 * s, "-down", "", 0}}, ""},
		{[]step{{0, "down", "fin", 5 * s}, {4 * s, "down", "fin", 5 * s}}, "fin at 5s"},
		{[]step{{0, "down", "reset", 60 * s}, {s, "removed", "fin", s}}, "fin at 2s"},
		{[]step{{0, "down", "reset", 10 * s}, {s, "removed", "fin", 60 * s}}, "fin at 1m1s"},
		{[]step{{0, "down", "reset", 10 * s}, {s, "removed", "keep", 0}}, "reset at 10s"},
		{[]step{{0, "removed", "reset", 10 * s}, {s, "-down", "", 0}}, "reset at 10s"},
		{[]step{{0, "removed", "reset", 10 * s}, {s, "down", "fin", s}}, "reset at 10s"},
		{[]step{{0, "down", "reset", 10 * s}, {s, "ordered", "fin", s}, {3 * s, "-down", "", 0}}, "fin at 2s"},
		{[]step{{0, "down", "reset", 10 * s}, {s, "ordered", "fin", 5 * s}, {3 * s, "-ordered", "", 0}}, "reset at 10s"},
		{[]step{{0, "agent", "reset", 10 * s}, {s, "down", "reset", 3 * s}, {2 * s, "-down", "", 0}}, "reset at 10s"},
		{[]step{{0, "ordered", "reset", 10 * s}, {s, "agent", "reset", s}, {s, "removed", "fin", 20 * s}}, "fin at 21s"},
		{[]step{{0, "removed", "reset", 10 * s}, {s, "close", "", 0}, {2 * s, "down", "fin", s}}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			var got []string
			b := new(balancer.Backend)
			c := newCuts(func(_ *balancer.Backend, how proxy.Cut) {
				got = append(got, fmt.Sprint(how, " at ", time.Since(begin)))
			})
			for _, x := range tt.steps {
				time.Sleep(time.Until(begin.Add(x.at)))
				of := map[string]cause{"down": checkDown, "agent": agentDown, "ordered": ordered, "removed": removal}
				gone, over := strings.CutPrefix(x.do, "-")
				switch {
				case over:
					c.spare(b, of[gone])
				case x.do == "close":
					c.close()
				default:
					c.plan(b, config.Cut{How: x.how, After: x.after}, of[x.do])
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("%v: cut %q, want %q", tt.steps, got, tt.want)
			}
			c.close()
		})
	}
}
