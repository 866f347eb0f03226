package health

// tracker is the rise/fall state machine of one target, without clock or socket:
//
//	unknown ──first result──▶ up or down
//	down ──rise good results in a row──▶ up
//	up   ──fall bad results in a row───▶ down
//
// A result that agrees with the state ends the opposite run. So a target that flaps
// faster than its thresholds keeps its state. It is not safe for concurrent use.
type tracker struct {
	rise, fall    int // results in a row; below 1 counts as 1
	isKnown, isUp bool
	opposed       int // results in a row that contradict isUp; too few to change it
}

// observe takes one result and reports whether it changed the state. The first result
// always does.
func (t *tracker) observe(isGood bool) (hasChanged bool) {
	if !t.isKnown {
		t.isKnown, t.isUp = true, isGood
		return true
	}
	if isGood == t.isUp {
		t.opposed = 0
		return false
	}
	threshold := t.rise
	if t.isUp {
		threshold = t.fall
	}
	if t.opposed++; t.opposed < threshold {
		return false
	}
	t.isUp, t.opposed = isGood, 0
	return true
}
