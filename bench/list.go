package main

import (
	"time"

	"usher/conntrack"
)

// flowList is the baseline of the connection table: flows one after the other,
// searched from the front. It is as fast as such a list can be. Keys lie side by side
// in memory, as do deadlines, and a search reads nothing else.
type flowList struct {
	keys      []conntrack.Key
	deadlines []time.Duration // by the index of their keys
	flows     []flowRow       // by the same index: other data of the flow
}

type flowRow = conntrack.Row[flowService, flowBackend]

func (l *flowList) insert(k conntrack.Key, s *flowService, now time.Duration) {
	l.keys = append(l.keys, k)
	l.deadlines = append(l.deadlines, never)
	l.flows = append(l.flows, flowRow{Key: k, Service: s, State: conntrack.Unreplied, Created: now, Touched: now})
}

// never is the deadline of a flow without one.
const never = time.Duration(1<<63 - 1)

// lookup returns the index of a key, or -1.
func (l *flowList) lookup(k conntrack.Key) int {
	for i := range l.keys {
		if l.keys[i] == k {
			return i
		}
	}
	return -1
}

// remove moves the last flow to the place of the removed one.
func (l *flowList) remove(i int) {
	last := len(l.keys) - 1
	l.keys[i], l.deadlines[i], l.flows[i] = l.keys[last], l.deadlines[last], l.flows[last]
	l.keys, l.deadlines, l.flows = l.keys[:last], l.deadlines[:last], l.flows[:last]
}

// expire calls fire for each flow whose deadline has passed. fire may set a new
// deadline.
func (l *flowList) expire(now time.Duration, fire func(i int)) {
	for i, at := range l.deadlines {
		if at <= now {
			fire(i)
		}
	}
}
