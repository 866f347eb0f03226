package health

// Tracker is the rise/fall state machine of one target: a run of rise good
// results in a row brings it up, a run of fall bad ones takes it down.
// Results that agree with the present state end the other run, so a target
// that flaps faster than its thresholds stays where it is.
//
// A Tracker is not safe for concurrent use.
type Tracker struct {
	rise, fall int
	known, up  bool
	against    int // results in a row that contradict up; below rise or fall
}

// NewTracker returns a Tracker that has seen nothing. Thresholds below 1
// count as 1.
func NewTracker(rise, fall int) Tracker {
	return Tracker{rise: max(rise, 1), fall: max(fall, 1)}
}

// Observe takes in one result. It returns the state after it, and whether
// that is news: the first result decides alone and is always news.
func (t *Tracker) Observe(ok bool) (up, changed bool) {
	if !t.known {
		t.known, t.up = true, ok
		return ok, true
	}
	if ok == t.up {
		t.against = 0
		return t.up, false
	}
	need := t.rise
	if t.up {
		need = t.fall
	}
	t.against++
	if t.against < need {
		return t.up, false
	}
	t.up, t.against = ok, 0
	return t.up, true
}

// Known reports whether there has been a result.
func (t *Tracker) Known() bool { return t.known }

// Up is the state, false before the first result.
func (t *Tracker) Up() bool { return t.up }

// Changing reports whether a run of results contradicts the state, and has not been
// long enough to change it.
func (t *Tracker) Changing() bool { return t.against > 0 }
