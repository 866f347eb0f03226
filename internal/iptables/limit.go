package iptables

import (
	"fmt"
	"strings"
	"time"

	"usher/proxy/limit"
	"usher/proxy/rules"
)

const (
	// maxLimit is the highest rate of -m limit, a second.
	maxLimit      = 10_000
	maxLimitBurst = 10_000
	defaultBurst  = 5
)

func newLimit() *extension {
	m := &rules.Limit{Rate: limit.Rate{Events: 3, Per: time.Hour, Burst: defaultBurst}}
	return &extension{match: m, flags: []flag{
		{names: []string{"--limit"}, set: func(v string, _ bool) *Error {
			r, _, ok := parseRate(v, maxLimit)
			switch {
			case !ok:
				return errorf("bad rate \"%s\"", v).advise("a rate is such as 10/second, 5/minute, 3/hour or 1/day")
			case isTooFast(r, maxLimit):
				return errorf("Rate too fast \"%s\"", v).advise("at most %d/second", maxLimit)
			}
			m.Rate.Events, m.Rate.Per = r.Events, r.Per
			return nil
		}},
		{names: []string{"--limit-burst"}, set: func(v string, _ bool) *Error {
			burst, err := parseNumber(v, 1, maxLimitBurst)
			if err != nil {
				return errorf("limit: bad value for option \"--limit-burst\", or out of range (1-%d).", maxLimitBurst).withBlank()
			}
			m.Rate.Burst = int(burst)
			return nil
		}},
	}}
}

func saveLimit(b *strings.Builder, m *rules.Limit) {
	b.WriteString(" -m limit --limit " + formatRate(m.Rate))
	if m.Rate.Burst != defaultBurst {
		fmt.Fprintf(b, " --limit-burst %d", m.Rate.Burst)
	}
}

func listLimit(b *strings.Builder, m *rules.Limit) {
	fmt.Fprintf(b, " limit: avg %s burst %d", formatRate(m.Rate), m.Rate.Burst)
}
