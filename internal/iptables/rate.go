package iptables

import (
	"fmt"
	"strings"
	"time"

	"usher/proxy/limit"
)

// periods are the units of a rate, the shortest first.
var periods = []struct {
	name   string
	length time.Duration
}{
	{"second", time.Second}, {"minute", time.Minute}, {"hour", time.Hour}, {"day", 24 * time.Hour},
}

// parseRate reads a number of events in a unit of time, which may be cut short; without one it is a second. most bounds
// the events of a second. unit is the one that was written. The rate is in the shortest unit in which it is whole.
func parseRate(text string, most int) (rate limit.Rate, unit time.Duration, ok bool) {
	count, word, hasUnit := strings.Cut(text, "/")
	n, err := parseNumber(count, 1, uint64(most)*86400)
	if err != nil || hasUnit && word == "" {
		return rate, 0, false
	}
	unit = time.Second
	if hasUnit {
		if unit = parseUnit(word); unit == 0 {
			return rate, 0, false
		}
	}
	events := int64(n)
	rate.Events, rate.Per = int(events), unit
	for _, p := range periods {
		if p.length < unit && events%int64(unit/p.length) == 0 {
			rate.Events, rate.Per = int(events/int64(unit/p.length)), p.length
			break
		}
	}
	return rate, unit, true
}

// parseUnit returns the unit that begins with a word, or 0.
func parseUnit(word string) time.Duration {
	for _, p := range periods {
		if len(word) <= len(p.name) && strings.EqualFold(word, p.name[:len(word)]) {
			return p.length
		}
	}
	return 0
}

// isTooFast reports whether there are more than most events in a second.
func isTooFast(r limit.Rate, most int) bool {
	return int64(r.Events) > int64(most)*int64(r.Per/time.Second)
}

func formatRate(r limit.Rate) string {
	unit := "sec"
	switch r.Per {
	case time.Minute:
		unit = "min"
	case time.Hour:
		unit = "hour"
	case 24 * time.Hour:
		unit = "day"
	}
	return fmt.Sprintf("%d/%s", r.Events, unit)
}
