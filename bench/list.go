package main

import (
	"time"

	"usher/conntrack"
)

// flowList is what the connection table is measured against: flows one after the other,
// searched from the front. It is as quick as such a list can be made: keys lie side by
// side in memory, as do deadlines, and a search reads nothing else.
type flowList struct {
	keys      []conntrack.Key
	deadlines []time.Duration // by the index of their keys
	flows     []flowRow       // likewise: what else is known of them
}

type flowRow = conntrack.Row[flowService, flowBackend]

func (l *flowList) insert(k conntrack.Key, s *flowService, now time.Duration) {
	l.keys = append(l.keys, k)
	l.deadlines = append(l.deadlines, never)
	l.flows = append(l.flows, flowRow{Key: k, Service: s, State: conntrack.Unreplied, Created: now, Touched: now})
}

// never is the deadline of a flow that has none.
const never = time.Duration(1<<63 - 1)

// lookup returns the index of a key, -1 if there is none.
func (l *flowList) lookup(k conntrack.Key) int {
	for i := range l.keys {
		if l.keys[i] == k {
			return i
		}
	}
	return -1
}

// remove puts the last flow in the place of the one that goes.
func (l *flowList) remove(i int) {
	last := len(l.keys) - 1
	l.keys[i], l.deadlines[i], l.flows[i] = l.keys[last], l.deadlines[last], l.flows[last]
	l.keys, l.deadlines, l.flows = l.keys[:last], l.deadlines[:last], l.flows[:last]
}

// expire looks at all deadlines and calls fire for those that have passed, which may
// set them anew.
func (l *flowList) expire(now time.Duration, fire func(i int)) {
	for i, at := range l.deadlines {
		if at <= now {
			fire(i)
		}
	}
}
