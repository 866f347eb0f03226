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
		do    string // down, removed, up, close
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
		{[]step{{0, "down", "fin", 5 * s}, {4 * s, "up", "", 0}}, ""},
		{[]step{{0, "down", "fin", 5 * s}, {4 * s, "down", "fin", 5 * s}}, "fin at 5s"},
		{[]step{{0, "down", "reset", 60 * s}, {s, "removed", "fin", s}}, "fin at 2s"},
		{[]step{{0, "down", "reset", 10 * s}, {s, "removed", "fin", 60 * s}}, "fin at 1m1s"},
		{[]step{{0, "down", "reset", 10 * s}, {s, "removed", "keep", 0}}, "reset at 10s"},
		{[]step{{0, "removed", "reset", 10 * s}, {s, "up", "", 0}}, "reset at 10s"},
		{[]step{{0, "removed", "reset", 10 * s}, {s, "down", "fin", s}}, "reset at 10s"},
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
				switch x.do {
				case "up":
					c.spare(b)
				case "close":
					c.close()
				default:
					c.plan(b, config.Cut{How: x.how, After: x.after}, x.do == "removed")
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
