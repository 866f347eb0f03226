package flow

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestQueueEqualsAList drives a queue and a plain list of who waits in which order.
func TestQueueEqualsAList(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	rnd := rand.New(rand.NewPCG(seed, 0))
	var q queue
	const most = 20
	var line, lookers []*ticket // in order; those that were woken
	drop := func(list []*ticket, x *ticket) []*ticket {
		return slices.DeleteFunc(list, func(o *ticket) bool { return o == x })
	}
	for step := range 50_000 {
		switch op := rnd.IntN(10); {
		case op < 4: // a client comes
			x := new(ticket)
			x.wake = func() {
				line = drop(line, x)
				lookers = append(lookers, x)
			}
			back := rnd.IntN(4) == 0
			place, look := q.enter(x, back, most)
			if want := back || len(line)+len(lookers) < 20; place != want {
				t.Fatalf("step %d: place %v with %d in line and %d looking", step, place, len(line), len(lookers))
			}
			switch {
			case place && look:
				lookers = append(lookers, x)
			case place:
				line = append(line, x)
			}
		case op < 7: // there is room
			first, n := (*ticket)(nil), len(lookers)
			if len(line) > 0 {
				first = line[0]
			}
			q.wake()
			if first != nil && (len(lookers) != n+1 || lookers[n] != first) {
				t.Fatalf("step %d: the first in line was not woken", step)
			}
		case op < 9 && len(lookers) > 0: // somebody has looked
			x := lookers[rnd.IntN(len(lookers))]
			if rnd.IntN(2) == 0 {
				lookers = drop(lookers, x)
				q.leave(x, true)
			} else if q.stay(x) {
				lookers = drop(lookers, x)
				line = slices.Insert(line, 0, x)
			}
		case len(line) > 0: // somebody goes
			x := line[rnd.IntN(len(line))]
			line = drop(line, x)
			q.leave(x, false)
		}
		if n := int(q.n.Load()); n != len(line)+len(lookers) {
			t.Fatalf("step %d: %d in the queue, want %d and %d", step, n, len(line), len(lookers))
		}
		if err := q.CheckInvariants(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		for i, x := range line {
			if q.closed(x) != (i > 0) {
				t.Fatalf("step %d: closed to number %d in line: %v", step, i, q.closed(x))
			}
		}
		i := 0
		for x := q.first; x != nil; x = x.next {
			if i >= len(line) || line[i] != x {
				t.Fatalf("step %d: the line differs at %d", step, i)
			}
			i++
		}
		if i != len(line) {
			t.Fatalf("step %d: %d in line, want %d", step, i, len(line))
		}
	}
}

// TestRoomIsNotMissed: a client that found no room looks again if room came while it looked.
func TestRoomIsNotMissed(t *testing.T) {
	t.Parallel()
	q, x := new(queue), new(ticket)
	if place, look := q.enter(x, false, 9); !place || !look {
		t.Fatal("the first client does not look")
	}
	q.wake()
	if q.stay(x) {
		t.Error("the client stands in line although room has come")
	}
	if !q.stay(x) {
		t.Error("the client looks for ever")
	}
}

// TestRoomIsNotMissedByTheNext: room that came while another one was looking and nobody
// was in line is there for who comes then.
func TestRoomIsNotMissedByTheNext(t *testing.T) {
	t.Parallel()
	q, first, second := new(queue), new(ticket), new(ticket)
	q.enter(first, false, 9)
	q.wake()
	if place, look := q.enter(second, false, 9); !place || !look {
		t.Error("the second client does not look although there is room")
	}
}

// TestLookerThatGoesPassesItsChanceOn: a woken client that has gone must not take the
// room with it.
func TestLookerThatGoesPassesItsChanceOn(t *testing.T) {
	t.Parallel()
	woken := 0
	q, first, second := new(queue), &ticket{wake: func() {}}, &ticket{wake: func() { woken++ }}
	q.enter(first, false, 9)
	q.stay(first)
	q.enter(second, false, 9)
	q.wake()
	q.leave(first, false)
	if woken != 1 {
		t.Errorf("the second client was woken %d times, want once", woken)
	}
}

// TestNewRoomIsPassedOn: who finds room without having been woken by the end of a flow
// has the next one look, and so on; the end of one flow is room for one.
func TestNewRoomIsPassedOn(t *testing.T) {
	t.Parallel()
	q, woken := new(queue), 0
	var all [5]*ticket
	for i := range all {
		all[i] = &ticket{wake: func() { woken++ }}
		q.enter(all[i], false, 9)
		q.stay(all[i])
	}
	q.wake()
	q.leave(all[0], true)
	if woken != 1 {
		t.Errorf("the end of one flow woke %d", woken)
	}
	for i := 1; i < len(all); i++ { // the second looks by itself
		q.leave(all[i], true)
		if want := min(i+1, len(all)-1); woken != want {
			t.Errorf("after number %d was served %d had been woken, want %d", i, woken, want)
		}
	}
}
